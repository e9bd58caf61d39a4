//! The one request of steady work: report what ended, claim what is next.

use maestro_model::ids::{Attempt, Incarnation, RunId, TaskId};
use maestro_model::plan::QueueName;
use maestro_model::task::{Reason, TaskStatus};
use redis::Value;

use crate::cell::{Reply, Store, decode};
use crate::encode::OwnSpec;
use crate::error::{Refusal, StoreError};
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
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

impl CellMode {
    pub(crate) fn read(word: &str) -> CellMode {
        if word == "run" { CellMode::Run } else { CellMode::Paused }
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

impl Store {
    /// Reports and claims.
    ///
    /// # Errors
    /// `Refusal::Paused` while the cell is frozen (reports are to be kept), `Epoch`, `ClusterGone`.
    ///
    /// # Panics
    /// If there are more reports than `STEP_BATCH_MAX`.
    pub async fn step(
        &self,
        incarnation: &Incarnation,
        request: &StepRequest,
    ) -> Result<StepReply, StoreError> {
        assert!(
            request.reports.len() <= STEP_BATCH_MAX,
            "a request carries at most {STEP_BATCH_MAX} reports"
        );
        let value = self.eval("step", |command| fill(command, &self.epoch(), incarnation, request)).await?;
        let reply = Reply::read("step", value)?;
        match reply.word.as_str() {
            "OK" => read_reply(&reply),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }
}

fn fill(command: &mut redis::Cmd, epoch: &str, incarnation: &Incarnation, request: &StepRequest) {
    command.arg(epoch).arg(incarnation.as_str()).arg(request.lane).arg(request.request_id);
    command.arg(request.want.min(STEP_BATCH_MAX)).arg(request.state_ttl_ms).arg(request.queues.len());
    for queue in &request.queues {
        command.arg(queue.as_str());
    }
    command.arg(request.reports.len());
    for report in &request.reports {
        command.arg(report.task.run.as_str()).arg(report.task.index).arg(report.attempt.0);
        let code = |code: &Option<i32>| code.map(|code| code.to_string()).unwrap_or_default();
        let (letter, exit, reason, delay) = match &report.ending {
            Ending::Completed { exit_code } => ("C", code(exit_code), "", String::new()),
            Ending::Skipped => ("K", String::new(), "", String::new()),
            Ending::Failed { reason, exit_code, retry_in_ms } => (
                "F",
                code(exit_code),
                reason.word(),
                retry_in_ms.map(|delay| delay.to_string()).unwrap_or_default(),
            ),
            Ending::ComeBack { delay_ms } => ("A", "75".to_owned(), "exit", delay_ms.to_string()),
            Ending::Cancelled => ("N", String::new(), "", String::new()),
            Ending::Returned { host_failed: true } => ("Q", String::new(), "infra", String::new()),
            Ending::Returned { host_failed: false } => ("Q", String::new(), "", String::new()),
        };
        command.arg(letter).arg(exit).arg(reason).arg(delay).arg(&report.output).arg(report.publish.len());
        for value in &report.publish {
            command.arg(&value.key).arg(&value.value).arg(if value.json { "j" } else { "s" });
        }
    }
}

fn read_reply(reply: &Reply) -> Result<StepReply, StoreError> {
    let words: Vec<String> = reply.get(0)?;
    let answers = words.iter().map(|word| read_answer(word)).collect::<Result<_, _>>()?;
    let grants: Vec<Value> = reply.get(1)?;
    let grants = grants.into_iter().map(read_grant).collect::<Result<_, _>>()?;
    Ok(StepReply {
        answers,
        grants,
        more: reply.get::<u8>(2)? == 1,
        mode: CellMode::read(&reply.text(3)?),
        fenced: reply.get::<u8>(4)? == 1,
    })
}

fn read_answer(word: &str) -> Result<ReportAnswer, StoreError> {
    match word {
        "OK" => Ok(ReportAnswer::Accepted),
        "DUP" => Ok(ReportAnswer::Repeated),
        "CANCELLED" => Ok(ReportAnswer::Cancelled),
        "STALE" => Ok(ReportAnswer::Stale),
        "GONE" => Ok(ReportAnswer::Gone),
        _ => Err(StoreError::unreadable("the answer to a report", word)),
    }
}

type GrantFields = (String, u32, u32, u32, u32, u32, u32, u32, String, String, Vec<Value>);

fn read_grant(value: Value) -> Result<Grant, StoreError> {
    let (run, index, attempt, failures, losses, come_backs, host_failures, shared, window, own, values): GrantFields =
        decode("a grant", value)?;
    let run: RunId = run.parse().map_err(|_| StoreError::unreadable("a grant's run", &run))?;
    let own = serde_json::from_str(&own).map_err(|_| StoreError::unreadable("a task's own part", &own))?;
    Ok(Grant {
        task: TaskId { run, index },
        attempt: Attempt(attempt),
        failures,
        losses,
        come_backs,
        host_failures,
        shared,
        group: window.strip_prefix('g').and_then(|group| group.parse().ok()),
        own,
        values: values.into_iter().map(read_gathered).collect::<Result<_, _>>()?,
    })
}

fn read_gathered(value: Value) -> Result<GatheredValue, StoreError> {
    let fields: Vec<Value> = decode("a gathered value", value)?;
    let text = |place: usize| -> Result<Option<String>, StoreError> {
        decode("a gathered value", fields.get(place).cloned().unwrap_or(Value::Nil))
    };
    let number = |place: usize| -> Result<u32, StoreError> {
        decode("a gathered value", fields.get(place).cloned().unwrap_or(Value::Int(0)))
    };
    let record = |place: usize| -> Result<Option<TaskRecord>, StoreError> {
        text(place)?.map(|line| TaskRecord::read(&line)).transpose()
    };
    match text(0)?.as_deref() {
        Some("o") => Ok(GatheredValue::Step { index: number(1)?, output: text(2)?, record: record(3)? }),
        Some("g") => Ok(GatheredValue::Group {
            index: number(1)?,
            first: number(2)?,
            count: number(3)?,
            record: record(4)?,
        }),
        Some("s") => Ok(GatheredValue::State {
            key: text(1)?.unwrap_or_default(),
            value: text(2)?,
            json: text(3)?.as_deref() == Some("j"),
        }),
        _ => Err(StoreError::unreadable("a gathered value", fields)),
    }
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
