//! Making a workspace out of what another step left.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use maestro_model::ids::{Incarnation, StepId};
use maestro_model::mailbox::{WorkerAnswer, WorkerQuestion};
use maestro_store::mailbox::Hearing;
use maestro_store::relay::{RelayError, RelayId, RelayReceiver};
use maestro_store::worker::{AttachedProcess, ProcessRole};
use maestro_store::{Store, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::source::{LeftBehind, SourceTask, find_source};
use super::stream::{PieceReader, pieces};
use crate::tree::{UnpackError, UnpackLimits, unpack_tree};
use crate::workspace::{WorkspaceError, WorkspacePaths, WorkspaceRoot, make_folder};

/// Most entries of a folder that is copied from another worker.
const ENTRIES_MAX: u64 = 10_000_000;
/// How long a worker may take to say whether it has a folder.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Wait before workers are asked once more.
const ASK_AGAIN_WAIT: Duration = Duration::from_secs(1);

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The step left no folder, and will not.
    #[error("there is no folder of step `{step}` to copy: {why}")]
    Nothing {
        /// The step.
        step: StepId,
        /// Why not.
        why: String,
    },
    /// No worker that lives has it any more.
    #[error(
        "the folder that step `{step}` left is lost with its worker (hint: `maestro workflow run <NAME> --resume-from {step}`)"
    )]
    Lost {
        /// The step.
        step: StepId,
    },
    /// This host failed.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// It did not come through; another time it may.
    #[error("the folder that step `{step}` left did not come through: {why}")]
    Interrupted {
        /// The step.
        step: StepId,
        /// What happened last.
        why: String,
    },
    /// Redis refused, or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Copies folders of other steps; clones are the same.
#[derive(Debug, Clone)]
pub struct Bringer {
    store: watch::Receiver<Store>,
    root: WorkspaceRoot,
    patience: Duration,
}

/// How one try to get it from other workers ended.
enum Fetched {
    Here,
    /// Its worker says that it has it no more.
    Removed,
    /// Its worker is gone, and nobody else has it.
    Nowhere,
    /// Somebody may have it, and did not deliver.
    Failed(String),
}

impl Bringer {
    /// `patience` is how long a worker that has gone is waited for: a restarted one takes its folders over.
    pub fn new(store: watch::Receiver<Store>, root: WorkspaceRoot, patience: Duration) -> Bringer {
        Bringer { store, root, patience }
    }

    /// Makes the folder of an attempt, whose own folder is there already, as a copy.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub async fn bring(&self, source: &SourceTask, paths: &WorkspacePaths) -> Result<(), CopyError> {
        let store = self.store.borrow().clone();
        let left = find_source(&store, source).await?;
        let here = self.root.paths(&left.agent, &left.task, left.attempt, left.place()).folder;
        if fs::symlink_metadata(&here).is_ok_and(|found| found.is_dir()) {
            let (root, paths) = (self.root.clone(), paths.clone());
            return Ok(off_the_loop(move || root.copy_into(&paths, &here)).await??);
        }
        let deadline = Instant::now() + self.patience;
        loop {
            let outcome = self.fetch(&store, &left, paths).await?;
            let patient = Instant::now() < deadline;
            match outcome {
                Fetched::Here => break,
                Fetched::Removed => return Err(CopyError::Lost { step: source.step.clone() }),
                Fetched::Nowhere if !patient => return Err(CopyError::Lost { step: source.step.clone() }),
                Fetched::Failed(why) if !patient => {
                    return Err(CopyError::Interrupted { step: source.step.clone(), why });
                }
                Fetched::Nowhere | Fetched::Failed(_) => tokio::time::sleep(ASK_AGAIN_WAIT).await,
            }
        }
        let (root, paths) = (self.root.clone(), paths.clone());
        Ok(off_the_loop(move || root.adopt(&paths, &paths.incoming())).await??)
    }

    /// Asks the worker that ran the attempt, and if it is gone all others: one of them may be its successor,
    /// or share its disk.
    async fn fetch(
        &self,
        store: &Store,
        left: &LeftBehind,
        paths: &WorkspacePaths,
    ) -> Result<Fetched, CopyError> {
        let mut candidates: Vec<AttachedProcess> = store.processes().await?;
        candidates.retain(|process| process.about.role == ProcessRole::Worker && process.alive);
        let owner = candidates.iter().position(|process| Some(&process.incarnation) == left.owner.as_ref());
        if let Some(owner) = owner {
            return self.fetch_from(store, &candidates[owner].incarnation, left, paths).await;
        }
        let mut failure = None;
        for process in &candidates {
            match self.fetch_from(store, &process.incarnation, left, paths).await? {
                Fetched::Here => return Ok(Fetched::Here),
                Fetched::Nowhere | Fetched::Removed => {}
                Fetched::Failed(why) => failure = Some(why),
            }
        }
        Ok(failure.map_or(Fetched::Nowhere, Fetched::Failed))
    }

    async fn fetch_from(
        &self,
        store: &Store,
        worker: &Incarnation,
        left: &LeftBehind,
        paths: &WorkspacePaths,
    ) -> Result<Fetched, CopyError> {
        let transfer = RelayId::random();
        // Before anybody sends: what is published to nobody is gone.
        let receiver = store.relay_receiver(&transfer).await?;
        let question = WorkerQuestion::SendFolder {
            task: left.task.clone(),
            attempt: left.attempt,
            agent: left.agent.clone(),
            folder: left.folder.clone(),
            transfer: transfer.as_str().to_owned(),
        };
        match store.ask_worker(worker, &question, ANSWER_WAIT).await? {
            Hearing::Answered(WorkerAnswer::Sending) => self.receive(receiver, paths).await,
            Hearing::Answered(WorkerAnswer::NoSuchFolder) => Ok(Fetched::Removed),
            // It was there a moment ago: a restarted one may take its folders over.
            Hearing::Gone => Ok(Fetched::Nowhere),
            Hearing::Answered(WorkerAnswer::NotUnderstood) => {
                Ok(Fetched::Failed("its worker is of an older version".to_owned()))
            }
            Hearing::Answered(answer) => Ok(Fetched::Failed(format!("its worker answered {answer:?}"))),
            Hearing::Silent => Ok(Fetched::Failed("its worker does not answer".to_owned())),
            Hearing::Full => Ok(Fetched::Failed("too many questions wait for its worker".to_owned())),
        }
    }

    async fn receive(
        &self,
        mut receiver: RelayReceiver,
        paths: &WorkspacePaths,
    ) -> Result<Fetched, CopyError> {
        let incoming = paths.incoming();
        let (sender, packed) = pieces();
        let unpacking = tokio::task::spawn_blocking(move || unpack(PieceReader::new(packed), &incoming));
        let outcome = loop {
            match receiver.next().await {
                Ok(Some(piece)) => {
                    if sender.send(piece).await.is_err() {
                        // The other end of the way has said why by ending.
                        receiver.give_up("it cannot be unpacked").await;
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        drop(sender);
        let unpacked = unpacking.await.map_err(|error| broke_down(&error))?;
        match (outcome, unpacked) {
            (Ok(()), Ok(())) => Ok(Fetched::Here),
            (Err(RelayError::Store(error)), _) => Err(error.into()),
            (Err(error), _) => Ok(Fetched::Failed(error.to_string())),
            (Ok(()), Err(UnpackError::Host { path, source })) => {
                Err(WorkspaceError::Host { action: "unpack", path, source }.into())
            }
            (Ok(()), Err(error)) => Ok(Fetched::Failed(error.to_string())),
        }
    }
}

/// Unpacks into a folder that is made anew: an earlier try may have left some of it.
fn unpack(packed: PieceReader, incoming: &Path) -> Result<(), UnpackError> {
    let host = |source| UnpackError::Host { path: incoming.to_owned(), source };
    match fs::remove_dir_all(incoming) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(host(error)),
        _ => {}
    }
    make_folder(incoming).map_err(|error| host(io::Error::other(error)))?;
    let room = rustix::fs::statvfs(incoming).map_err(|error| host(error.into()))?;
    let bytes = room.f_bavail.saturating_mul(room.f_frsize);
    unpack_tree(packed, incoming, UnpackLimits { bytes, entries: ENTRIES_MAX }).map(drop)
}

/// Runs work that waits for the disk, where that harms nobody.
async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CopyError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| broke_down(&error))
}

fn broke_down(error: &tokio::task::JoinError) -> CopyError {
    let source = io::Error::other(error.to_string());
    WorkspaceError::Host { action: "copy into", path: "the workspace".into(), source }.into()
}
