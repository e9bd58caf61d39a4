//! A task's record as scripts keep it: one line of seventeen fields.

use maestro_model::ids::{Attempt, Incarnation};
use maestro_model::task::{Reason, TaskStatus};

use crate::error::StoreError;

/// What Redis knows of a task that was ready at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// Where it is in its life.
    pub status: TaskStatus,
    /// Its last attempt; 0 = none yet.
    pub attempt: Attempt,
    /// Who holds or held that attempt.
    pub owner: Option<Incarnation>,
    /// Failures counted against the retry policy.
    pub failures: u32,
    /// Losses with a dead worker.
    pub losses: u32,
    /// How often the agent asked to be called again.
    pub come_backs: u32,
    /// How often a host failed it.
    pub host_failures: u32,
    /// When it first became ready, ms since 1970 by Redis' clock; the same for the two below.
    pub queued_at_ms: Option<u64>,
    /// When its last attempt started.
    pub started_at_ms: Option<u64>,
    /// When its last attempt ended.
    pub finished_at_ms: Option<u64>,
    /// The agent's exit code.
    pub exit_code: Option<i32>,
    /// Why it failed or was parked.
    pub reason: Option<Reason>,
    /// Whether it is told to end only so that its agent starts again: then it goes back to its queue.
    pub restarting: bool,
    /// Which shared part it builds on.
    pub shared: u32,
    /// The range it was released from.
    pub window: String,
    /// Flags of the task (see `docs/protocol.md`).
    pub flags: String,
    /// Where it stands in its queue.
    pub rank: Option<u64>,
    /// The queue it stands in, or `held`.
    pub place: Option<String>,
}

impl TaskRecord {
    /// Reads a line.
    ///
    /// # Errors
    /// `Unreadable` if it is not one.
    pub fn read(line: &str) -> Result<TaskRecord, StoreError> {
        TaskRecord::parse(line).ok_or_else(|| StoreError::unreadable("a task's record", line))
    }

    fn parse(line: &str) -> Option<TaskRecord> {
        let fields: Vec<&str> = line.split(',').collect();
        let [
            st,
            att,
            owner,
            fails,
            lost,
            parks,
            host,
            queued,
            started,
            finished,
            exit,
            reason,
            shared,
            window,
            flags,
            rank,
            place,
        ] = fields[..]
        else {
            return None;
        };
        let status = TaskStatus::from_letter(st.chars().next()?)?;
        // While it is told to end, the place of the reason says how.
        let (reason, order) = match status {
            TaskStatus::Cancelling if Reason::from_word(reason).is_none() => ("", reason),
            _ => (reason, ""),
        };
        let restarting = match order {
            "" | "kill" => false,
            "restart" | "restart-kill" => true,
            _ => return None,
        };
        let optional = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
        Some(TaskRecord {
            status,
            attempt: Attempt(att.parse().ok()?),
            owner: (!owner.is_empty()).then(|| Incarnation::from_stored(owner)),
            failures: fails.parse().ok()?,
            losses: lost.parse().ok()?,
            come_backs: parks.parse().ok()?,
            host_failures: host.parse().ok()?,
            queued_at_ms: optional(queued)?,
            started_at_ms: optional(started)?,
            finished_at_ms: optional(finished)?,
            exit_code: if exit.is_empty() { None } else { Some(exit.parse().ok()?) },
            reason: if reason.is_empty() { None } else { Some(Reason::from_word(reason)?) },
            restarting,
            shared: shared.parse().ok()?,
            window: window.to_owned(),
            flags: flags.to_owned(),
            rank: optional(rank)?,
            place: (!place.is_empty()).then(|| place.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_field_by_field() {
        let line = "F,2,abc,1,1,0,0,1700000000001,1700000000002,1700000000003,3,exit,4,q0,hH,,";
        let record = TaskRecord::read(line).expect("a lawful line");
        assert_eq!(record.status, TaskStatus::Failed);
        assert_eq!(record.attempt, Attempt(2));
        assert_eq!(record.exit_code, Some(3));
        assert_eq!(record.reason, Some(Reason::Exit));
        assert_eq!(record.window, "q0");
        assert_eq!(record.place, None);
    }

    #[test]
    fn an_attempt_that_is_told_to_end_says_how() {
        let read = |reason: &str| TaskRecord::read(&format!("X,1,abc,0,0,0,0,1,2,,,{reason},4,,i,,"));
        for (word, restarting) in
            [("", false), ("kill", false), ("restart", true), ("restart-kill", true), ("exit", false)]
        {
            assert_eq!(read(word).expect("a lawful line").restarting, restarting, "{word}");
        }
        assert_eq!(read("exit").expect("a lawful line").reason, Some(Reason::Exit));
        assert!(read("later").is_err());
    }

    #[test]
    fn a_line_that_is_cut_short_is_unreadable() {
        assert!(TaskRecord::read("F,2,abc").is_err());
    }
}
