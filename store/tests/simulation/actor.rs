//! A process without a process: a worker or coordinator that asks and reports when the die says so.

use std::collections::BTreeMap;

use maestro_model::ids::{Attempt, Incarnation, TaskId};
use maestro_model::plan::QueueName;
use maestro_store::step::{Grant, StepReport, StepRequest};
use maestro_store::worker::{AboutProcess, ProcessRole};

use super::plans::{AGENTS, TYPES};

/// What an actor runs.
#[derive(Debug, Clone)]
pub struct RunningTask {
    pub attempt: Attempt,
    /// None: it was learnt from a beat that it is held.
    pub grant: Option<Grant>,
    /// Whether a beat said that it is being cancelled.
    pub told_to_end: bool,
    /// Of a `foreach` that is being expanded: number of items, and how many are stored.
    pub expansion: Option<(usize, usize)>,
}

/// How an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It speaks.
    Well,
    /// It is silent and will speak again, perhaps too late.
    Asleep,
    /// It will never be heard again.
    Gone,
}

/// A worker or coordinator.
#[derive(Debug, Clone)]
pub struct Actor {
    pub incarnation: Incarnation,
    pub name: String,
    pub role: ProcessRole,
    pub types: Vec<String>,
    pub health: Health,
    pub running: BTreeMap<TaskId, RunningTask>,
    /// The request under way in each lane: not answered, or the answer got lost.
    pub pending: [Option<PendingRequest>; 2],
    pub next_request: u64,
    /// The end of its lease by the test's own account; none if it was taken over or took leave.
    pub lease_until: Option<i64>,
}

/// A request whose answer the actor has not seen.
#[derive(Debug, Clone)]
pub struct PendingRequest {
    pub request: StepRequest,
    /// Whether it came through, so that an answer is stored.
    pub executed: Option<maestro_store::step::StepReply>,
}

impl Actor {
    pub fn new(incarnation: Incarnation, name: &str, role: ProcessRole, both_types: bool) -> Actor {
        let types = match (role, both_types) {
            (ProcessRole::Coordinator, _) => Vec::new(),
            (ProcessRole::Worker, true) => TYPES.map(str::to_owned).to_vec(),
            (ProcessRole::Worker, false) => vec![TYPES[0].to_owned()],
        };
        Actor {
            incarnation,
            name: name.to_owned(),
            role,
            types,
            health: Health::Well,
            running: BTreeMap::new(),
            pending: [None, None],
            next_request: 1,
            lease_until: None,
        }
    }

    pub fn about(&self) -> AboutProcess {
        AboutProcess {
            role: self.role,
            host: "here".to_owned(),
            pid: 1,
            slots: 4,
            version: "1.2.0".to_owned(),
            labels: Default::default(),
            confinement: Vec::new(),
            isolation: None,
        }
    }

    pub fn queues(&self) -> Vec<QueueName> {
        match self.role {
            ProcessRole::Coordinator => vec![QueueName::expand()],
            ProcessRole::Worker => {
                let own = QueueName::worker(&self.name);
                let types = self.types.iter().map(|slug| QueueName::from_stored(format!("a:{slug}")));
                // Also those of agents that are elsewhere: it may not have heard that they have moved.
                let agents = AGENTS.iter().map(|(id, _)| QueueName::from_stored(format!("i:{id}")));
                std::iter::once(own).chain(types).chain(agents).collect()
            }
        }
    }

    pub fn request(&mut self, lane: usize, want: usize, reports: Vec<StepReport>) -> StepRequest {
        self.next_request += 1;
        StepRequest {
            lane: lane as u8,
            request_id: self.next_request,
            want,
            queues: self.queues(),
            reports,
            state_ttl_ms: 60_000,
        }
    }

    /// What it says it runs: all it holds, and what it has reported without an answer.
    pub fn list(&self) -> Vec<(TaskId, Attempt)> {
        let running = self.running.iter().map(|(task, running)| (task.clone(), running.attempt));
        let pending = self.pending.iter().flatten().flat_map(|pending| &pending.request.reports);
        running.chain(pending.map(|report| (report.task.clone(), report.attempt))).collect()
    }

    /// Forgets all: its lease is over, or it begins anew.
    pub fn forget(&mut self) {
        self.running.clear();
        self.pending = [None, None];
    }
}
