//! What somebody must do from time to time: sweep, lead, expand, collect.

use std::time::Duration;

use maestro_model::ids::{Attempt, Incarnation, RunId, TaskId};
use maestro_model::plan::TASKS_PER_RUN_MAX;

use crate::cell::{Reply, Store, decode};
use crate::error::{Refusal, StoreError};

/// Most items of each kind that one sweep handles.
pub const SWEEP_ITEMS_MAX: u32 = 50;
/// Items of a `foreach` stored in one call.
pub const EXPAND_ITEMS_MAX: usize = 250;
/// Runs that were never committed may go after this time.
const LOADING_FOR: Duration = Duration::from_secs(3600);

/// What a sweep found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Items handled.
    pub handled: u64,
    /// Until the next item is due, on the cluster's clock.
    pub next_due: Option<Duration>,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// This process does.
    Leading,
    /// Another one does.
    Standby {
        /// Its incarnation.
        leader: Incarnation,
    },
}

/// What became of an expansion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expansion {
    /// Stored; with the last portion the items have started.
    Stored,
    /// The step is not this coordinator's any more.
    Stale,
    /// The run would have too many tasks.
    TooMany {
        /// How many it has now.
        tasks: u32,
    },
}

/// What is to be collected first, and how much there is.
#[derive(Debug, Clone, Copy)]
pub struct RetentionPolicy {
    /// Finished runs older than this go.
    pub age: Duration,
    /// At most so many finished runs stay.
    pub runs: u64,
    /// At most so many bytes of finished runs stay.
    pub bytes: u64,
}

impl Store {
    /// Carries out a portion of what is due.
    ///
    /// # Errors
    /// `Paused` while frozen, `Unreachable`, `Refused`.
    pub async fn sweep(&self, items: u32) -> Result<Swept, StoreError> {
        let value = self.eval("sweep", |command| {
            command.arg(self.epoch()).arg(items.min(SWEEP_ITEMS_MAX));
        });
        let reply = Reply::read("sweep", value.await?)?;
        match reply.word.as_str() {
            "OK" => {
                let next: f64 = reply.get(1)?;
                let next_due = (next >= 0.0).then(|| Duration::from_millis(next as u64));
                Ok(Swept { handled: reply.get(0)?, next_due })
            }
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }

    /// Takes or renews the leadership.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn lead(&self, incarnation: &Incarnation, lease: Duration) -> Result<Leadership, StoreError> {
        let value = self.eval("lead", |command| {
            command.arg(self.epoch()).arg(incarnation.as_str()).arg(lease.as_millis() as u64);
        });
        let reply = Reply::read("lead", value.await?)?;
        match reply.word.as_str() {
            "LEADER" => Ok(Leadership::Leading),
            "STANDBY" => Ok(Leadership::Standby { leader: Incarnation::from_stored(reply.text(0)?) }),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }

    /// Stores items of a `foreach` from `offset` on; with the last of `total` they start.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one word of the script, and a struct would be used once"
    )]
    pub async fn expand(
        &self,
        incarnation: &Incarnation,
        task: &TaskId,
        attempt: Attempt,
        total: usize,
        offset: usize,
        max_parallel: Option<u32>,
        items: &[String],
    ) -> Result<Expansion, StoreError> {
        let value = self.eval("expand", |command| {
            command.arg(self.epoch()).arg(incarnation.as_str()).arg(task.run.as_str()).arg(task.index);
            command.arg(attempt.0).arg(total).arg(offset).arg(max_parallel.unwrap_or(0));
            command.arg(TASKS_PER_RUN_MAX).arg(items.len()).arg(items);
        });
        let reply = Reply::read("expand", value.await?)?;
        match reply.word.as_str() {
            "OK" | "DUP" => Ok(Expansion::Stored),
            "STALE" => Ok(Expansion::Stale),
            "LIMIT" => Ok(Expansion::TooMany { tasks: reply.get(0)? }),
            "GONE" => Err(StoreError::not_found(format!("run `{}`", task.run))),
            _ => Err(reply.unexpected()),
        }
    }

    /// Removes one finished run, or one that was never committed and is an hour old. False if it is
    /// still going on.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn collect_run(&self, run: &RunId) -> Result<bool, StoreError> {
        let mut cursor = "0".to_owned();
        loop {
            let value = self.eval("gc", |command| {
                command.arg(self.epoch()).arg(run.as_str()).arg(&cursor).arg(LOADING_FOR.as_millis() as u64);
            });
            let reply = Reply::read("gc", value.await?)?;
            match reply.word.as_str() {
                "OK" => return Ok(true),
                "BUSY" => return Ok(false),
                "MORE" => cursor = reply.text(0)?,
                "GONE" => return Err(Refusal::ClusterGone.into()),
                _ => return Err(reply.unexpected()),
            }
        }
    }

    /// Finished runs that the policy lets go, oldest first, at most `limit`.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn collectable(
        &self,
        policy: &RetentionPolicy,
        limit: usize,
    ) -> Result<Vec<RunId>, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGET").arg(self.keys().ctl()).arg("clk");
        pipeline.cmd("ZRANGE").arg(self.keys().done()).arg(0).arg(-1).arg("WITHSCORES");
        pipeline.cmd("ZRANGE").arg(self.keys().loading()).arg(0).arg(-1).arg("WITHSCORES");
        let mut values = self.ask_all(&pipeline).await?.into_iter();
        let mut next = || values.next().unwrap_or(redis::Value::Nil);
        let clock: f64 = decode("the clock", next())?;
        let finished: Vec<(String, f64)> = decode("finished runs", next())?;
        let loading: Vec<(String, f64)> = decode("runs that are being submitted", next())?;
        let sizes = self.run_sizes(&finished).await?;
        let mut bytes: u64 = sizes.iter().sum();
        let mut count = finished.len() as u64;
        let mut chosen: Vec<String> = loading
            .into_iter()
            .filter(|(_, since)| clock - since > LOADING_FOR.as_millis() as f64)
            .map(|(run, _)| run)
            .collect();
        for ((run, at), size) in finished.into_iter().zip(sizes) {
            let old = clock - at > policy.age.as_millis() as f64;
            if !old && count <= policy.runs && bytes <= policy.bytes {
                break;
            }
            count -= 1;
            bytes -= size;
            chosen.push(run);
            if chosen.len() >= limit {
                break;
            }
        }
        let read = |run: String| run.parse().map_err(|_| StoreError::unreadable("a run id", &run));
        chosen.into_iter().take(limit).map(read).collect()
    }

    async fn run_sizes(&self, runs: &[(String, f64)]) -> Result<Vec<u64>, StoreError> {
        let mut sizes = Vec::with_capacity(runs.len());
        for portion in runs.chunks(500) {
            let mut pipeline = redis::pipe();
            for (run, _) in portion {
                pipeline.cmd("HGET").arg(format!("{}r:{run}", self.keys().prefix())).arg("bytes");
            }
            for value in self.ask_all(&pipeline).await? {
                let size: Option<u64> = decode("a run's size", value)?;
                sizes.push(size.unwrap_or(0));
            }
        }
        Ok(sizes)
    }
}
