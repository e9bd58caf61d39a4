//! Assigned agents in the played cluster: they are moved, stopped and started again, and what must hold.

use std::collections::{BTreeMap, BTreeSet};

use maestro_model::agent_type::AgentType;
use maestro_model::assignment::{ASSIGNMENT_VERSION, Assignment};
use maestro_model::ids::AgentId;
use maestro_model::task::TaskStatus;
use maestro_store::assignments::{AssignAnswer, HoldOrder};
use maestro_store::record::TaskRecord;
use maestro_store::{Refusal, StoreError};
use rand::Rng;

use super::delivery::unexpected;
use super::dump::Dump;
use super::operations::NAMES;
use super::plans::{AGENTS, BETA_LIMIT, TYPES};
use super::world::World;
use super::{Violation, hold};

/// The agent types of the played cluster, the second one limited.
pub fn agent_types() -> Vec<AgentType> {
    let limits = [None, Some(BETA_LIMIT)];
    let of = |(slug, limit): (&str, Option<usize>)| {
        let text = serde_json::json!({
            "slug": slug, "mode": slug, "command": ["true"], "limits": {"max_concurrent": limit},
        });
        serde_json::from_value(text).expect("a lawful type")
    };
    TYPES.into_iter().zip(limits).map(of).collect()
}

pub fn assignment(id: &str, agent_type: &str, worker: &str, path: u32) -> Assignment {
    Assignment {
        v: ASSIGNMENT_VERSION,
        id: id.parse().expect("a lawful id"),
        agent_type: agent_type.parse().expect("a lawful slug"),
        path: format!("/srv/{path}"),
        role: None,
        priority: None,
        worker: worker.parse().expect("a lawful name"),
        assigned_at_ms: 0,
        held: None,
    }
}

/// The agents that a dump shows.
pub fn agents_in(dump: &Dump) -> Result<BTreeMap<String, Assignment>, Violation> {
    let stored = dump.hash("assignments").into_iter().flatten();
    let read = |(id, json): (&String, &String)| {
        let agent = serde_json::from_str(json);
        Ok((id.clone(), agent.map_err(|error| Violation(format!("agent {id} is `{json}`: {error}")))?))
    };
    stored.map(read).collect()
}

/// What each agent works on, as the records say; `found` is what the cell keeps of it.
#[derive(Debug, Default)]
pub struct AgentsAtWork {
    by_records: BTreeMap<String, BTreeSet<String>>,
}

impl AgentsAtWork {
    /// Takes the record of a task into account that is for an agent.
    pub fn add(&mut self, agent: &AgentId, task: &str, record: &TaskRecord) {
        let held = matches!(record.status, TaskStatus::Running | TaskStatus::Cancelling);
        // A coordinator that expands the step is no agent at work.
        if held && record.owner.is_some() && !record.flags.contains('x') {
            self.by_records.entry(agent.to_string()).or_default().insert(task.to_owned());
        }
    }

    /// An agent works on one task at most, and the cell knows on which.
    pub fn check(&self, dump: &Dump) -> Result<(), Violation> {
        for (agent, tasks) in &self.by_records {
            hold!(tasks.len() == 1, "agent {agent} works on {tasks:?} at one time");
        }
        let slots = dump.sets.iter().filter_map(|(key, tasks)| Some((key.strip_prefix("slots:i:")?, tasks)));
        let found: BTreeMap<String, BTreeSet<String>> =
            slots.map(|(agent, tasks)| (agent.to_owned(), tasks.clone())).collect();
        hold!(found == self.by_records, "agents work on {:?}, kept is {found:?}", self.by_records);
        Ok(())
    }
}

impl World {
    /// Registers the types and gives each agent its first folder.
    pub async fn set_agents_up(&mut self) -> Result<(), Violation> {
        for agent_type in agent_types() {
            let sent = self.store.register_type(&agent_type).await;
            sent.map_err(|error| unexpected("registering a type failed", error))?;
        }
        for ((id, of), name) in AGENTS.into_iter().zip(NAMES) {
            self.assign(assignment(id, of, name, 0)).await?;
        }
        Ok(())
    }

    /// Somebody moves an agent, or tries to.
    pub async fn op_assign(&mut self) -> Result<(), Violation> {
        let (id, of) = AGENTS[self.die.random_range(0..AGENTS.len())];
        let name = NAMES[self.die.random_range(0..NAMES.len())];
        let path = self.die.random_range(0..2);
        self.assign(assignment(id, of, name, path)).await.map(drop)
    }

    async fn assign(&mut self, wanted: Assignment) -> Result<bool, Violation> {
        self.tell(format!("assign {} to {} on {}", wanted.id, wanted.path, wanted.worker));
        let before = agents_in(&self.last)?.remove(wanted.id.as_str());
        let works = self.last.sets.contains_key(&format!("slots:i:{}", wanted.id));
        let answer = match self.store.assign(&wanted).await {
            Ok(answer) => answer,
            Err(StoreError::Refused(Refusal::Paused)) => return Ok(false),
            Err(error) => return Err(unexpected("an assignment failed", error)),
        };
        self.look(1)?;
        let after = agents_in(&self.last)?.remove(wanted.id.as_str());
        let stays = |before: &Assignment| before.path == wanted.path && before.worker == wanted.worker;
        let right = match (&answer, &before) {
            (AssignAnswer::New, None) => true,
            (AssignAnswer::Unchanged, Some(before)) => stays(before),
            (AssignAnswer::Moved, Some(before)) => !stays(before) && !works,
            (AssignAnswer::Busy { .. }, Some(before)) => {
                !stays(before) && works && after == Some(before.clone())
            }
            _ => false,
        };
        hold!(right, "agent {} was {before:?}, at work: {works}, and is answered {answer:?}", wanted.id);
        let is_busy = matches!(answer, AssignAnswer::Busy { .. });
        let there = after.is_some_and(|after| stays(&after) && after.held == before.and_then(|it| it.held));
        hold!(there || is_busy, "agent {} was answered {answer:?} and is elsewhere, or let go", wanted.id);
        self.statistics.count(match answer {
            AssignAnswer::New => "assign-new",
            AssignAnswer::Unchanged => "assign-unchanged",
            AssignAnswer::Changed => "assign-changed",
            AssignAnswer::Moved => "assign-moved",
            AssignAnswer::Busy { .. } => "assign-busy",
        });
        Ok(!is_busy)
    }

    /// Somebody stops an agent, starts it again, or lets it go on.
    pub async fn op_order_agent(&mut self) -> Result<(), Violation> {
        let (any, _) = AGENTS[self.die.random_range(0..AGENTS.len())];
        // Mostly one that is at work: there is more to go wrong.
        let at_work =
            |id: &str| self.last.sets.get(&format!("slots:i:{id}")).is_some_and(|tasks| !tasks.is_empty());
        let busy = AGENTS.iter().map(|(id, _)| *id).find(|id| at_work(id));
        let id = busy.filter(|_| self.die.random_bool(0.7)).unwrap_or(any);
        let order = ["stop", "restart", "release", "release"][self.die.random_range(0..4)];
        let kill = self.die.random_bool(0.3);
        self.order_agent(id, order, kill).await
    }

    async fn order_agent(&mut self, id: &str, order: &str, kill: bool) -> Result<(), Violation> {
        self.tell(format!("{order} agent {id}, kill {kill}"));
        let agent: AgentId = id.parse().expect("a lawful id");
        let was_held = agents_in(&self.last)?.get(id).is_some_and(|agent| agent.held.is_some());
        let works_on = self.last.sets.get(&format!("slots:i:{id}")).and_then(|tasks| tasks.first().cloned());
        let hold = |then_restart| HoldOrder { kill, then_restart };
        let sent = match order {
            "release" => self.store.release_agent(&agent, "me").await,
            order => self.store.hold_agent(&agent, "me", hold(order == "restart")).await,
        };
        let answer = match sent {
            Ok(answer) => answer,
            Err(StoreError::Refused(Refusal::Paused)) => return Ok(()),
            Err(error) => return Err(unexpected("an order to an agent failed", error)),
        };
        self.look(1)?;
        self.statistics.count(&format!("agent-{order}"));
        let told = answer.running.map(|task| task.to_string());
        hold!(answer.was_held == was_held, "agent {id} was held: {was_held}, answered {}", answer.was_held);
        hold!(told == works_on, "agent {id} works on {works_on:?}, answered {told:?}");
        let is_held = agents_in(&self.last)?.get(id).is_some_and(|agent| agent.held.is_some());
        hold!(is_held == (order == "stop"), "after `{order}` agent {id} is held: {is_held}");
        if let Some(task) = works_on.filter(|_| order != "release") {
            self.statistics.count(&format!("agent-{order}-at-work"));
            let (run, index) = task.split_once('.').unwrap_or_default();
            let record = self.last.record(run, index.parse().unwrap_or(0))?;
            let told = record.is_some_and(|record| {
                record.status == TaskStatus::Cancelling && (order == "restart" || !record.restarting)
            });
            hold!(told, "task {task} of agent {id} was not told to end");
        }
        Ok(())
    }

    /// All agents come to a worker that is there, as far as they can be moved, and go on.
    pub async fn heal_agents(&mut self, worker: &str) -> Result<(), Violation> {
        for (id, of) in AGENTS {
            self.assign(assignment(id, of, worker, 0)).await?;
            self.order_agent(id, "release", false).await?;
        }
        Ok(())
    }
}
