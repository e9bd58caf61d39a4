//! All of a snapshot in order: still, keys, folders, on again, sealed, read once more, in its place.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use maestro_model::ids::{Incarnation, WorkerName};
use maestro_model::snapshot::{
    AGENTS_FILE_VERSION, AbsentWorker, AgentsFile, ArchivedWorker, ArchivedWorkspace, MANIFEST_FORMAT,
    Manifest, SnapshotCounts, WorkerCoverage,
};
use maestro_store::Store;
use maestro_store::cell::SCHEMA;
use maestro_store::key_dump::LogChoice;
use maestro_store::worker::{AttachedProcess, ProcessRole};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::barrier::HeldCluster;
use super::error::SnapshotError;
use super::folder::WorkFolder;
use super::keys::{SpooledKeys, spool_keys};
use super::receiving::{ReceiveFailure, ReceivedFolders, receive_folders};
use super::writing::ArchiveWriter;
use crate::archive::{ReadProgress, verify_archive};

/// What is wanted.
#[derive(Debug, Clone)]
pub struct SnapshotRequest {
    /// The archive; its folder must be there.
    pub output: PathBuf,
    /// In somebody's words.
    pub label: Option<String>,
    /// Whether logs of attempts go with it.
    pub include_logs: bool,
    /// Who asks, for people.
    pub by: String,
    /// The cluster goes on after this time, whatever has been read.
    pub deadline: Duration,
    /// Agents that are failed.
    pub failed_agents: Vec<String>,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// What is being done.
    pub stage: SnapshotStage,
    /// Keys read.
    pub keys: u64,
    /// Bytes received of workspaces, compressed; while the archive is read once more, bytes of that.
    pub bytes: u64,
    /// How many there are in all, where that is known.
    pub total: Option<u64>,
}

/// What is being done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SnapshotStage {
    /// Agents pause.
    #[default]
    Freezing,
    /// Keys are read.
    Keys,
    /// Workers send folders.
    Folders,
    /// The cluster goes on; the archive is put together.
    Joining,
    /// The archive is read once more.
    Verifying,
}

/// A snapshot that lies in its place.
#[derive(Debug, Clone)]
pub struct TakenSnapshot {
    /// Where.
    pub path: PathBuf,
    /// Bytes of the archive.
    pub bytes: u64,
    /// What it says of itself, without the list of files.
    pub manifest: Manifest,
    /// How long nothing moved.
    pub still_for: Duration,
}

impl TakenSnapshot {
    /// Whether one would go back to it: nothing is missing, and no agent was failed.
    pub fn is_good(&self) -> bool {
        !self.manifest.partial && self.manifest.failed_agents.is_empty()
    }
}

/// Takes a snapshot. The cluster goes on as soon as all has been read, and in any case when this returns.
///
/// # Errors
/// See [`SnapshotError`]; then there is no archive. Workers that are missing are none: the manifest is `partial`.
pub async fn take_snapshot(
    store: &Store,
    request: &SnapshotRequest,
    progress: &watch::Sender<SnapshotProgress>,
) -> Result<TakenSnapshot, SnapshotError> {
    let work = WorkFolder::make(&request.output)?;
    let workers = workers_of(store).await?;
    let gone = workers.iter().filter(|worker| !worker.alive).map(|worker| worker.incarnation.clone());
    let begun = Instant::now();
    let (held, missing) = HeldCluster::freeze(store, &request.by, request.deadline, gone.collect()).await?;
    maestro_store::failpoint::reach("snapshot-frozen");
    let read = read_all(store, request, progress, &work, workers, &missing).await;
    let read = match read {
        Ok(read) => read,
        Err(error) => {
            held.let_go().await;
            return Err(error);
        }
    };
    maestro_store::failpoint::reach("snapshot-read");
    held.thaw().await?;
    let still_for = begun.elapsed();
    progress.send_modify(|progress| progress.stage = SnapshotStage::Joining);
    let (path, manifest) = join(read, &work)?;
    maestro_store::failpoint::reach("snapshot-joined");
    progress.send_modify(|progress| (progress.stage, progress.bytes) = (SnapshotStage::Verifying, 0));
    let bytes = verify(path.clone(), progress.clone()).await?;
    work.put_in_place(&path, &request.output)?;
    maestro_store::failpoint::reach("snapshot-in-place");
    Ok(TakenSnapshot { path: request.output.clone(), bytes, manifest, still_for })
}

/// Everything that was read while nothing moved.
struct AllRead {
    archive: ArchiveWriter,
    received: Vec<ReceivedFolders>,
    manifest: Manifest,
}

async fn workers_of(store: &Store) -> Result<Vec<AttachedProcess>, SnapshotError> {
    let mut processes = store.processes().await?;
    processes.retain(|process| process.about.role == ProcessRole::Worker);
    Ok(processes)
}

async fn read_all(
    store: &Store,
    request: &SnapshotRequest,
    progress: &watch::Sender<SnapshotProgress>,
    work: &WorkFolder,
    workers: Vec<AttachedProcess>,
    missing: &[Incarnation],
) -> Result<AllRead, SnapshotError> {
    progress.send_modify(|progress| progress.stage = SnapshotStage::Keys);
    let taken_at_ms = store.server_time_ms().await?;
    let logs = if request.include_logs { LogChoice::With } else { LogChoice::Without };
    let on_keys = |keys| progress.send_modify(|progress| progress.keys = keys);
    let keys = spool_keys(store, logs, taken_at_ms, work.path(), on_keys).await?;
    maestro_store::failpoint::reach("snapshot-keys");
    let mut archive = ArchiveWriter::begin(work.path(), taken_at_ms / 1000)?;
    let agents = write_agents(store, work.path()).await?;
    archive.add_file("maestro/agents.yaml", &agents)?;
    archive.add_file("maestro/redis/index.json", &keys.index)?;
    archive.add_file("maestro/redis/dump.rdb", &keys.dump)?;
    let mut manifest = manifest_of(store, request, &keys, &workers, taken_at_ms).await?;
    progress.send_modify(|progress| progress.stage = SnapshotStage::Folders);
    let mut received = Vec::new();
    for (worker, outcome) in receive_all(store, request, progress, work.path(), workers, missing).await? {
        let coverage = match outcome {
            Ok(folders) => {
                let coverage = coverage_of(&folders);
                received.push(folders);
                coverage
            }
            Err(why) => WorkerCoverage::Missing(AbsentWorker { why }),
        };
        manifest.partial |= coverage != WorkerCoverage::Packed;
        manifest.workers.push(ArchivedWorker { name: worker.0, host: worker.1, coverage });
    }
    Ok(AllRead { archive, received, manifest })
}

fn coverage_of(folders: &ReceivedFolders) -> WorkerCoverage {
    let Some(first) = folders.all.unread.first() else { return WorkerCoverage::Packed };
    let more = folders.all.unread.len() - 1;
    let others = if more > 0 { format!(", and {more} more") } else { String::new() };
    let why = format!("workspace missing: `{}`: {}{others}", first.path, first.why);
    WorkerCoverage::Missing(AbsentWorker { why })
}

type NamedHost = (WorkerName, String);

/// All workers at one time; in the order of their names.
async fn receive_all(
    store: &Store,
    request: &SnapshotRequest,
    progress: &watch::Sender<SnapshotProgress>,
    folder: &Path,
    workers: Vec<AttachedProcess>,
    missing: &[Incarnation],
) -> Result<Vec<(NamedHost, Result<ReceivedFolders, String>)>, SnapshotError> {
    let is_missing = |worker: &AttachedProcess| missing.contains(&worker.incarnation);
    let name_of = |worker: &AttachedProcess| worker.name.parse::<WorkerName>().ok();
    let peers: Vec<WorkerName> =
        workers.iter().filter(|worker| !is_missing(worker)).filter_map(name_of).collect();
    let mut outcomes = Vec::new();
    let mut receiving = JoinSet::new();
    for worker in workers {
        let Some(name) = name_of(&worker) else { continue };
        let host = worker.about.host.clone();
        if is_missing(&worker) {
            outcomes.push(((name, host), Err("its agents could not be paused".to_owned())));
            continue;
        }
        let (store, peers, logs) = (store.clone(), peers.clone(), request.include_logs);
        let stem = folder.join(format!("worker-{}", receiving.len()));
        let progress = progress.clone();
        receiving.spawn(async move {
            let on_bytes = move |bytes| progress.send_modify(|progress| progress.bytes += bytes);
            ((name, host), receive_folders(store, worker, peers, logs, stem, on_bytes).await)
        });
    }
    while let Some(ended) = receiving.join_next().await {
        let (worker, outcome) = ended.expect("receiving does not panic and is not cancelled");
        match outcome {
            Ok(folders) => outcomes.push((worker, Ok(folders))),
            Err(ReceiveFailure::Missing(why)) => outcomes.push((worker, Err(why))),
            Err(ReceiveFailure::Snapshot(error)) => return Err(error),
        }
    }
    outcomes.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(outcomes)
}

async fn write_agents(store: &Store, folder: &Path) -> Result<PathBuf, SnapshotError> {
    let types = store.agent_types().await?;
    let types = types.values().map(|agent| serde_json::to_value(agent).expect("plain data")).collect();
    let assignments = store.assignments().await?.into_values().collect();
    let file = AgentsFile { v: AGENTS_FILE_VERSION, types, assignments };
    let text = serde_saphyr::to_string(&file)
        .map_err(|error| SnapshotError::unlawful(format!("an agent type ({error})")))?;
    let path = folder.join("agents.yaml");
    std::fs::write(&path, text).map_err(SnapshotError::disk(&path))?;
    Ok(path)
}

async fn manifest_of(
    store: &Store,
    request: &SnapshotRequest,
    keys: &SpooledKeys,
    workers: &[AttachedProcess],
    taken_at_ms: u64,
) -> Result<Manifest, SnapshotError> {
    let epoch = store.epoch();
    Ok(Manifest {
        format: MANIFEST_FORMAT,
        maestro_version: env!("CARGO_PKG_VERSION").to_owned(),
        redis_version: store.server_version().await?,
        cluster: store.cluster_id().to_owned(),
        namespace: store.namespace().to_owned(),
        generation: store.generation(),
        epoch: epoch.parse().map_err(|_| SnapshotError::unlawful(format!("the epoch `{epoch}`")))?,
        schema: SCHEMA.to_owned(),
        taken_at_ms,
        label: request.label.clone(),
        partial: false,
        include_logs: request.include_logs,
        failed_agents: request.failed_agents.clone(),
        counts: SnapshotCounts {
            keys: keys.count.keys,
            runs: keys.count.runs,
            running: workers.iter().map(|worker| u64::from(worker.holds)).sum(),
            state: keys.count.state,
            ..SnapshotCounts::default()
        },
        workers: Vec::new(),
        workspaces: Vec::new(),
        files: Vec::new(),
    })
}

/// Puts the archive together; nothing of the cluster is needed any more.
fn join(read: AllRead, work: &WorkFolder) -> Result<(PathBuf, Manifest), SnapshotError> {
    let AllRead { mut archive, received, mut manifest } = read;
    for folders in received {
        let range = archive.append_file(&folders.members)?;
        archive.entries().add_all(folders.entries)?;
        let placed = folders.workspaces.into_iter().map(|mut workspace: ArchivedWorkspace| {
            workspace.members.offset += range.offset;
            workspace
        });
        manifest.workspaces.extend(placed);
        // Its place on disk is needed for the next one.
        std::fs::remove_file(&folders.members).map_err(SnapshotError::disk(&folders.members))?;
    }
    manifest.counts.workspaces = manifest.workspaces.len() as u64;
    manifest.counts.entries = archive.entries().count;
    manifest.counts.bytes = archive.entries().bytes;
    let path = archive.finish(&manifest, work.path())?;
    Ok((path, manifest))
}

/// Reads the archive as a restore would; its size.
async fn verify(path: PathBuf, progress: watch::Sender<SnapshotProgress>) -> Result<u64, SnapshotError> {
    let shown = path.clone();
    let mut on_progress = move |read: ReadProgress| {
        progress.send_modify(|progress| (progress.bytes, progress.total) = (read.done, Some(read.total)));
    };
    let verified = tokio::task::spawn_blocking(move || verify_archive(&path, &mut on_progress)).await;
    let verified = verified.map_err(|error| SnapshotError::disk(shown)(std::io::Error::other(error)))?;
    Ok(verified.map_err(SnapshotError::Unread)?.bytes)
}
