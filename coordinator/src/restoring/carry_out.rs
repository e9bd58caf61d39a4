//! A restore from the first question to the step that changes over.

use std::time::Duration;

use maestro_model::ids::Incarnation;
use maestro_store::Store;
use maestro_store::failpoint;
use maestro_store::restoring::{
    Committed, JournaledFolder, LoadingCell, PayloadChecks, RestoreCommit, RestoreJournal, RestoreStage,
};
use maestro_store::step::CellMode;
use tokio::sync::mpsc;

use super::error::RestoreError;
use super::finishing::{FinishReport, drop_folders, finish};
use super::plan::{VALUES_BETWEEN, active_tasks, live_workers, plan_folders, read_in_thread};
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
    on_step: &mut dyn FnMut(RestoreStep),
) -> Result<RestoreReport, RestoreError> {
    let finished = finish_earlier(store, archive, on_step).await?;
    // What is in force may be another generation by now.
    let store = &store.reopened().await?;
    if let Some(report) = finished {
        return Ok(report);
    }
    check(store, archive, request).await?;
    on_step(RestoreStep::Freezing);
    let gone = silent_processes(store).await?;
    let (held, _) = HeldCluster::freeze(store, &request.by, STILL_MAX, gone).await?;
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
    let prepared = prepare(store, archive, request, &mut journal, on_step).await;
    let queued_again = match prepared {
        Ok(queued_again) => queued_again,
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
    on_step(RestoreStep::Placing);
    let unfinished = |error: RestoreError| RestoreError::Unfinished { why: error.to_string() };
    let restored = store.reopened().await.map_err(|error| unfinished(error.into()))?;
    let FinishReport { placed, misplaced } = finish(&restored, &journal).await.map_err(unfinished)?;
    Ok(RestoreReport { epoch, queued_again, placed, misplaced, was_finished: false })
}

/// What an earlier restore has left to be done comes first; if it was of this archive, that is all.
async fn finish_earlier(
    store: &Store,
    archive: &VerifiedArchive,
    on_step: &mut dyn FnMut(RestoreStep),
) -> Result<Option<RestoreReport>, RestoreError> {
    let Some(journal) = store.restore_journal().await? else { return Ok(None) };
    match journal.stage {
        RestoreStage::Committed => {
            on_step(RestoreStep::FinishingAnother);
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

/// Everything beside its place; how many tasks are queued again.
async fn prepare(
    store: &Store,
    archive: &VerifiedArchive,
    request: &RestoreRequest,
    journal: &mut RestoreJournal,
    on_step: &mut dyn FnMut(RestoreStep),
) -> Result<u64, RestoreError> {
    store.write_restore_journal(journal).await?;
    // What an earlier try has left under this generation, or another has.
    store.collect_generations().await?;
    on_step(RestoreStep::Loading);
    let queued_again = load(store, archive, request, journal).await?;
    failpoint::reach("restore-loaded");
    on_step(RestoreStep::Staging);
    let workers = live_workers(store).await?;
    let (staged, misplaced) = stage_folders(store, archive, &journal.id, &workers).await?;
    journal.folders = staged;
    if !misplaced.is_empty() && !request.skip_failed {
        let mut folders = plan_folders(archive, &workers);
        folders.retain_mut(|planned| {
            let found =
                misplaced.iter().find(|(folder, _)| folder.folder.key.to_string() == planned.workspace);
            planned.obstacle = found.map(|(_, why)| why.clone());
            found.is_some()
        });
        return Err(RestoreError::Unplaced { folders });
    }
    journal.stage = RestoreStage::Staged;
    store.write_restore_journal(journal).await?;
    Ok(queued_again)
}

async fn load(
    store: &Store,
    archive: &VerifiedArchive,
    request: &RestoreRequest,
    journal: &RestoreJournal,
) -> Result<u64, RestoreError> {
    let checks = if request.trust_archive { PayloadChecks::Trusted } else { store.check_payloads().await? };
    let loaded = load_values(store, archive, journal).await;
    store.reset_payload_checks(&checks).await?;
    Ok(loaded?.finish(store.cluster_id()).await?)
}

async fn load_values(
    store: &Store,
    archive: &VerifiedArchive,
    journal: &RestoreJournal,
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
    }
    reading.await.map_err(|error| RestoreError::BrokeDown { why: error.to_string() })??;
    cell.send().await?;
    Ok(cell)
}

/// The cluster goes on as it was. What cannot be removed now, the next restore removes.
async fn undo(store: &Store, journal: &RestoreJournal, held: HeldCluster) {
    let none: [&JournaledFolder; 0] = [];
    if let Err(error) = drop_folders(store, journal, &none).await {
        tracing::warn!("folders of the restore stay beside their places: {error}");
    }
    if let Err(error) = store.collect_generations().await {
        tracing::warn!("keys of the restore stay until the next one: {error}");
    }
    held.let_go().await;
}
