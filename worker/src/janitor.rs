//! Removes workspaces that are older than the retention time: oldest first, a portion at a time.
//!
//! Only what is named like an attempt's folder or a run's is looked at, so an assigned folder is never
//! touched; nothing goes while its run has not ended, whichever worker of this host it belonged to; and a
//! folder with an unclean git tree is kept and reported. What a worker that was killed has left is found
//! here like everything else.
//!
//! Several clusters may share a root. What ended is marked with its cluster, and another cluster's is left
//! alone; what bears no mark and belongs to no run that is known here stays a week longer.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use maestro_model::ids::{Attempt, RunId, TaskId};
use maestro_store::{Store, StoreError};
use tokio::sync::watch;

use crate::git_tree::unclean_tree;
use crate::held::HeldAttempts;
use crate::workspace::{WorkspacePaths, WorkspacePlace, WorkspaceRoot, read_own_head};

/// Longest and shortest time between two looks; the retention time decides between them.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// Looks within one retention time.
const LOOKS_PER_RETENTION: u32 = 10;
/// Folders removed in one look.
const PORTION: usize = 256;
/// Files removed at one time, and the pause after them.
const TRASH_PORTION: (usize, Duration) = (500, Duration::from_millis(20));
/// Files removed in one look.
const TRASH_PORTIONS_MAX: u32 = 1_000;
/// What bears no mark and belongs to no known run stays so much longer: its cluster may be another one.
const UNKNOWN_STAYS: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest id of a cluster that is read.
const MARK_BYTES_MAX: usize = 256;
/// How long a folder or run that had to stay is not looked at again.
const SPARED_FOR: Duration = Duration::from_secs(3600);
/// How many of each are remembered.
const SPARED_MAX: usize = 10_000;

/// How long things stay.
#[derive(Debug, Clone, Copy)]
pub struct JanitorSettings {
    /// From the end of a task, and of its run.
    pub retention: Duration,
}

/// What one look came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JanitorTick {
    /// Workspaces removed.
    pub removed: usize,
    /// Workspaces that were due, but kept for an unclean git tree.
    pub kept: usize,
}

/// The loop.
#[derive(Debug)]
pub struct Janitor {
    settings: JanitorSettings,
    root: WorkspaceRoot,
    held: HeldAttempts,
    spared_runs: HashMap<RunId, Instant>,
    spared_folders: HashMap<PathBuf, Instant>,
}

/// What the cluster says of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunEnd {
    /// It goes on, or ended within the retention time.
    StillOpen,
    /// It ended before.
    Past,
    /// It was collected, or is another cluster's.
    Unknown,
}

/// What an attempt or a run has left: up to two folders.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Leftover {
    /// When it was last written to.
    pub(crate) at: SystemTime,
    /// Whose it is, or whose task's.
    pub(crate) run: RunId,
    /// Which attempt; none for the folder of a run.
    pub(crate) attempt: Option<(TaskId, Attempt)>,
    /// The agent's folder, and Maestro's own beside it.
    pub(crate) folder: PathBuf,
    pub(crate) own: Option<PathBuf>,
    /// Where the end of it is marked.
    mark: PathBuf,
}

impl Janitor {
    /// Nothing is looked at yet.
    pub fn new(settings: JanitorSettings, root: WorkspaceRoot, held: HeldAttempts) -> Janitor {
        Janitor { settings, root, held, spared_runs: HashMap::new(), spared_folders: HashMap::new() }
    }

    /// Looks again and again, until dropped.
    pub async fn run(mut self, store: watch::Receiver<Store>) {
        // What a predecessor had moved aside.
        self.empty_trash().await;
        let pause = (self.settings.retention / LOOKS_PER_RETENTION).clamp(LOOK_EVERY.0, LOOK_EVERY.1);
        loop {
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.7..1.3))).await;
            let store = store.borrow().clone();
            match self.tick(&store).await {
                Ok(JanitorTick { removed: 0, .. }) => {}
                Ok(JanitorTick { removed, kept }) => tracing::info!(removed, kept, "removed old workspaces"),
                Err(error) => tracing::debug!("old workspaces stay for now: {error}"),
            }
        }
    }

    /// One look.
    ///
    /// # Errors
    /// If the store cannot say which runs have ended: what is not known to have ended stays.
    pub async fn tick(&mut self, store: &Store) -> Result<JanitorTick, StoreError> {
        self.spared_runs.retain(|_, since| since.elapsed() < SPARED_FOR);
        self.spared_folders.retain(|_, since| since.elapsed() < SPARED_FOR);
        let mut tick = JanitorTick::default();
        let mut ended: HashMap<RunId, RunEnd> = HashMap::new();
        for leftover in self.find_due().await {
            let end = match ended.get(&leftover.run) {
                Some(known) => *known,
                None => {
                    let end = self.end_of(store, &leftover.run).await?;
                    ended.insert(leftover.run.clone(), end);
                    end
                }
            };
            if end == RunEnd::StillOpen {
                spare(&mut self.spared_runs, leftover.run);
            } else if end == RunEnd::Unknown && !self.is_ours(&leftover, store.cluster_id()) {
                spare(&mut self.spared_folders, leftover.folder);
            } else if let Some(tree) = unclean_tree(&self.root, &leftover.folder).await {
                tracing::warn!(tree = %tree.display(), "kept: an old workspace whose git tree is unclean");
                spare(&mut self.spared_folders, leftover.folder);
                tick.kept += 1;
            } else if self.remove(&leftover).await {
                tick.removed += 1;
            }
        }
        self.empty_trash().await;
        Ok(tick)
    }

    async fn end_of(&self, store: &Store, run: &RunId) -> Result<RunEnd, StoreError> {
        let Some(record) = store.run(run).await? else { return Ok(RunEnd::Unknown) };
        let finished = record.finished_at_ms.filter(|_| record.status.is_final());
        let finished = finished.map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        let is_past = finished.is_some_and(|at| at.elapsed().is_ok_and(|age| age > self.settings.retention));
        Ok(if is_past { RunEnd::Past } else { RunEnd::StillOpen })
    }

    /// Of a run that is not known here: whether it was this cluster's, and has been collected.
    fn is_ours(&self, leftover: &Leftover, cluster: &str) -> bool {
        match read_own_head(&leftover.mark, MARK_BYTES_MAX) {
            Some(_) => is_marked_by(leftover, cluster),
            None => {
                let stays = self.settings.retention.saturating_add(UNKNOWN_STAYS);
                leftover.at.elapsed().is_ok_and(|age| age > stays)
            }
        }
    }

    async fn find_due(&self) -> Vec<Leftover> {
        let before = SystemTime::now().checked_sub(self.settings.retention);
        // A retention time longer than time itself keeps everything.
        let Some(before) = before else { return Vec::new() };
        let root = self.root.path().to_owned();
        let spared_runs: HashSet<RunId> = self.spared_runs.keys().cloned().collect();
        let spared_folders: HashSet<PathBuf> = self.spared_folders.keys().cloned().collect();
        let held = self.held.lock().expect("no holder panics").clone();
        let look = move || {
            let is_spared = |leftover: &Leftover| {
                leftover.at >= before
                    || spared_runs.contains(&leftover.run)
                    || spared_folders.contains(&leftover.folder)
                    || leftover.attempt.as_ref().is_some_and(|attempt| held.contains(attempt))
            };
            let mut oldest: BinaryHeap<Leftover> = BinaryHeap::new();
            for_each_leftover(&root, &mut |leftover| {
                if is_spared(&leftover) {
                    return;
                }
                oldest.push(leftover);
                if oldest.len() > PORTION {
                    oldest.pop();
                }
            });
            oldest.into_sorted_vec()
        };
        // A look that broke down removes nothing.
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    async fn remove(&self, leftover: &Leftover) -> bool {
        let (root, leftover) = (self.root.clone(), leftover.clone());
        let work = move || {
            let Leftover { folder, own, mark, .. } = leftover;
            root.discard_path(&folder)?;
            // Maestro's own folder has its mark in it.
            root.discard_path(&own.unwrap_or(mark))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!("an old workspace stays: {error}");
                false
            }
            Err(_) => false,
        }
    }

    async fn empty_trash(&self) {
        for _ in 0..TRASH_PORTIONS_MAX {
            let root = self.root.clone();
            let portion = tokio::task::spawn_blocking(move || root.empty_trash(TRASH_PORTION.0)).await;
            match portion {
                Ok(Ok(portion)) if portion.more => tokio::time::sleep(TRASH_PORTION.1).await,
                Ok(Ok(portion)) => {
                    if portion.stuck > 0 {
                        tracing::warn!(stuck = portion.stuck, "some removed workspaces cannot be deleted");
                    }
                    return;
                }
                Ok(Err(error)) => return tracing::warn!("removed workspaces cannot be deleted: {error}"),
                Err(_) => return,
            }
        }
    }
}

fn spare<K: std::hash::Hash + Eq>(spared: &mut HashMap<K, Instant>, what: K) {
    if spared.len() < SPARED_MAX {
        spared.insert(what, Instant::now());
    }
}

/// Whether a leftover is marked as that of a cluster.
pub(crate) fn is_marked_by(leftover: &Leftover, cluster: &str) -> bool {
    read_own_head(&leftover.mark, MARK_BYTES_MAX).is_some_and(|mark| mark == cluster.as_bytes())
}

/// Writes the end of an attempt down: the age of its workspace is counted from here, and whose it was is
/// known when its run has been collected.
pub fn mark_ended(paths: &WorkspacePaths, cluster: &str) {
    // One that cannot be marked stays a while longer.
    let _ = std::fs::write(paths.own.join(MARK), cluster);
    if paths.place == WorkspacePlace::Run {
        let _ = std::fs::write(run_mark(&paths.folder), cluster);
    }
}

/// The mark of a run's folder lies beside it: the folder itself is the agents'.
fn run_mark(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".ended");
    PathBuf::from(name)
}

/// The mark of an attempt, in Maestro's own folder.
const MARK: &str = "ended";

/// Names each leftover of an attempt or a run below the root once.
pub(crate) fn for_each_leftover(root: &Path, each: &mut impl FnMut(Leftover)) {
    for_each_entry(&root.join(".runs"), &mut |path, name| {
        // A template that was being copied for the run lies beside it.
        let run = name.split_once(".new-").map_or(name, |(run, _)| run);
        let mark = run_mark(&path);
        let at = modified(&path).max(modified(&mark));
        if let (Ok(run), Some(at)) = (run.parse(), at) {
            each(Leftover { at, run, attempt: None, folder: path, own: None, mark });
        }
    });
    for_each_entry(root, &mut |agent, name| {
        if name.starts_with('.') {
            return;
        }
        for_each_entry(&agent, &mut |path, name| {
            let stem = name.strip_suffix(OWN).unwrap_or(name);
            let Some((task, attempt)) = read_stem(stem) else { return };
            let (folder, own) = (agent.join(stem), agent.join(format!("{stem}{OWN}")));
            // Of the two folders the one that is listed second would name the pair again.
            if name == stem && own.is_dir() {
                return;
            }
            let times = [modified(&path), modified(&folder), modified(&own.join("agent.log"))];
            let Some(at) = times.into_iter().flatten().max() else { return };
            let run = task.run.clone();
            let mark = own.join(MARK);
            each(Leftover { at, run, attempt: Some((task, attempt)), folder, own: Some(own), mark });
        });
    });
}

/// Whether it is marked as another cluster's.
pub(crate) fn is_strangers(leftover: &Leftover, cluster: &str) -> bool {
    read_own_head(&leftover.mark, MARK_BYTES_MAX).is_some() && !is_marked_by(leftover, cluster)
}

/// What Maestro's own folder beside a workspace is called.
const OWN: &str = ".maestro";

/// `<run>.<index>`, and from the second attempt on `<run>.<index>.<attempt>`.
pub(crate) fn read_stem(stem: &str) -> Option<(TaskId, Attempt)> {
    if let Ok(task) = stem.parse() {
        return Some((task, Attempt(1)));
    }
    let (task, attempt) = stem.rsplit_once('.')?;
    Some((task.parse().ok()?, Attempt(attempt.parse().ok()?)))
}

/// Names each real folder in a folder; links are none.
fn for_each_entry(folder: &Path, each: &mut impl FnMut(PathBuf, &str)) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let (true, Some(name)) = (is_folder, entry.file_name().to_str()) {
            each(entry.path(), name);
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::symlink_metadata(path).ok()?.modified().ok()
}
