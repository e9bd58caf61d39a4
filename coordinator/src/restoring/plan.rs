//! What a restore would do: looks at the cluster and the archive, and changes neither.

use std::collections::{BTreeMap, BTreeSet};

use maestro_model::ids::WorkerName;
use maestro_model::snapshot::{KeyFate, KeyShape, WorkspaceRole};
use maestro_store::Store;
use maestro_store::restoring::KeyComparison;
use maestro_store::worker::{AttachedProcess, ProcessRole};
use serde::Serialize;
use tokio::sync::mpsc;

use super::error::RestoreError;
use crate::archive::{ArchiveReadError, DumpedValue, VerifiedArchive, read_values};

/// Values on their way between the thread that reads and the task that compares.
pub(super) const VALUES_BETWEEN: usize = 4;

/// A task whose agent works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActiveTask {
    /// The task.
    pub task: String,
    /// The worker that runs it.
    pub worker: String,
}

/// A folder of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedFolder {
    /// Its name in the archive: worker, owner, name.
    pub workspace: String,
    /// Where an assigned one goes; others go below the worker's root.
    pub path: Option<String>,
    /// The worker that gets it.
    pub worker: String,
    /// Its bytes.
    pub bytes: u64,
    /// Why it has no place.
    pub obstacle: Option<String>,
}

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestorePlan {
    /// Keys that are only in the snapshot, by their name within the cell.
    pub added: Vec<String>,
    /// Keys that are another in the snapshot.
    pub changed: Vec<String>,
    /// Keys that are not in the snapshot.
    pub removed: Vec<String>,
    /// Folders that are replaced.
    pub folders: Vec<PlannedFolder>,
    /// Tasks that run now; what they have done since the snapshot is given up.
    pub active: Vec<ActiveTask>,
    /// Tasks that ran when the snapshot was taken, and are queued again.
    pub queued_again: u64,
    /// Symbolic links that lead out of their workspaces.
    pub links_out: u64,
}

/// Works it out.
///
/// # Errors
/// `Archive`, `Store`.
pub async fn plan_restore(store: &Store, archive: &VerifiedArchive) -> Result<RestorePlan, RestoreError> {
    let workers = live_workers(store).await?;
    let (added, changed, removed) = compare_keys(store, archive).await?;
    Ok(RestorePlan {
        added,
        changed,
        removed,
        folders: plan_folders(archive, &workers),
        active: active_tasks(store).await?,
        queued_again: archive.manifest.counts.running,
        links_out: archive.links_out.0,
    })
}

pub(super) async fn live_workers(store: &Store) -> Result<Vec<AttachedProcess>, RestoreError> {
    let mut processes = store.processes().await?;
    processes.retain(|process| process.alive && process.about.role == ProcessRole::Worker);
    Ok(processes)
}

/// Tasks that some worker holds.
pub(super) async fn active_tasks(store: &Store) -> Result<Vec<ActiveTask>, RestoreError> {
    let processes = store.processes().await?;
    let incarnations: Vec<_> = processes.iter().map(|process| process.incarnation.clone()).collect();
    let held = store.held_tasks(&incarnations).await?;
    let mut active = Vec::new();
    for (process, tasks) in processes.iter().zip(held) {
        // What a coordinator carries out is over in a moment, and starts again.
        if process.about.role == ProcessRole::Worker {
            active.extend(
                tasks.iter().map(|task| ActiveTask { task: task.to_string(), worker: process.name.clone() }),
            );
        }
    }
    Ok(active)
}

/// Where each folder goes: to the worker of its name.
pub(super) fn plan_folders(archive: &VerifiedArchive, workers: &[AttachedProcess]) -> Vec<PlannedFolder> {
    let names: BTreeSet<&str> = workers.iter().map(|worker| worker.name.as_str()).collect();
    let planned = archive.manifest.workspaces.iter().map(|workspace| {
        let worker: &WorkerName = workspace.key.worker();
        let path = match &workspace.role {
            WorkspaceRole::Assigned { path } => Some(path.clone()),
            WorkspaceRole::Task | WorkspaceRole::Run => None,
        };
        let obstacle = (!names.contains(worker.as_str())).then(|| {
            let shown = path.as_deref().unwrap_or(workspace.key.name());
            format!("workspace missing: {shown} on {worker}: no such worker is alive")
        });
        PlannedFolder {
            workspace: workspace.key.to_string(),
            path,
            worker: worker.to_string(),
            bytes: workspace.bytes,
            obstacle,
        }
    });
    planned.collect()
}

/// Names of keys added, changed and removed, each list in order.
async fn compare_keys(
    store: &Store,
    archive: &VerifiedArchive,
) -> Result<(Vec<String>, Vec<String>, Vec<String>), RestoreError> {
    let (values, mut coming) = mpsc::channel::<(String, Vec<u8>)>(VALUES_BETWEEN);
    let reading = read_in_thread(archive, values);
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    let mut present: BTreeMap<String, ()> = store
        .cell_key_names()
        .await?
        .into_iter()
        .filter(|name| is_compared(name))
        .map(|name| (name, ()))
        .collect();
    while let Some((name, payload)) = coming.recv().await {
        if !is_compared(&name) {
            continue;
        }
        match store.compare_key(&name, &payload).await? {
            KeyComparison::Absent => added.push(name.clone()),
            KeyComparison::Different => changed.push(name.clone()),
            KeyComparison::Same => {}
        }
        present.remove(&name);
    }
    reading.await.map_err(|error| RestoreError::BrokeDown { why: error.to_string() })??;
    added.sort_unstable();
    changed.sort_unstable();
    Ok((added, changed, present.into_keys().collect()))
}

/// What people think of as the state of the cluster: not its clock, not who is there, not what it tells.
fn is_compared(name: &str) -> bool {
    let own_business = ["ctl", "vt", "events", "deadlines", "combined"].contains(&name)
        || ["own:", "slots:", "short:"].iter().any(|beginning| name.starts_with(beginning));
    !own_business && KeyShape::of(name).is_some_and(|shape| shape.fate == KeyFate::Kept)
}

/// Reads values off the loop; names are those within the cell, and the pointer is passed over.
pub(super) fn read_in_thread(
    archive: &VerifiedArchive,
    values: mpsc::Sender<(String, Vec<u8>)>,
) -> tokio::task::JoinHandle<Result<(), ArchiveReadError>> {
    let archive = archive.clone();
    tokio::task::spawn_blocking(move || {
        read_values(&archive, &mut |value: DumpedValue<'_>| {
            let Some((_, name)) = value.entry.key.split_once("}:") else { return Ok(()) };
            // Nobody takes it any more: whoever does not has an error of its own to tell.
            let _ = values.blocking_send((name.to_owned(), value.payload));
            Ok(())
        })
    })
}
