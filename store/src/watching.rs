//! What those read who watch a cluster: runs that go on, losses so far, the newest snapshot, Redis' time.
//!
//! Only reads, but for the note of a snapshot, which whoever took it leaves beside the pointer: it stays when a
//! restore puts another generation in force.

use maestro_model::ids::RunId;
use redis::Value;

use crate::cell::{Store, decode};
use crate::error::StoreError;
use crate::keys;
use crate::runs::RunRecord;

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
