//! What those read who watch a cluster: runs that go on, losses so far, the newest snapshot, Redis' time.
//!
//! Only reads, but for two notes: of a snapshot, which whoever took it leaves beside the pointer, so that it stays
//! when a restore puts another generation in force; and of what a webhook was told, so that no monitor, and none
//! that starts again, tells it twice.

use std::collections::HashMap;
use std::time::Duration;

use maestro_model::ids::RunId;
use redis::Value;

use crate::cell::{Store, decode};
use crate::error::StoreError;
use crate::keys;
use crate::runs::RunRecord;

/// What a webhook was told is forgotten if nothing more is told for so long.
const ALERTS_KEPT: Duration = Duration::from_secs(30 * 86_400);

/// A snapshot, as far as it is noted in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotNote {
    /// When it was taken, ms since 1970.
    pub taken_at_ms: u64,
    /// Size of its archive.
    pub bytes: u64,
}

/// Time and losses, as of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterMoment {
    /// Redis' clock, ms since 1970.
    pub now_ms: u64,
    /// Attempts lost with their worker, since the cluster was made or put back to a snapshot.
    pub losses: u64,
}

impl Store {
    /// Runs that have not ended; what that costs does not grow with those that have.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn open_runs(&self) -> Result<Vec<RunRecord>, StoreError> {
        let command = redis::cmd("ZDIFF").arg(2).arg(self.keys().runs()).arg(self.keys().done()).to_owned();
        let ids: Vec<String> = decode("the runs that go on", self.ask(&command).await?)?;
        let read = |id: &String| id.parse().map_err(|_| StoreError::unreadable("a run id", id));
        let ids = ids.iter().map(read).collect::<Result<Vec<RunId>, StoreError>>()?;
        let mut runs = self.read_runs(&ids).await?;
        // One may have ended between the two reads.
        runs.retain(|run| !run.status.is_final());
        Ok(runs)
    }

    /// Whether this handle's keys are those in force: a restore, or a Redis that came back empty, ends that.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn is_in_force(&self) -> Result<bool, StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(keys::pointer(self.namespace())).arg("generation").arg("cluster");
        let fields: (Option<u64>, Option<String>) =
            decode("the cluster's pointer", self.ask_pointer(&command).await?)?;
        Ok(fields == (Some(self.generation()), Some(self.cluster_id().to_owned())))
    }

    /// The time, and how many attempts were lost.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn moment(&self) -> Result<ClusterMoment, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME");
        pipeline.cmd("HGET").arg(self.keys().ctl()).arg("losses");
        let mut values = self.ask_all(&pipeline).await?.into_iter();
        let mut next = || values.next().unwrap_or(Value::Nil);
        let (seconds, micros): (u64, u64) = decode("the time", next())?;
        let losses: Option<u64> = decode("the losses", next())?;
        Ok(ClusterMoment { now_ms: seconds * 1000 + micros / 1000, losses: losses.unwrap_or(0) })
    }

    /// Workers whose lease has run out and that have not come back under their name, with when that was found,
    /// ms since 1970: of the last hundred, those since `since_ms`.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn lost_workers(&self, since_ms: u64) -> Result<Vec<(String, u64)>, StoreError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys().lost()).arg(since_ms).arg("+inf").arg("BYSCORE").arg("WITHSCORES");
        let found: Vec<(String, f64)> = decode("the workers that were lost", self.ask(&command).await?)?;
        Ok(found.into_iter().map(|(name, at_ms)| (name, at_ms as u64)).collect())
    }

    /// What a webhook was told of and is not over, by name: a record of whoever told it.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn told_alerts(&self, webhook: &str) -> Result<HashMap<String, String>, StoreError> {
        let command = redis::cmd("HGETALL").arg(self.keys().alerts(webhook)).to_owned();
        decode("what a webhook was told", self.ask(&command).await?)
    }

    /// Notes that a webhook is about to be told of something; false if somebody has noted it before.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn claim_alert(&self, webhook: &str, name: &str, record: &str) -> Result<bool, StoreError> {
        let key = self.keys().alerts(webhook);
        let mut pipeline = redis::pipe();
        pipeline.cmd("HSETNX").arg(&key).arg(name).arg(record);
        pipeline.cmd("EXPIRE").arg(&key).arg(ALERTS_KEPT.as_secs());
        let mut values = self.ask_all(&pipeline).await?.into_iter();
        Ok(decode::<u8>("whether an alert is new", values.next().unwrap_or(Value::Int(0)))? == 1)
    }

    /// Notes that it is over: the record of its beginning, or none if somebody has noted the end before.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn close_alert(&self, webhook: &str, name: &str) -> Result<Option<String>, StoreError> {
        let key = self.keys().alerts(webhook);
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGET").arg(&key).arg(name);
        pipeline.cmd("HDEL").arg(&key).arg(name);
        let mut values = self.ask_all(&pipeline).await?.into_iter();
        let mut next = || values.next().unwrap_or(Value::Nil);
        let record: Option<String> = decode("the record of an alert", next())?;
        let gone: u8 = decode("whether an alert is over", next())?;
        Ok(record.filter(|_| gone == 1))
    }

    /// Notes a snapshot that is whole, for those who watch.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn note_snapshot(&self, note: SnapshotNote) -> Result<(), StoreError> {
        let mut command = redis::cmd("HSET");
        command.arg(keys::pointer(self.namespace()));
        command.arg("snapshot_at").arg(note.taken_at_ms).arg("snapshot_bytes").arg(note.bytes);
        self.ask_pointer(&command).await.map(drop)
    }

    /// The newest snapshot that was noted.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn noted_snapshot(&self) -> Result<Option<SnapshotNote>, StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(keys::pointer(self.namespace())).arg("snapshot_at").arg("snapshot_bytes");
        let fields: (Option<u64>, Option<u64>) =
            decode("the newest snapshot", self.ask_pointer(&command).await?)?;
        Ok(fields.0.zip(fields.1).map(|(taken_at_ms, bytes)| SnapshotNote { taken_at_ms, bytes }))
    }
}
