//! Agents: which folder on which worker each has, what it works on, and whether it is stopped.
//!
//! Also registering agent types, since agents are instances of them. Whether a folder may be assigned is
//! for its worker to say (`mailbox`); whose turn it is, for the scripts.

use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::assignment::Assignment;
use maestro_model::ids::{AgentId, TaskId};

use crate::cell::{Reply, Store, decode};
use crate::error::{Refusal, StoreError};

/// What became of an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignAnswer {
    /// There was no such agent before.
    New,
    /// It was so already.
    Unchanged,
    /// It stays where it is, with another role or priority for what is submitted from now on.
    Changed,
    /// It had another folder, worker or type; what waits for it follows.
    Moved,
    /// It works at present and cannot be moved.
    Busy {
        /// What it works on.
        task: TaskId,
    },
}

/// How an agent is stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HoldOrder {
    /// Whether what it works on is killed without grace.
    pub kill: bool,
    /// Whether it starts again at once: what it works on goes back to its queue unburned, and a stop before
    /// this one is over. Otherwise what it works on is cancelled, and it stays stopped.
    pub then_restart: bool,
}

/// What a stop or restart found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldAnswer {
    /// What the agent works on, and has been told to end.
    pub running: Option<TaskId>,
    /// Whether it was stopped before.
    pub was_held: bool,
}

/// What became of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterAnswer {
    /// There was no such type before.
    New,
    /// There was another one of its slug; runs submitted before keep it.
    Changed,
    /// It was so already.
    Unchanged,
}

impl Store {
    /// Assigns an agent to a folder on a worker. `assigned_at_ms` and `held` are the cluster's business and
    /// passed over.
    ///
    /// # Errors
    /// `NotFound` if its type is not registered; `Paused`, `OutOfMemory`.
    pub async fn assign(&self, assignment: &Assignment) -> Result<AssignAnswer, StoreError> {
        let wanted = Assignment { assigned_at_ms: 0, held: None, ..assignment.clone() };
        let json = serde_json::to_string(&wanted).expect("an assignment is plain data");
        let value = self.eval("assign", |command| {
            command.arg(self.epoch()).arg(json);
        });
        let reply = Reply::read("assign", value.await?)?;
        match reply.word.as_str() {
            "NEW" => Ok(AssignAnswer::New),
            "SAME" => Ok(AssignAnswer::Unchanged),
            "CHANGED" => Ok(AssignAnswer::Changed),
            "MOVED" => Ok(AssignAnswer::Moved),
            "BUSY" => Ok(AssignAnswer::Busy { task: read_task(&reply.text(0)?)? }),
            "NOTYPE" => Err(StoreError::not_found(format!("agent type `{}`", wanted.agent_type))),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }

    /// All agents, by id.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn assignments(&self) -> Result<IndexMap<AgentId, Assignment>, StoreError> {
        let command = redis::cmd("HVALS").arg(self.keys().assignments()).to_owned();
        let stored: Vec<String> = decode("the agents", self.ask(&command).await?)?;
        let mut agents = IndexMap::new();
        for json in stored {
            let assignment = read_assignment(&json)?;
            agents.insert(assignment.id.clone(), assignment);
        }
        agents.sort_keys();
        Ok(agents)
    }

    /// One agent; none if there is none of that id.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn assignment(&self, id: &AgentId) -> Result<Option<Assignment>, StoreError> {
        let command = redis::cmd("HGET").arg(self.keys().assignments()).arg(id.as_str()).to_owned();
        let stored: Option<String> = decode("an agent", self.ask(&command).await?)?;
        stored.map(|json| read_assignment(&json)).transpose()
    }

    /// Stops an agent, or starts it again. `by` is for people.
    ///
    /// # Errors
    /// `NotFound` if there is no such agent; `Paused`.
    pub async fn hold_agent(
        &self,
        id: &AgentId,
        by: &str,
        order: HoldOrder,
    ) -> Result<HoldAnswer, StoreError> {
        self.order_agent(id, by, if order.then_restart { "restart" } else { "stop" }, order.kill).await
    }

    /// Lets a stopped agent go on; whether it was stopped is in the answer.
    ///
    /// # Errors
    /// As `hold_agent`.
    pub async fn release_agent(&self, id: &AgentId, by: &str) -> Result<HoldAnswer, StoreError> {
        self.order_agent(id, by, "release", false).await
    }

    async fn order_agent(
        &self,
        id: &AgentId,
        by: &str,
        order: &str,
        kill: bool,
    ) -> Result<HoldAnswer, StoreError> {
        let value = self.eval("agent_hold", |command| {
            command.arg(self.epoch()).arg(id.as_str()).arg(order).arg(u8::from(kill)).arg(by);
        });
        let reply = Reply::read("agent_hold", value.await?)?;
        match reply.word.as_str() {
            "OK" => {
                let task = reply.text(0)?;
                let running = (!task.is_empty()).then(|| read_task(&task)).transpose()?;
                Ok(HoldAnswer { running, was_held: reply.get::<u8>(1)? == 1 })
            }
            "NONE" => Err(StoreError::not_found(format!("agent `{id}`"))),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }

    /// What an agent works on at present: at most one task.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn agent_running(&self, id: &AgentId) -> Result<Option<TaskId>, StoreError> {
        let command = redis::cmd("SMEMBERS").arg(self.keys().agent_slots(id)).to_owned();
        let tasks: Vec<String> = decode("what an agent works on", self.ask(&command).await?)?;
        tasks.first().map(|task| read_task(task)).transpose()
    }

    /// What all of these agents work on at present, in one request.
    ///
    /// # Errors
    /// As `agent_running`.
    pub async fn agents_running(&self, ids: &[AgentId]) -> Result<IndexMap<AgentId, TaskId>, StoreError> {
        if ids.is_empty() {
            return Ok(IndexMap::new());
        }
        let mut pipeline = redis::pipe();
        for id in ids {
            pipeline.cmd("SMEMBERS").arg(self.keys().agent_slots(id));
        }
        let mut running = IndexMap::new();
        for (id, value) in ids.iter().zip(self.ask_all(&pipeline).await?) {
            let tasks: Vec<String> = decode("what an agent works on", value)?;
            if let Some(task) = tasks.first() {
                running.insert(id.clone(), read_task(task)?);
            }
        }
        Ok(running)
    }

    /// Registers an agent type in place of what goes by its slug. Runs that were submitted keep the type as
    /// it was then.
    ///
    /// # Errors
    /// `Paused`, `OutOfMemory`.
    pub async fn register_type(&self, agent: &AgentType) -> Result<RegisterAnswer, StoreError> {
        let json = serde_json::to_string(agent).expect("an agent type is plain data");
        let limit = agent.limits.max_concurrent.map(|limit| limit.to_string()).unwrap_or_default();
        let value = self.eval("register", |command| {
            command.arg(self.epoch()).arg(agent.slug.as_str()).arg(json).arg(limit);
        });
        let reply = Reply::read("register", value.await?)?;
        match reply.word.as_str() {
            "NEW" => Ok(RegisterAnswer::New),
            "CHANGED" => Ok(RegisterAnswer::Changed),
            "SAME" => Ok(RegisterAnswer::Unchanged),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }
}

pub(crate) fn read_assignment(json: &str) -> Result<Assignment, StoreError> {
    serde_json::from_str(json).map_err(|_| StoreError::unreadable("an agent", json))
}

fn read_task(text: &str) -> Result<TaskId, StoreError> {
    text.parse().map_err(|_| StoreError::unreadable("what an agent works on", text))
}
