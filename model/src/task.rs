//! The life of a task: which states there are and what leads from one to the next.
//!
//! `next_status` is the whole rule. Each script in `store/scripts/` carries out one row of it, and the
//! store's tests compare the two, state by state. Time and attempts are not part of it: see `attempt`.

use serde::{Deserialize, Serialize};

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    /// Waits for other tasks.
    Blocked,
    /// Ready; waits for a worker.
    Queued,
    /// An attempt holds it.
    Running,
    /// Waits for a time: backing off, or told to come again later.
    Parked,
    /// An attempt holds it and has been told to end.
    Cancelling,
    /// Ended well.
    Completed,
    /// Ended badly, for good.
    Failed,
    /// Never ran, because what it needed did not happen or its `when` was false.
    Skipped,
    /// Ended because somebody said so.
    Cancelled,
}

impl TaskStatus {
    /// All of them, in the order of a task's life.
    pub const ALL: [TaskStatus; 9] = [
        TaskStatus::Blocked,
        TaskStatus::Queued,
        TaskStatus::Running,
        TaskStatus::Parked,
        TaskStatus::Cancelling,
        TaskStatus::Completed,
        TaskStatus::Failed,
        TaskStatus::Skipped,
        TaskStatus::Cancelled,
    ];

    /// Whether nothing follows (short of an explicit retry).
    pub fn is_final(self) -> bool {
        matches!(
            self,
            TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Skipped | TaskStatus::Cancelled
        )
    }

    /// The word users read. `cancelling` is shown as `running`: it still is.
    pub fn word(self) -> &'static str {
        match self {
            TaskStatus::Blocked => "blocked",
            TaskStatus::Queued => "queued",
            TaskStatus::Running | TaskStatus::Cancelling => "running",
            TaskStatus::Parked => "parked",
            TaskStatus::Completed => "completed",
            TaskStatus::Failed => "failed",
            TaskStatus::Skipped => "skipped",
            TaskStatus::Cancelled => "cancelled",
        }
    }

    /// The letter under which the scripts store it.
    pub fn letter(self) -> char {
        match self {
            TaskStatus::Blocked => 'B',
            TaskStatus::Queued => 'Q',
            TaskStatus::Running => 'R',
            TaskStatus::Parked => 'P',
            TaskStatus::Cancelling => 'X',
            TaskStatus::Completed => 'C',
            TaskStatus::Failed => 'F',
            TaskStatus::Skipped => 'K',
            TaskStatus::Cancelled => 'N',
        }
    }

    /// The state stored under a letter.
    pub fn from_letter(letter: char) -> Option<TaskStatus> {
        TaskStatus::ALL.into_iter().find(|status| status.letter() == letter)
    }
}

/// Why a task failed, or was parked, or was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The agent ended with a code other than 0.
    Exit,
    /// It ran longer than its `timeout`, waited longer than its `queue_timeout`, or its run timed out.
    Timeout,
    /// It made no output for its `stall_timeout`.
    Stalled,
    /// Its worker was lost too often, or the worker its run is bound to.
    Lost,
    /// It used more memory than it may.
    Oom,
    /// The host failed it: disk, Docker, a vanished workspace.
    Infra,
    /// Its workspace or network was not its own any more.
    Breach,
    /// It cannot run as it is written; trying again would not help.
    Config,
    /// A person said no.
    Rejected,
    /// It spent its budget.
    Budget,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 10] = [
        Reason::Exit,
        Reason::Timeout,
        Reason::Stalled,
        Reason::Lost,
        Reason::Oom,
        Reason::Infra,
        Reason::Breach,
        Reason::Config,
        Reason::Rejected,
        Reason::Budget,
    ];

    /// The word users read and scripts store.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Exit => "exit",
            Reason::Timeout => "timeout",
            Reason::Stalled => "stalled",
            Reason::Lost => "lost",
            Reason::Oom => "oom",
            Reason::Infra => "infra",
            Reason::Breach => "breach",
            Reason::Config => "config",
            Reason::Rejected => "rejected",
            Reason::Budget => "budget",
        }
    }

    /// The reason a word stands for.
    pub fn from_word(word: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.word() == word)
    }
}

/// What can happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskEvent {
    /// All it waited for has happened.
    Ready,
    /// What it waited for cannot happen any more, or its `when` was false.
    Skip,
    /// A worker took it.
    Claim,
    /// The attempt ended well.
    Succeed,
    /// The attempt failed and will be tried again later.
    Park,
    /// The attempt failed for good.
    Fail,
    /// Its time has come.
    Unpark,
    /// The worker gave it back, or was lost, and it may be tried again.
    Return,
    /// It was lost for the last time allowed.
    Abandon,
    /// Somebody wants it ended.
    Cancel,
    /// An attempt that was told to end has ended, however, or was lost.
    EndCancelled,
    /// Its agent is to start again, and the attempt is told to end.
    Restart,
    /// An attempt that was told to end for a restart has ended, or was lost: the task goes back.
    EndRestarted,
    /// An attempt that was told to end for a restart had ended well before the word reached it.
    FinishFirst,
    /// It waited longer than it may.
    Expire,
    /// A person wants it run once more.
    Rerun,
}

impl TaskEvent {
    /// All of them.
    pub const ALL: [TaskEvent; 16] = [
        TaskEvent::Ready,
        TaskEvent::Skip,
        TaskEvent::Claim,
        TaskEvent::Succeed,
        TaskEvent::Park,
        TaskEvent::Fail,
        TaskEvent::Unpark,
        TaskEvent::Return,
        TaskEvent::Abandon,
        TaskEvent::Cancel,
        TaskEvent::EndCancelled,
        TaskEvent::Restart,
        TaskEvent::EndRestarted,
        TaskEvent::FinishFirst,
        TaskEvent::Expire,
        TaskEvent::Rerun,
    ];
}

/// An event that cannot happen in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {status:?} cannot {event:?}")]
pub struct IllegalTaskEvent {
    /// The state the task is in.
    pub status: TaskStatus,
    /// What was to happen to it.
    pub event: TaskEvent,
}

/// The state that follows, or a refusal that names both.
pub fn next_status(status: TaskStatus, event: TaskEvent) -> Result<TaskStatus, IllegalTaskEvent> {
    use TaskEvent as E;
    use TaskStatus as S;
    let next = match (status, event) {
        (S::Blocked, E::Ready) => S::Queued,
        (S::Blocked, E::Skip) => S::Skipped,
        (S::Queued, E::Claim) => S::Running,
        (S::Queued | S::Parked, E::Expire) => S::Failed,
        (S::Running, E::Succeed) => S::Completed,
        (S::Running, E::Skip) => S::Skipped,
        (S::Running, E::Park) => S::Parked,
        (S::Running, E::Fail | E::Abandon) => S::Failed,
        (S::Running, E::Return) => S::Queued,
        (S::Running, E::Cancel) => S::Cancelling,
        (S::Cancelling, E::EndCancelled) => S::Cancelled,
        // Which of the two it is told to end for stands with the record.
        (S::Running | S::Cancelling, E::Restart) => S::Cancelling,
        (S::Cancelling, E::EndRestarted) => S::Queued,
        (S::Cancelling, E::FinishFirst) => S::Completed,
        (S::Cancelling, E::Cancel) => S::Cancelling,
        (S::Parked, E::Unpark) => S::Queued,
        (S::Blocked | S::Queued | S::Parked, E::Cancel) => S::Cancelled,
        (S::Failed | S::Skipped | S::Cancelled | S::Completed, E::Rerun) => S::Blocked,
        (status, event) => return Err(IllegalTaskEvent { status, event }),
    };
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_words_lead_back() {
        for status in TaskStatus::ALL {
            assert_eq!(TaskStatus::from_letter(status.letter()), Some(status));
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::from_word(reason.word()), Some(reason));
        }
    }

    #[test]
    fn a_final_state_is_left_only_by_a_rerun() {
        for status in TaskStatus::ALL.into_iter().filter(|status| status.is_final()) {
            for event in TaskEvent::ALL {
                assert_eq!(
                    next_status(status, event).is_ok(),
                    event == TaskEvent::Rerun,
                    "{status:?} {event:?}"
                );
            }
        }
    }

    #[test]
    fn an_attempt_told_to_end_can_only_end_cancelled_unless_its_agent_starts_again() {
        for event in TaskEvent::ALL {
            let next = next_status(TaskStatus::Cancelling, event);
            match event {
                TaskEvent::EndCancelled => assert_eq!(next, Ok(TaskStatus::Cancelled)),
                TaskEvent::EndRestarted => assert_eq!(next, Ok(TaskStatus::Queued)),
                TaskEvent::FinishFirst => assert_eq!(next, Ok(TaskStatus::Completed)),
                TaskEvent::Cancel | TaskEvent::Restart => assert_eq!(next, Ok(TaskStatus::Cancelling)),
                _ => assert!(next.is_err(), "{event:?}"),
            }
        }
    }

    #[test]
    fn every_state_that_is_not_final_can_be_cancelled() {
        for status in TaskStatus::ALL.into_iter().filter(|status| !status.is_final()) {
            assert!(next_status(status, TaskEvent::Cancel).is_ok(), "{status:?}");
        }
    }
}
