//! The one request of steady work: report what ended, claim what is next.

use maestro_model::assignment::Assignment;
use maestro_model::ids::{Attempt, TaskId};
use maestro_model::plan::QueueName;
use maestro_model::task::{Reason, TaskStatus};
use serde::{Deserialize, Serialize};

use crate::encode::OwnSpec;
use crate::record::TaskRecord;

/// Most reports, and most claims, of one request.
pub const STEP_BATCH_MAX: usize = 64;

/// A request: sent again after a lost answer with the same id, it gets the same answer.
#[derive(Debug, Clone)]
pub struct StepRequest {
    /// Requests of one lane follow each other; each lane's last answer is stored.
    pub lane: u8,
    /// Differs from the lane's request before.
    pub request_id: u64,
    /// Most tasks to claim, up to `STEP_BATCH_MAX`.
    pub want: usize,
    /// Where to look for them.
    pub queues: Vec<QueueName>,
    /// What ended, up to `STEP_BATCH_MAX`.
    pub reports: Vec<StepReport>,
    /// Time to live of values published with a report, ms; 0 = none.
    pub state_ttl_ms: u64,
}

/// One attempt that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The task.
    pub task: TaskId,
    /// Its attempt: the fence.
    pub attempt: Attempt,
    /// How it ended, retry decided.
    pub ending: Ending,
    /// `TaskOutputs` or a message, as JSON; empty = nothing.
    pub output: String,
    /// State to be written with it.
    pub publish: Vec<PublishedValue>,
}

/// How an attempt ended and what the worker decided to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Done; the code is 0 unless nothing was launched.
    Completed {
        /// The agent's exit code.
        exit_code: Option<i32>,
    },
    /// `when` was false.
    Skipped,
    /// Failed; tried again after the delay, if there is one.
    Failed {
        /// Why.
        reason: Reason,
        /// The agent's exit code, if it had one.
        exit_code: Option<i32>,
        /// Wait before the next attempt, ms.
        retry_in_ms: Option<u64>,
    },
    /// The agent asked to be called again.
    ComeBack {
        /// After this time, ms.
        delay_ms: u64,
    },
    /// Ended because the task is being cancelled.
    Cancelled,
    /// Given back without counting against the task.
    Returned {
        /// Whether the host failed it (counted by itself).
        host_failed: bool,
    },
}

/// One value for shared state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedValue {
    /// Its key.
    pub key: String,
    /// Its value: text as it is, anything else as JSON.
    pub value: String,
    /// Whether the value is JSON.
    pub json: bool,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportAnswer {
    /// Recorded.
    Accepted,
    /// Recorded before, by this very report.
    Repeated,
    /// Recorded as cancelled: the task had been told to end.
    Cancelled,
    /// Refused: another attempt, or another end, speaks for the task.
    Stale,
    /// The run is not there any more.
    Gone,
}

/// What the cell does with work at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellMode {
    /// Work goes on.
    Run,
    /// Nothing new is claimed.
    Paused,
    /// Nothing new is claimed, and workers are to pause their agents.
    Freezing,
    /// Nothing changes.
    Frozen,
}

impl CellMode {
    pub(crate) fn read(word: &str) -> CellMode {
        match word {
            "run" => CellMode::Run,
            "freezing" => CellMode::Freezing,
            "frozen" => CellMode::Frozen,
            _ => CellMode::Paused,
        }
    }

    /// Whether agents are to stand still.
    pub fn is_freezing(self) -> bool {
        matches!(self, CellMode::Freezing | CellMode::Frozen)
    }
}

/// A claimed task with all its worker needs, short of what a run's tasks share.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The task.
    pub task: TaskId,
    /// The attempt that begins: the fence.
    pub attempt: Attempt,
    /// Failures so far.
    pub failures: u32,
    /// Losses with a dead worker so far.
    pub losses: u32,
    /// How often the agent asked to be called again.
    pub come_backs: u32,
    /// How often a host failed it.
    pub host_failures: u32,
    /// Which shared part of the run it builds on.
    pub shared: u32,
    /// The group it is an item of.
    pub group: Option<u32>,
    /// Its own part.
    pub own: OwnSpec,
    /// What its templates read.
    pub values: Vec<GatheredValue>,
    /// The agent that is to work on it, where it is now; none if any worker of its type may.
    pub agent: Option<Assignment>,
    /// Between becoming ready for the first time and this claim, ms, both by Redis' clock.
    pub waited_ms: u64,
}

/// Something a template reads, as it was at the claim.
#[derive(Debug, Clone, PartialEq)]
pub enum GatheredValue {
    /// A step's record and output.
    Step {
        /// Its task.
        index: u32,
        /// Where it is in its life; none if it never was ready.
        record: Option<TaskRecord>,
        /// `TaskOutputs` or a message, as JSON.
        output: Option<String>,
    },
    /// A `foreach`: its items are read apart, in portions.
    Group {
        /// Its task.
        index: u32,
        /// Its first item.
        first: u32,
        /// How many items.
        count: u32,
        /// Where it is in its life.
        record: Option<TaskRecord>,
    },
    /// A shared value.
    State {
        /// Its key.
        key: String,
        /// Its value, none if there is none.
        value: Option<String>,
        /// Whether the value is JSON.
        json: bool,
    },
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReply {
    /// What became of the reports, in their order.
    pub answers: Vec<ReportAnswer>,
    /// What was claimed.
    pub grants: Vec<Grant>,
    /// Whether work was left behind.
    pub more: bool,
    /// What the cell does with work.
    pub mode: CellMode,
    /// Whether the lease has run out: nothing can be claimed any more.
    pub fenced: bool,
}

/// The state a report asks for, used by tests to compare scripts with the table in `model`.
pub fn wanted_status(ending: &Ending) -> TaskStatus {
    match ending {
        Ending::Completed { .. } => TaskStatus::Completed,
        Ending::Skipped => TaskStatus::Skipped,
        Ending::Failed { retry_in_ms: None, .. } => TaskStatus::Failed,
        Ending::Failed { retry_in_ms: Some(_), .. } | Ending::ComeBack { .. } => TaskStatus::Parked,
        Ending::Cancelled => TaskStatus::Cancelled,
        Ending::Returned { .. } => TaskStatus::Queued,
    }
}
