//! The audit stream: what happened, in order, without payloads.

use std::time::Duration;

use maestro_model::ids::{Attempt, RunId, TaskId};
use maestro_model::task::Reason;
use redis::Value;

use crate::cell::{Store, decode};
use crate::error::StoreError;

/// A place in the stream: everything after it is yet to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPosition(String);

impl EventPosition {
    /// Before the first event kept.
    pub fn start() -> EventPosition {
        EventPosition("0".to_owned())
    }

    /// Before all that happened at this time or later, ms since 1970.
    pub fn at(ms: u64) -> EventPosition {
        EventPosition(format!("{}-18446744073709551615", ms.saturating_sub(1)))
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// When, ms since 1970 by Redis' clock.
    pub at_ms: u64,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// To a task.
    Task {
        /// Which.
        task: TaskId,
        /// Its attempt; 0 = none yet.
        attempt: u32,
        /// Incarnation of the worker, or empty.
        who: String,
        /// What.
        what: TaskHappening,
    },
    /// To a run.
    Run {
        /// Which.
        run: RunId,
        /// The word: submitted, stopping, completed, failed, cancelled, collected.
        word: String,
        /// More about it, such as the reason.
        detail: String,
    },
    /// To shared state: set or deleted.
    State {
        /// The key.
        key: String,
        /// The new version; none if deleted.
        version: Option<u64>,
        /// Who did it.
        who: String,
    },
    /// Anything else: its word and subject.
    Other {
        /// `worker-attached`, `worker-gone`, `leader`.
        word: String,
        /// Whom it concerns.
        subject: String,
        /// Who did it, or empty.
        who: String,
        /// More about it, or empty.
        detail: String,
    },
}

/// What happened to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskHappening {
    /// It stands in a queue (`held`: in front of its run's gate).
    Queued {
        /// Which.
        queue: String,
    },
    /// An attempt began.
    Started {
        /// The worker's name; empty for a `foreach`.
        worker: String,
    },
    /// A coordinator has made items of it.
    Expanded {
        /// How many.
        items: u32,
    },
    /// It ended well.
    Completed,
    /// It failed for good.
    Failed {
        /// Why.
        reason: Option<Reason>,
        /// The agent's exit code.
        exit_code: Option<i32>,
    },
    /// It never runs.
    Skipped,
    /// It was told to end.
    Cancelling,
    /// It ended because somebody said so.
    Cancelled,
    /// It waits for a time.
    Parked {
        /// Why.
        reason: Option<Reason>,
        /// Until then, ms since 1970.
        until_ms: u64,
    },
    /// Its worker was lost.
    Lost,
    /// Its worker gave it back.
    Returned,
    /// Somebody wants it tried once more.
    Retried,
    /// A late report was refused.
    Fenced,
}

impl AuditEvent {
    /// The run it concerns, if it concerns one.
    pub fn run(&self) -> Option<&RunId> {
        match &self.kind {
            EventKind::Task { task, .. } => Some(&task.run),
            EventKind::Run { run, .. } => Some(run),
            EventKind::State { .. } | EventKind::Other { .. } => None,
        }
    }

    /// The attempt that changed shared state, through its side door or by what it published.
    pub fn speaker(&self) -> Option<(TaskId, Attempt)> {
        let EventKind::State { who, .. } = &self.kind else { return None };
        let (task, attempt) = who.rsplit_once('.')?;
        Some((task.parse().ok()?, Attempt(attempt.parse().ok()?)))
    }

    /// The task it concerns, or whose attempt did it.
    pub fn task(&self) -> Option<TaskId> {
        match &self.kind {
            EventKind::Task { task, .. } => Some(task.clone()),
            _ => self.speaker().map(|(task, _)| task),
        }
    }

    /// The events of a line: one, or one for each of the tasks it names.
    fn read_line(at_ms: u64, line: &str) -> Vec<AuditEvent> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [word, subjects, attempt, who, detail] = fields[..] else { return Vec::new() };
        let read = |subject| AuditEvent::read(at_ms, [word, subject, attempt, who, detail]);
        // A task's id has no space; the key of a shared value may have.
        match TaskHappening::read(word, detail) {
            Some(_) => subjects.split(' ').filter_map(read).collect(),
            None => read(subjects).into_iter().collect(),
        }
    }

    fn read(at_ms: u64, [word, subject, attempt, who, detail]: [&str; 5]) -> Option<AuditEvent> {
        let kind = if let Some(word) = word.strip_prefix("run-") {
            EventKind::Run { run: subject.parse().ok()?, word: word.to_owned(), detail: detail.to_owned() }
        } else if word == "state-set" || word == "state-deleted" {
            EventKind::State { key: subject.to_owned(), version: attempt.parse().ok(), who: who.to_owned() }
        } else if let Some(what) = TaskHappening::read(word, detail) {
            let attempt = attempt.parse().unwrap_or(0);
            EventKind::Task { task: subject.parse().ok()?, attempt, who: who.to_owned(), what }
        } else {
            EventKind::Other {
                word: word.to_owned(),
                subject: subject.to_owned(),
                who: who.to_owned(),
                detail: detail.to_owned(),
            }
        };
        Some(AuditEvent { at_ms, kind })
    }
}

impl TaskHappening {
    fn read(word: &str, detail: &str) -> Option<TaskHappening> {
        let (first, second) = detail.split_once(':').unwrap_or((detail, ""));
        Some(match word {
            "queued" => TaskHappening::Queued { queue: detail.to_owned() },
            "started" => TaskHappening::Started { worker: detail.to_owned() },
            "expanded" => TaskHappening::Expanded { items: detail.parse().ok()? },
            "completed" => TaskHappening::Completed,
            "failed" => {
                TaskHappening::Failed { reason: Reason::from_word(first), exit_code: second.parse().ok() }
            }
            "skipped" => TaskHappening::Skipped,
            "cancelling" => TaskHappening::Cancelling,
            "cancelled" => TaskHappening::Cancelled,
            "parked" => {
                TaskHappening::Parked { reason: Reason::from_word(first), until_ms: second.parse().ok()? }
            }
            "lost" => TaskHappening::Lost,
            "returned" => TaskHappening::Returned,
            "retried" => TaskHappening::Retried,
            "fenced" => TaskHappening::Fenced,
            _ => return None,
        })
    }

    /// The word users read and scripts store.
    pub fn word(&self) -> &'static str {
        match self {
            TaskHappening::Queued { .. } => "queued",
            TaskHappening::Started { .. } => "started",
            TaskHappening::Expanded { .. } => "expanded",
            TaskHappening::Completed => "completed",
            TaskHappening::Failed { .. } => "failed",
            TaskHappening::Skipped => "skipped",
            TaskHappening::Cancelling => "cancelling",
            TaskHappening::Cancelled => "cancelled",
            TaskHappening::Parked { .. } => "parked",
            TaskHappening::Lost => "lost",
            TaskHappening::Returned => "returned",
            TaskHappening::Retried => "retried",
            TaskHappening::Fenced => "fenced",
        }
    }
}

/// Reads the stream onwards, on a connection of its own.
#[derive(Debug)]
pub struct EventReader {
    store: Store,
    connection: redis::aio::MultiplexedConnection,
    position: EventPosition,
    longest: Duration,
}

/// Entries read at one time.
const ENTRIES_PER_READ: usize = 500;

impl Store {
    /// Follows the stream from a position on; each `next` waits up to `longest`.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn follow_events(
        &self,
        from: EventPosition,
        longest: Duration,
    ) -> Result<EventReader, StoreError> {
        let connection = self.link().dedicated(longest).await?;
        Ok(EventReader { store: self.clone(), connection, position: from, longest })
    }

    /// The end of the stream as it is now.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn events_end(&self) -> Result<EventPosition, StoreError> {
        let command = redis::cmd("XREVRANGE")
            .arg(self.keys().events())
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1)
            .to_owned();
        let entries: Vec<(String, Value)> = decode("the last event", self.ask(&command).await?)?;
        Ok(entries.into_iter().next().map_or_else(EventPosition::start, |(id, _)| EventPosition(id)))
    }

    /// Events after a position, a portion at a time; empty at the end.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn events_after(
        &self,
        from: &EventPosition,
    ) -> Result<(Vec<AuditEvent>, EventPosition), StoreError> {
        let mut command = redis::cmd("XRANGE");
        command
            .arg(self.keys().events())
            .arg(format!("({}", from.0))
            .arg("+")
            .arg("COUNT")
            .arg(ENTRIES_PER_READ);
        let entries: Vec<(String, Vec<(String, String)>)> = decode("events", self.ask(&command).await?)?;
        Ok(read_entries(entries, from.clone()))
    }
}

fn read_entries(
    entries: Vec<(String, Vec<(String, String)>)>,
    mut position: EventPosition,
) -> (Vec<AuditEvent>, EventPosition) {
    let mut events = Vec::new();
    for (id, fields) in entries {
        let at_ms = id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
        for (_, lines) in fields {
            // A line that a newer version wrote is passed over: it must not stop an older reader.
            events.extend(lines.lines().flat_map(|line| AuditEvent::read_line(at_ms, line)));
        }
        position = EventPosition(id);
    }
    (events, position)
}

impl EventReader {
    /// The next events; empty if none came within the longest wait.
    ///
    /// # Errors
    /// `Unreachable`: make a new reader from `position`.
    pub async fn next(&mut self) -> Result<Vec<AuditEvent>, StoreError> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(ENTRIES_PER_READ).arg("BLOCK").arg(self.longest.as_millis() as u64);
        command.arg("STREAMS").arg(self.store.keys().events()).arg(&self.position.0);
        let answer = self.connection.send_packed_command(&command).await;
        let value = answer.map_err(|error| self.store.link().sort(error))?;
        if matches!(value, Value::Nil) {
            return Ok(Vec::new());
        }
        type Streams = Vec<(String, Vec<(String, Vec<(String, String)>)>)>;
        let streams: Streams = decode("events", value)?;
        let entries = streams.into_iter().next().map(|(_, entries)| entries).unwrap_or_default();
        let (events, position) = read_entries(entries, self.position.clone());
        self.position = position;
        Ok(events)
    }

    /// How far it has read.
    pub fn position(&self) -> &EventPosition {
        &self.position
    }
}
