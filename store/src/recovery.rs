//! After Redis has changed: a worker says what it holds, and gets back what Redis has forgotten.
//!
//! When to do so is decided by the worker, which Redis asks (`Refusal::Recover`); `greet.lua` notices the
//! change, and `recover.lua` compares.

use std::time::Duration;

use maestro_model::ids::{Attempt, Incarnation, TaskId};

use crate::cell::{Reply, Store};
use crate::error::{Refusal, StoreError};
use crate::worker::{AboutProcess, joined};

/// Most attempts of one request.
pub const RECOVERY_BATCH_MAX: usize = 64;
/// The lane of `step` in which a worker reports while it recovers; its other lanes wait meanwhile.
pub const RECOVERY_LANE: u8 = 255;

/// Who says what it holds.
#[derive(Debug, Clone)]
pub struct RecoveringWorker {
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: String,
    /// How it is attached again if Redis has forgotten that too; none for a process that is gone, for
    /// which its successor speaks.
    pub attachment: Option<RecoveredAttachment>,
}

/// What Redis is told of a worker it may have forgotten.
#[derive(Debug, Clone)]
pub struct RecoveredAttachment {
    /// Agent types it serves.
    pub types: Vec<String>,
    /// Its lease from now on.
    pub lease: Duration,
    /// What it says of itself.
    pub about: AboutProcess,
}

/// Whether others still have to wait for this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryTurn {
    /// It has more to say.
    More,
    /// It has said all it knows.
    Last,
}

/// What Redis thinks of an attempt that a worker held or holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryVerdict {
    /// The claim was forgotten, and counts again: a report of its end is accepted.
    Adopted,
    /// It was known: a report of its end is accepted.
    Yours,
    /// What the task waits for is not known yet: ask again when others have reported.
    Later,
    /// Its end is known, or another attempt speaks for the task.
    Stale,
    /// The run is not there.
    Gone,
}

impl RecoveryVerdict {
    fn read(word: &str) -> Result<RecoveryVerdict, StoreError> {
        Ok(match word {
            "ADOPTED" => RecoveryVerdict::Adopted,
            "YOURS" => RecoveryVerdict::Yours,
            "LATER" => RecoveryVerdict::Later,
            "STALE" => RecoveryVerdict::Stale,
            "GONE" => RecoveryVerdict::Gone,
            _ => return Err(StoreError::unreadable("a verdict on an attempt", word)),
        })
    }
}

impl Store {
    /// Compares up to `RECOVERY_BATCH_MAX` attempts; one verdict for each.
    ///
    /// # Errors
    /// `Refusal::Fenced` if Redis knows another process under the name, or none for which somebody could
    /// speak; `Paused`, `Epoch`, `ClusterGone`.
    ///
    /// # Panics
    /// If there are more.
    pub async fn recover(
        &self,
        worker: &RecoveringWorker,
        attempts: &[(TaskId, Attempt)],
        turn: RecoveryTurn,
    ) -> Result<Vec<RecoveryVerdict>, StoreError> {
        assert!(
            attempts.len() <= RECOVERY_BATCH_MAX,
            "a request carries at most {RECOVERY_BATCH_MAX} attempts"
        );
        let value = self.eval("recover", |command| {
            command.arg(self.epoch()).arg(worker.incarnation.as_str()).arg(&worker.name);
            match &worker.attachment {
                Some(known) => {
                    let about = serde_json::to_string(&known.about).expect("plain data");
                    command.arg(joined(&known.types)).arg(known.lease.as_millis() as u64).arg(about);
                }
                None => drop(command.arg("").arg(0).arg("")),
            }
            command.arg(u8::from(turn == RecoveryTurn::Last)).arg(attempts.len());
            for (task, attempt) in attempts {
                command.arg(task.run.as_str()).arg(task.index).arg(attempt.0);
            }
        });
        let reply = Reply::read("recover", value.await?)?;
        match reply.word.as_str() {
            "OK" => {}
            "GONE" => return Err(Refusal::ClusterGone.into()),
            _ => return Err(reply.unexpected()),
        }
        let words: Vec<String> = reply.get(0)?;
        words.iter().map(|word| RecoveryVerdict::read(word)).collect()
    }
}
