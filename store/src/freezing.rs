//! Holding the cluster still for a snapshot or a restore, and letting it go on.
//!
//! A freeze has a lease: whoever froze renews it, and once that ends anybody may thaw. It runs on the plain time of
//! Redis, because the logical clock stands still meanwhile. Who is waited for, and for how long, is decided by whoever
//! freezes; what happens to agents, by their workers.

use std::time::Duration;

use maestro_model::ids::Incarnation;

use crate::cell::{Reply, Store, decode};
use crate::error::{Refusal, StoreError};
use crate::keys;

/// How long a freeze holds without a renewal.
pub const FREEZE_LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub const FREEZE_RENEWAL: Duration = Duration::from_secs(5);

/// The name of one freeze; only who knows it renews it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct FreezeId(String);

impl FreezeId {
    /// One that nobody else has.
    pub fn random() -> FreezeId {
        FreezeId(Incarnation::random().to_string())
    }

    /// As it is stored and told.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How far a freeze has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezeStage {
    /// Workers are pausing their agents.
    Freezing,
    /// Nothing changes.
    Frozen,
}

/// A freeze that is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeView {
    /// Its name.
    pub id: FreezeId,
    /// Who asked for it.
    pub by: String,
    /// How far it has come.
    pub stage: FreezeStage,
}

/// How a freeze stands after a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FreezeStanding {
    /// Nothing changes any more, until the thaw.
    Frozen,
    /// These workers have not paused yet.
    Waiting(Vec<Incarnation>),
    /// It was thawed: what was read since may not belong together.
    Lost,
}

/// What became of a request to thaw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thawed {
    /// The cell goes on, in this mode.
    GoesOn(String),
    /// It was not frozen, or by somebody else.
    NotFrozen,
    /// Whoever froze it is still there.
    Held,
    /// Another generation is in force: this one is over.
    Retired,
}

impl Store {
    /// Begins to hold the cell still; the word of the mode before. Ends by itself after `deadline`, however
    /// diligently it is renewed.
    ///
    /// # Errors
    /// `Frozen` while another freeze is on, `WrongMode` while Redis is being recovered; `Unreachable`.
    pub async fn freeze(&self, id: &FreezeId, by: &str, deadline: Duration) -> Result<(), StoreError> {
        // One whose owner is gone is not waited for.
        self.thaw_if_abandoned(by).await?;
        let value = self.eval("freeze", |command| {
            command.arg(self.epoch()).arg(id.as_str()).arg(by);
            command.arg(FREEZE_LEASE.as_millis() as u64).arg(deadline.as_millis() as u64);
        });
        let reply = Reply::read("freeze", value.await?)?;
        match reply.word.as_str() {
            "OK" | "DUP" => Ok(()),
            "MODE" => Err(Refusal::WrongMode { mode: reply.text(0)? }.into()),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }

    /// A worker says that its agents stand still and its reports are in; false if nobody waits for that any more.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn freeze_paused(&self, incarnation: &Incarnation, id: &FreezeId) -> Result<bool, StoreError> {
        let value = self.eval("freeze_paused", |command| {
            command.arg(self.epoch()).arg(incarnation.as_str()).arg(id.as_str());
        });
        let reply = Reply::read("freeze_paused", value.await?)?;
        match reply.word.as_str() {
            "OK" => Ok(true),
            "NONE" => Ok(false),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }

    /// Renews a freeze. Workers in `missing` are not waited for any more.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn renew_freeze(
        &self,
        id: &FreezeId,
        missing: &[Incarnation],
    ) -> Result<FreezeStanding, StoreError> {
        let value = self.eval("freeze_renew", |command| {
            command
                .arg(self.epoch())
                .arg(id.as_str())
                .arg(FREEZE_LEASE.as_millis() as u64)
                .arg(missing.len());
            for incarnation in missing {
                command.arg(incarnation.as_str());
            }
        });
        let reply = Reply::read("freeze_renew", value.await?)?;
        match reply.word.as_str() {
            "OK" if reply.text(0)? == "frozen" => Ok(FreezeStanding::Frozen),
            "WAIT" => {
                let waits: Vec<String> = reply.get(0)?;
                Ok(FreezeStanding::Waiting(waits.into_iter().map(Incarnation::from_stored).collect()))
            }
            "LOST" => Ok(FreezeStanding::Lost),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }

    /// Ends a freeze of one's own.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn thaw(&self, id: &FreezeId, by: &str) -> Result<Thawed, StoreError> {
        self.send_thaw(id.as_str(), by).await
    }

    /// Ends a freeze whose owner has not renewed it, or that has lasted too long. Anybody may ask, as often as they
    /// like; without a freeze it costs one read.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn thaw_if_abandoned(&self, by: &str) -> Result<Thawed, StoreError> {
        let word: Option<String> = decode("the cell's mode", self.ask_ctl("mode").await?)?;
        match word.as_deref() {
            Some("freezing" | "frozen") => self.send_thaw("", by).await,
            _ => Ok(Thawed::NotFrozen),
        }
    }

    async fn send_thaw(&self, id: &str, by: &str) -> Result<Thawed, StoreError> {
        let pointer = redis::cmd("HGET").arg(keys::pointer(self.namespace())).arg("generation").to_owned();
        let generation: Option<String> =
            decode("the cluster's generation", self.ask_pointer(&pointer).await?)?;
        let generation = generation.ok_or(Refusal::ClusterGone)?;
        let value = self.eval("thaw", |command| {
            command.arg(id).arg(generation).arg(by);
        });
        let reply = Reply::read("thaw", value.await?)?;
        match reply.word.as_str() {
            "OK" => Ok(Thawed::GoesOn(reply.text(0)?)),
            "NONE" => Ok(Thawed::NotFrozen),
            "HELD" => Ok(Thawed::Held),
            "RETIRED" => Ok(Thawed::Retired),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }

    /// The freeze that is on, if there is one.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn freeze_view(&self) -> Result<Option<FreezeView>, StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(self.keys().ctl()).arg(&["mode", "freeze", "freeze_by"]);
        let (mode, id, by): (Option<String>, Option<String>, Option<String>) =
            decode("the cell's freeze", self.ask(&command).await?)?;
        let stage = match mode.as_deref() {
            Some("freezing") => FreezeStage::Freezing,
            Some("frozen") => FreezeStage::Frozen,
            _ => return Ok(None),
        };
        Ok(id.map(|id| FreezeView { id: FreezeId(id), by: by.unwrap_or_default(), stage }))
    }

    async fn ask_ctl(&self, field: &str) -> Result<redis::Value, StoreError> {
        self.ask(redis::cmd("HGET").arg(self.keys().ctl()).arg(field)).await
    }
}
