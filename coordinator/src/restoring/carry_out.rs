//! A restore from the first question to the step that changes over.

use std::time::Duration;

use maestro_model::ids::Incarnation;
use maestro_model::mailbox::StagedFolder;
use maestro_model::snapshot::WorkspaceKey;
use maestro_store::Store;
use maestro_store::failpoint;
use maestro_store::restoring::{
    Committed, JournaledFolder, LoadingCell, PayloadChecks, RestoreCommit, RestoreJournal, RestoreStage,
};
use maestro_store::step::CellMode;
use maestro_store::worker::AttachedProcess;
use tokio::sync::{mpsc, watch};

use super::error::RestoreError;
use super::finishing::{FinishReport, clear_up, finish};
use super::plan::{PlannedFolder, VALUES_BETWEEN, active_tasks, live_workers, plan_folders, read_in_thread};
use super::staging::stage_folders;
use crate::archive::VerifiedArchive;
use crate::snapshot::HeldCluster;

/// How long the cluster stands still at most while everything is put beside its place.
const STILL_MAX: Duration = Duration::from_secs(3600);
/// Whoever carries a restore out and has not been heard of for so long is gone.
const SILENT_MAX_MS: u64 = 60_000;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Who asks, for people.
    pub by: String,
    /// Whether agents that work are ended.
    pub stop_agents: bool,
    /// Whether it goes on past folders that have no place.
    pub skip_failed: bool,
    /// Whether values are taken that Redis cannot check, and links that lead out.
    pub trust_archive: bool,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoreProgress {
    /// What is being done; none before it begins.
    pub step: Option<RestoreStep>,
    /// Bytes of it that are done.
    pub bytes: u64,
    /// How many there are in all, where it is measured in bytes.
    pub total: Option<u64>,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreStep {
    /// An earlier restore is finished first.
    FinishingAnother,
    /// The cluster is brought to stand still.
    Freezing,
    /// Keys are loaded beside those in force.
    Loading,
    /// Folders are sent to workers.
    Staging,
    /// The snapshot is in force; folders go into their places.
    Placing,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// The epoch from now on.
    pub epoch: String,
    /// Tasks that are queued again.
    pub queued_again: u64,
    /// Folders in their places.
    pub placed: usize,
    /// Those that are not, and why.
    pub misplaced: Vec<(String, String)>,
    /// Whether only what was left of an earlier restore of this archive had to be done.
    pub was_finished: bool,
}

/// Brings the cluster back to what the archive shows.
///
/// # Errors
/// See [`RestoreError`].
pub async fn restore(
    store: &Store,
    archive: &VerifiedArchive,
    request: &RestoreRequest,
    progress: &watch::Sender<RestoreProgress>,
) -> Result<RestoreReport, RestoreError> {
    let finished = finish_earlier(store, archive, progress).await?;
    // What is in force may be another generation by now.
    let store = &store.reopened().await?;
    if let Some(report) = finished {
        return Ok(report);
    }
    check(store, archive, request).await?;
    begin_step(progress, RestoreStep::Freezing, None);
    let gone = silent_processes(store).await?;
    let (held, missing) = HeldCluster::freeze(store, &request.by, STILL_MAX, gone).await?;
    failpoint::reach("restore-frozen");
    let mut journal = RestoreJournal {
        id: Incarnation::random().to_string(),
        stage: RestoreStage::Loading,
        from: store.generation(),
        to: store.generation() + 1,
        archive: archive.digest,
        by: request.by.clone(),
        folders: Vec::new(),
        seen_ms: 0,
    };
    let prepared = prepare(store, archive, request, &missing, &mut journal, progress).await;
    let (queued_again, skipped) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            undo(store, &journal, held).await;
            return Err(error);
        }
    };
    failpoint::reach("restore-staged");
    let commit = RestoreCommit { journal: &journal, freeze: held.id() };
    let epoch = match store.commit_restore(&commit).await {
        Ok(Committed::InForce(epoch)) => epoch,
        Ok(Committed::Thawed) => {
            undo(store, &journal, held).await;
            return Err(crate::snapshot::SnapshotError::NotHeld.into());
        }
        // Whether it took place is not known: whoever comes next sees.
        Err(error) => return Err(RestoreError::Unfinished { why: error.to_string() }),
    };
    drop(held);
    failpoint::reach("restore-committed");
    begin_step(progress, RestoreStep::Placing, None);
    let unfinished = |error: RestoreError| RestoreError::Unfinished { why: error.to_string() };
    let restored = store.reopened().await.map_err(|error| unfinished(error.into()))?;
    let FinishReport { placed, mut misplaced } = finish(&restored, &journal).await.map_err(unfinished)?;
    misplaced
        .extend(skipped.into_iter().map(|folder| (folder.workspace, folder.obstacle.unwrap_or_default())));
    Ok(RestoreReport { epoch, queued_again, placed, misplaced, was_finished: false })
}

/// What an earlier restore has left to be done comes first; if it was of this archive, that is all.
async fn finish_earlier(
    store: &Store,
    archive: &VerifiedArchive,
    progress: &watch::Sender<RestoreProgress>,
) -> Result<Option<RestoreReport>, RestoreError> {
    let Some(journal) = store.restore_journal().await? else { return Ok(None) };
    match journal.stage {
        RestoreStage::Committed | RestoreStage::Clearing => {
            begin_step(progress, RestoreStep::FinishingAnother, None);
            let restored = store.reopened().await?;
            let FinishReport { placed, misplaced } = finish(&restored, &journal).await?;
            let report = RestoreReport {
                epoch: restored.epoch(),
                queued_again: 0,
                placed,
                misplaced,
                was_finished: true,
            };
            Ok((journal.archive == archive.digest).then_some(report))
        }
        RestoreStage::Loading | RestoreStage::Staged => {
            let silent_ms = store.redis_time_ms().await?.saturating_sub(journal.seen_ms);
            let is_held = store.freeze_view().await?.is_some();
            if is_held && silent_ms < SILENT_MAX_MS {
                return Err(RestoreError::AnotherOne { by: journal.by });
            }
            clear_up(store, &journal).await?;
            Ok(None)
        }
        RestoreStage::Done => Ok(None),
    }
}

async fn check(
    store: &Store,
    archive: &VerifiedArchive,
    request: &RestoreRequest,
) -> Result<(), RestoreError> {
    let manifest = &archive.manifest;
    let dump_bytes = archive.index.keys.iter().map(|entry| entry.length).sum();
    store.check_loadable(manifest, archive.index.rdb_version, dump_bytes).await?;
    let is_ours = manifest.cluster == store.cluster_id();
    if archive.links_out.0 > 0 && !is_ours && !request.trust_archive {
        let first = archive.links_out.1.first().cloned().unwrap_or_default();
        return Err(RestoreError::LinksOut { count: archive.links_out.0, first });
    }
    let active = active_tasks(store).await?;
    let is_stopped = store.cell_mode().await? == CellMode::Paused && store.mode().await?.word == "stopped";
    if let Some(first) = active.first().filter(|_| !request.stop_agents && !is_stopped) {
        return Err(RestoreError::Active { count: active.len(), first: first.task.clone() });
    }
    let mut folders = plan_folders(archive, &live_workers(store).await?);
    folders.retain(|folder| folder.obstacle.is_some());
    if folders.is_empty() || request.skip_failed { Ok(()) } else { Err(RestoreError::Unplaced { folders }) }
}

async fn silent_processes(store: &Store) -> Result<Vec<Incarnation>, RestoreError> {
    let processes = store.processes().await?;
    let silent = processes.into_iter().filter(|process| !process.alive);
    Ok(silent.map(|process| process.incarnation).collect())
}

/// Everything beside its place; how many tasks are queued again, and the folders that are passed over.
async fn prepare(
    store: &Store,
    archive: &VerifiedArchive,
    request: &RestoreRequest,
    missing: &[Incarnation],
    journal: &mut RestoreJournal,
    progress: &watch::Sender<RestoreProgress>,
) -> Result<(u64, Vec<PlannedFolder>), RestoreError> {
    let mut workers = live_workers(store).await?;
    // One that did not pause does not answer either, and is refused by the epoch when it wakes up.
    workers.retain(|worker| !missing.contains(&worker.incarnation));
    journal.folders = placeable_folders(archive, &workers);
    store.write_restore_journal(journal).await?;
    let key_bytes = archive.index.keys.iter().map(|entry| entry.length).sum();
    begin_step(progress, RestoreStep::Loading, Some(key_bytes));
    let queued_again = load(store, archive, request, journal, progress).await?;
    failpoint::reach("restore-loaded");
    begin_step(progress, RestoreStep::Staging, Some(bytes_for(archive, &workers)));
    let (staged, misplaced) = stage_folders(store, archive, &journal.id, &workers, progress).await?;
    let mut folders = plan_folders(archive, &workers);
    for planned in &mut folders {
        let found = misplaced.iter().find(|(folder, _)| folder.folder.key.to_string() == planned.workspace);
        planned.obstacle = found.map(|(_, why)| why.clone()).or(planned.obstacle.take());
    }
    folders.retain(|planned| planned.obstacle.is_some());
    if !folders.is_empty() && !request.skip_failed {
        return Err(RestoreError::Unplaced { folders });
    }
    journal.folders = staged;
    journal.stage = RestoreStage::Staged;
    store.write_restore_journal(journal).await?;
    Ok((queued_again, folders))
}

/// Those whose workers are there: what may be left of them if nobody goes on.
fn placeable_folders(archive: &VerifiedArchive, workers: &[AttachedProcess]) -> Vec<JournaledFolder> {
    let of_live = archive
        .manifest
        .workspaces
        .iter()
        .filter(|workspace| workers.iter().any(|worker| worker.name == workspace.key.worker().as_str()));
    let folders = of_live.map(|workspace| JournaledFolder {
        folder: StagedFolder { key: workspace.key.clone(), role: workspace.role.clone() },
        worker: workspace.key.worker().clone(),
    });
    folders.collect()
}

/// What is to be sent to these workers, as it lies in the archive.
fn bytes_for(archive: &VerifiedArchive, workers: &[AttachedProcess]) -> u64 {
    let has_worker = |key: &WorkspaceKey| workers.iter().any(|worker| worker.name == key.worker().as_str());
    let sent = archive.manifest.workspaces.iter().filter(|workspace| has_worker(&workspace.key));
    sent.map(|workspace| workspace.members.length).sum()
}

fn begin_step(progress: &watch::Sender<RestoreProgress>, step: RestoreStep, total: Option<u64>) {
    progress.send_replace(RestoreProgress { step: Some(step), bytes: 0, total });
}

async fn load(
    store: &Store,
    archive: &VerifiedArchive,
    request: &RestoreRequest,
    journal: &RestoreJournal,
    progress: &watch::Sender<RestoreProgress>,
) -> Result<u64, RestoreError> {
    let checks = if request.trust_archive { PayloadChecks::Trusted } else { store.check_payloads().await? };
    let loaded = load_values(store, archive, journal, progress).await;
    store.reset_payload_checks(&checks).await?;
    Ok(loaded?.finish(store.cluster_id()).await?)
}

async fn load_values(
    store: &Store,
    archive: &VerifiedArchive,
    journal: &RestoreJournal,
    progress: &watch::Sender<RestoreProgress>,
) -> Result<LoadingCell, RestoreError> {
    let (values, mut coming) = mpsc::channel(VALUES_BETWEEN);
    let reading = read_in_thread(archive, values);
    let mut cell = LoadingCell::begin(store, journal.to);
    let mut ttls = archive.index.keys.iter();
    while let Some((name, payload)) = coming.recv().await {
        // Values come in the order of the index, without the pointer.
        let entry = ttls.find(|entry| entry.key.split_once("}:").is_some_and(|(_, rest)| rest == name));
        let entry = entry.ok_or_else(|| RestoreError::BrokeDown { why: format!("`{name}` came twice") })?;
        cell.add(entry, payload).await?;
        progress.send_modify(|progress| progress.bytes += entry.length);
    }
    reading.await.map_err(|error| RestoreError::BrokeDown { why: error.to_string() })??;
    cell.send().await?;
    Ok(cell)
}

/// The cluster goes on as it was. What cannot be removed now, the next restore removes.
async fn undo(store: &Store, journal: &RestoreJournal, held: HeldCluster) {
    if let Err(error) = clear_up(store, journal).await {
        tracing::warn!(
            "keys and folders of the restore stay beside their places until the next one: {error}"
        );
    }
    held.let_go().await;
}
