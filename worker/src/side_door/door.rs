//! The life of a door: bound before the agent starts, open while it runs, gone with it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use maestro_model::ids::{Attempt, Incarnation, StepId, TaskId, WorkerName};
use maestro_store::Store;
use maestro_store::state::TaskVoice;
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::access::DoorAccess;
use super::answer::AttemptDoor;
use super::place::{BoundSocket, DoorPlaceError, ShortFolder};
use super::server::serve;
use super::watching::StateChanges;

/// How the doors of a worker are set up.
#[derive(Debug, Clone)]
pub struct SideDoorsSettings {
    /// Folders for sockets whose own place has too long a path: the first that is short enough and ours.
    pub short_folders: Vec<PathBuf>,
    /// What only one worker of this host is at a time.
    pub owner: String,
    /// Time to live of values that are written without one.
    pub state_ttl: Duration,
}

/// All side doors of a worker. Clones are the same.
#[derive(Debug, Clone)]
pub struct SideDoors {
    shared: Arc<DoorsShared>,
}

#[derive(Debug)]
struct DoorsShared {
    short: ShortFolder,
    state_ttl: Duration,
    store: watch::Receiver<Store>,
    changes: StateChanges,
}

/// Who is behind a door, as `GET /v1/task` says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskCard {
    /// The task.
    pub task: TaskId,
    /// Which try of it.
    pub attempt: Attempt,
    /// The run.
    pub run: String,
    /// The step.
    pub step: StepId,
    /// The workflow's name.
    pub workflow: String,
    /// The agent type.
    pub agent: String,
    /// The worker's name.
    pub worker: WorkerName,
}

impl SideDoors {
    /// Nothing is bound yet. `store` is the worker's, whichever it is at the moment.
    pub fn new(settings: SideDoorsSettings, store: watch::Receiver<Store>) -> SideDoors {
        let short = ShortFolder::new(settings.short_folders, &settings.owner);
        let changes = StateChanges::new(store.clone());
        let state_ttl = settings.state_ttl;
        SideDoors { shared: Arc::new(DoorsShared { short, state_ttl, store, changes }) }
    }

    /// A door for an attempt that is about to start. What comes through it is said with the store and in
    /// the name of the incarnation of this moment, so that a later one never speaks for it.
    pub fn pass(&self, task: TaskId, attempt: Attempt, incarnation: Incarnation) -> DoorPass {
        let store = self.shared.store.borrow().clone();
        let voice = TaskVoice { task, attempt, incarnation };
        DoorPass { shared: self.shared.clone(), store, voice, accesses: None }
    }
}

/// What makes a door for one attempt.
#[derive(Clone)]
pub struct DoorPass {
    shared: Arc<DoorsShared>,
    store: Store,
    voice: TaskVoice,
    accesses: Option<mpsc::Sender<DoorAccess>>,
}

impl fmt::Debug for DoorPass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("DoorPass").field(&self.voice).finish()
    }
}

impl DoorPass {
    /// Has every access of the attempt told to somebody, who reads quickly or misses some.
    #[must_use]
    pub fn telling(mut self, listener: mpsc::Sender<DoorAccess>) -> DoorPass {
        self.accesses = Some(listener);
        self
    }

    /// Listens, so that who connects is kept waiting and not refused. `own` is Maestro's own folder of the
    /// attempt. A few system calls, none of which waits.
    ///
    /// # Errors
    /// If the host refuses the socket.
    pub fn bind(self, own: &Path) -> Result<BoundDoor, DoorPlaceError> {
        let name = format!("{}.{}", self.voice.task, self.voice.attempt);
        let socket = BoundSocket::bind(own, &self.shared.short, &name)?;
        Ok(BoundDoor { pass: self, socket })
    }
}

/// A door nobody answers at yet. Dropped, its socket is gone.
#[derive(Debug)]
pub struct BoundDoor {
    pass: DoorPass,
    socket: BoundSocket,
}

impl BoundDoor {
    /// `MAESTRO_SOCKET`
    pub fn path(&self) -> &Path {
        &self.socket.path
    }

    /// Answers from now on, but only to processes below `supervisor`. Must be called within a runtime.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket.
    pub fn open(mut self, card: TaskCard, supervisor: u32) -> Result<OpenDoor, DoorPlaceError> {
        let listener = self.socket.listener.take().expect("it is taken once, here");
        let listener = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
        let listener =
            listener.map_err(|source| DoorPlaceError { path: self.socket.path.clone(), source })?;
        let DoorPass { shared, store, voice, accesses } = self.pass;
        let door = AttemptDoor::new(card, voice, store, shared.state_ttl, shared.changes.clone(), accesses);
        let serving = tokio::spawn(serve(listener, Arc::new(door), supervisor));
        Ok(OpenDoor { serving, _socket: self.socket, _shared: shared })
    }
}

/// A door that answers. Dropped, it is closed: its connections end and its socket is gone.
#[derive(Debug)]
pub struct OpenDoor {
    serving: JoinHandle<()>,
    _socket: BoundSocket,
    /// The short folder outlives the socket in it.
    _shared: Arc<DoorsShared>,
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
