//! What passed through a side door, for whoever keeps a trace of a run.
//!
//! Told without waiting: a listener that does not keep up misses some, an agent never waits for it.

use std::time::SystemTime;

use maestro_model::ids::{Attempt, TaskId};
use maestro_store::state::TaskVoice;
use serde_json::Value;
use tokio::sync::mpsc;

/// One read or write of shared state by an attempt, after it was carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct DoorAccess {
    /// The task.
    pub task: TaskId,
    /// Which try of it.
    pub attempt: Attempt,
    /// When it was answered, by this host's clock.
    pub at: SystemTime,
    /// The key.
    pub key: String,
    /// What was done.
    pub kind: AccessKind,
}

/// What was done with a key.
#[derive(Debug, Clone, PartialEq)]
pub enum AccessKind {
    /// It was read, alone, in a list or by a watcher; none = there was nothing.
    Read {
        /// What was read.
        value: Option<Value>,
    },
    /// It was written.
    Written {
        /// What was written.
        value: Value,
        /// The version it became.
        version: u64,
    },
    /// It was removed.
    Deleted,
}

impl DoorAccess {
    /// Tells whoever listens. With the listener's channel full it is not told.
    pub(super) fn tell(
        listener: Option<&mpsc::Sender<DoorAccess>>,
        voice: &TaskVoice,
        key: &str,
        kind: AccessKind,
    ) {
        let Some(listener) = listener else { return };
        let (task, attempt) = (voice.task.clone(), voice.attempt);
        let _ =
            listener.try_send(DoorAccess { task, attempt, at: SystemTime::now(), key: key.to_owned(), kind });
    }
}
