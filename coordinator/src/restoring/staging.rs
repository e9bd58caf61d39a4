//! Folders of an archive sent to their workers, each beside its place.
//!
//! The gzip members of a workspace are handed on as they lie in the file. Each worker gets one folder after the
//! other, all workers at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use maestro_model::mailbox::{
    STAGED_TOLD_MAX, StagedFact, StagedFolder, StagedOrder, StagedWorkspace, WorkerAnswer, WorkerQuestion,
};
use maestro_model::snapshot::{ArchivedWorkspace, FileDigest};
use maestro_store::Store;
use maestro_store::mailbox::Hearing;
use maestro_store::relay::RelayId;
use maestro_store::restoring::JournaledFolder;
use maestro_store::worker::AttachedProcess;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::carry_out::RestoreProgress;
use super::error::RestoreError;
use crate::archive::VerifiedArchive;

/// How long a worker may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a worker may take to write what it has received.
const UNPACKED_WITHIN: Duration = Duration::from_secs(600);
/// How long looking at folders and moving them may take: each is one name. While the cluster stands still no lease
/// runs out, so a worker that has died is known by its silence alone.
pub(super) const MOVED_WITHIN: Duration = Duration::from_secs(10);
/// Wait between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes read from the archive at one time.
const PORTION: usize = 256 << 10;

/// A folder that is not in its place, and why.
pub(super) type Misplaced = (JournaledFolder, String);

/// One folder on its way.
struct Parcel {
    workspace: ArchivedWorkspace,
    tree: FileDigest,
}

/// Sends every folder for which there is a worker; those that are staged, and those that could not be.
pub(super) async fn stage_folders(
    store: &Store,
    archive: &VerifiedArchive,
    restore: &str,
    workers: &[AttachedProcess],
    progress: &watch::Sender<RestoreProgress>,
) -> Result<(Vec<JournaledFolder>, Vec<Misplaced>), RestoreError> {
    let mut parcels: BTreeMap<&str, Vec<Parcel>> = BTreeMap::new();
    for (workspace, verified) in archive.manifest.workspaces.iter().zip(&archive.workspaces) {
        let parcel = Parcel { workspace: workspace.clone(), tree: verified.tree };
        parcels.entry(workspace.key.worker().as_str()).or_default().push(parcel);
    }
    let mut sending = JoinSet::new();
    let path: Arc<std::path::Path> = archive.path.clone().into();
    for worker in workers {
        let Some(parcels) = parcels.remove(worker.name.as_str()) else { continue };
        let (store, worker, restore, path) =
            (store.clone(), worker.clone(), restore.to_owned(), path.clone());
        let progress = progress.clone();
        sending.spawn(async move {
            let mut outcome = Vec::new();
            for parcel in parcels {
                let sent = send(&store, &worker, &restore, &path, &parcel, &progress).await;
                let folder = StagedFolder { key: parcel.workspace.key.clone(), role: parcel.workspace.role };
                let worker = parcel.workspace.key.worker().clone();
                outcome.push((JournaledFolder { folder, worker }, sent));
            }
            outcome
        });
    }
    let (mut staged, mut misplaced) = (Vec::new(), Vec::new());
    for (folder, sent) in sending.join_all().await.into_iter().flatten() {
        match sent {
            Ok(()) => staged.push(folder),
            Err(why) => misplaced.push((folder, why)),
        }
    }
    Ok((staged, misplaced))
}

async fn send(
    store: &Store,
    worker: &AttachedProcess,
    restore: &str,
    path: &std::path::Path,
    parcel: &Parcel,
    progress: &watch::Sender<RestoreProgress>,
) -> Result<(), String> {
    let folder = StagedFolder { key: parcel.workspace.key.clone(), role: parcel.workspace.role.clone() };
    let transfer = RelayId::random();
    let question = WorkerQuestion::StageWorkspace {
        restore: restore.to_owned(),
        workspace: StagedWorkspace {
            folder: folder.clone(),
            entries: parcel.workspace.entries,
            bytes: parcel.workspace.bytes,
            tree: parcel.tree,
        },
        transfer: transfer.as_str().to_owned(),
    };
    match ask(store, worker, &question, ANSWER_WITHIN).await? {
        WorkerAnswer::Receiving => {}
        other => return Err(said(worker, &other)),
    }
    let sent = send_members(store, &transfer, path, parcel, progress).await;
    let deadline = Instant::now() + UNPACKED_WITHIN;
    loop {
        let facts =
            staged(store, worker, restore, StagedOrder::Look, vec![folder.clone()], MOVED_WITHIN).await?;
        match (facts.into_iter().next(), &sent) {
            (Some(StagedFact::Staged), Ok(())) => return Ok(()),
            (Some(StagedFact::Failed { why }), _) => return Err(why),
            (_, Err(why)) => return Err(why.clone()),
            _ if Instant::now() >= deadline => return Err("it was not unpacked in time".to_owned()),
            _ => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

async fn send_members(
    store: &Store,
    transfer: &RelayId,
    path: &std::path::Path,
    parcel: &Parcel,
    progress: &watch::Sender<RestoreProgress>,
) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("the archive cannot be read: {error}");
    let mut file = File::open(path).await.map_err(unreadable)?;
    let members = parcel.workspace.members;
    file.seek(std::io::SeekFrom::Start(members.offset)).await.map_err(unreadable)?;
    let mut sender = store.relay_sender(transfer).await.map_err(|error| error.to_string())?;
    let mut buffer = vec![0; PORTION];
    let mut left = members.length;
    while left > 0 {
        let most = left.min(PORTION as u64) as usize;
        let read = match file.read(&mut buffer[..most]).await {
            Ok(0) => Err("the archive was cut short meanwhile".to_owned()),
            other => other.map_err(unreadable),
        };
        match read {
            Ok(read) => {
                sender.send(&buffer[..read]).await.map_err(|error| error.to_string())?;
                left -= read as u64;
                progress.send_modify(|progress| progress.bytes += read as u64);
            }
            Err(why) => {
                sender.give_up(&why).await;
                return Err(why);
            }
        }
    }
    sender.finish().await.map_err(|error| error.to_string())
}

/// What became of an order to a worker.
#[derive(Default)]
pub(super) struct OrderOutcome {
    /// Folders with which it did not work.
    pub(super) misplaced: Vec<Misplaced>,
    /// Folders of which it did not answer, and why: it may be asked again, and so may its successor.
    pub(super) unanswered: Vec<Misplaced>,
}

/// Has something done with folders of one worker.
pub(super) async fn order_folders(
    store: &Store,
    worker: &AttachedProcess,
    restore: &str,
    order: StagedOrder,
    folders: &[JournaledFolder],
    longest: Duration,
) -> OrderOutcome {
    let mut outcome = OrderOutcome::default();
    for portion in folders.chunks(STAGED_TOLD_MAX) {
        let asked = portion.iter().map(|folder| folder.folder.clone()).collect();
        match staged(store, worker, restore, order, asked, longest).await {
            Ok(facts) => {
                for (folder, fact) in portion.iter().zip(facts) {
                    if let StagedFact::Failed { why } = fact {
                        outcome.misplaced.push((folder.clone(), why));
                    }
                }
            }
            Err(why) => {
                outcome.unanswered.extend(portion.iter().map(|folder| (folder.clone(), why.clone())));
            }
        }
    }
    outcome
}

async fn staged(
    store: &Store,
    worker: &AttachedProcess,
    restore: &str,
    order: StagedOrder,
    folders: Vec<StagedFolder>,
    longest: Duration,
) -> Result<Vec<StagedFact>, String> {
    let question = WorkerQuestion::Staged { restore: restore.to_owned(), order, folders };
    match ask(store, worker, &question, longest).await? {
        WorkerAnswer::StagedFacts { facts } => Ok(facts),
        other => Err(said(worker, &other)),
    }
}

async fn ask(
    store: &Store,
    worker: &AttachedProcess,
    question: &WorkerQuestion,
    longest: Duration,
) -> Result<WorkerAnswer, String> {
    let name = &worker.name;
    match store.ask_worker(&worker.incarnation, question, longest).await {
        Ok(Hearing::Answered(WorkerAnswer::Refused { message, .. } | WorkerAnswer::Failed { message })) => {
            Err(message)
        }
        Ok(Hearing::Answered(answer)) => Ok(answer),
        Ok(Hearing::Silent) => Err(format!("worker `{name}` does not answer")),
        Ok(Hearing::Gone) => Err(format!("worker `{name}` has ended")),
        Ok(Hearing::Full) => Err(format!("too many questions wait for worker `{name}`")),
        Err(error) => Err(error.to_string()),
    }
}

fn said(worker: &AttachedProcess, answer: &WorkerAnswer) -> String {
    match answer {
        WorkerAnswer::NotUnderstood => format!("worker `{}` is of another version", worker.name),
        other => format!("worker `{}` answered {other:?}", worker.name),
    }
}
