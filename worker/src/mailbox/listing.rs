//! Which workspaces there are on this host, and how large they are.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use maestro_model::assignment::Assignment;
use maestro_model::mailbox::{WORKSPACES_TOLD_MAX, WorkerAnswer, WorkspaceFacts, WorkspaceKind};

use super::answering::{MailAnswer, MailDesk, off_the_loop};
use crate::janitor::{Leftover, for_each_leftover};

/// Files and folders of one workspace that are counted.
const COUNTED_MAX: u64 = 2_000_000;
/// Bytes of a block in which disks are counted.
const BLOCK_BYTES: u64 = 512;

impl MailDesk {
    pub(super) async fn workspaces(&self, of: Option<String>, sizes: bool) -> MailAnswer {
        let assigned = self.assigned_here().await?;
        let (root, running) = (self.root.path().to_owned(), self.running_folders());
        Ok(off_the_loop(move || {
            let mut list = Vec::new();
            for_each_leftover(&root, &mut |leftover| list.push(facts_of(&leftover, &running)));
            list.extend(assigned.iter().map(|one| assigned_facts(one, &running)));
            let types: HashSet<String> = types_of(&assigned, of.as_deref());
            list.retain(|one| of.as_ref().is_none_or(|of| one.of == *of || types.contains(&one.of)));
            list.sort_by(|a, b| (&a.of, &a.path).cmp(&(&b.of, &b.path)));
            let more = list.len() > WORKSPACES_TOLD_MAX;
            list.truncate(WORKSPACES_TOLD_MAX);
            if sizes {
                list.iter_mut().for_each(measure);
            }
            WorkerAnswer::Workspaces { list, more }
        })
        .await)
    }

    /// Agents that are assigned to this worker.
    pub(super) async fn assigned_here(&self) -> Result<Vec<Assignment>, maestro_store::StoreError> {
        let all = self.store().assignments().await?;
        Ok(all.into_values().filter(|one| one.worker == self.name).collect())
    }

    /// Folders in which something of this worker runs.
    pub(super) fn running_folders(&self) -> HashSet<PathBuf> {
        let live = self.live.lock().expect("no holder panics");
        live.values().map(|one| one.paths.folder.clone()).collect()
    }
}

/// Ids of assigned agents that are of a type.
fn types_of(assigned: &[Assignment], of: Option<&str>) -> HashSet<String> {
    let matching = assigned.iter().filter(|one| Some(one.agent_type.as_str()) == of);
    matching.map(|one| one.id.to_string()).collect()
}

/// What is known of the folder of an attempt or a run without looking into it.
pub(super) fn facts_of(leftover: &Leftover, running: &HashSet<PathBuf>) -> WorkspaceFacts {
    let of = match &leftover.attempt {
        Some(_) => owner(&leftover.folder),
        None => leftover.run.to_string(),
    };
    // An attempt in an assigned or a run's folder has nothing but Maestro's own files here.
    let shown = match &leftover.own {
        Some(own) if !leftover.folder.is_dir() => own,
        _ => &leftover.folder,
    };
    let attempt = leftover.attempt.as_ref().map(|(task, attempt)| match attempt.0 {
        1 => task.to_string(),
        later => format!("{task}.{later}"),
    });
    WorkspaceFacts {
        of,
        kind: if attempt.is_some() { WorkspaceKind::Task } else { WorkspaceKind::Run },
        path: shown.display().to_string(),
        attempt,
        in_use: running.contains(&leftover.folder),
        changed_ms: since_1970(leftover.at),
        bytes: None,
        files: None,
        note: None,
    }
}

/// The type or agent whose folder an attempt's lies in.
pub(super) fn owner(folder: &Path) -> String {
    let parent = folder.parent().and_then(Path::file_name);
    parent.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn assigned_facts(assigned: &Assignment, running: &HashSet<PathBuf>) -> WorkspaceFacts {
    let path = Path::new(&assigned.path);
    let changed = fs::metadata(path).and_then(|found| found.modified());
    WorkspaceFacts {
        of: assigned.id.to_string(),
        kind: WorkspaceKind::Assigned,
        path: assigned.path.clone(),
        attempt: None,
        in_use: running.contains(path),
        changed_ms: changed.as_ref().map_or(0, |at| since_1970(*at)),
        bytes: None,
        files: None,
        note: changed.err().map(|error| format!("cannot be read: {error}")),
    }
}

fn since_1970(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Counts files and bytes; of an attempt, Maestro's own folder beside it as well.
pub(super) fn measure(workspace: &mut WorkspaceFacts) {
    let mut count = DiskCount::default();
    count.add(Path::new(&workspace.path));
    if workspace.kind == WorkspaceKind::Task && !workspace.path.ends_with(".maestro") {
        count.add(Path::new(&format!("{}.maestro", workspace.path)));
    }
    workspace.bytes = Some(count.bytes);
    workspace.files = Some(count.files);
    if count.files >= COUNTED_MAX {
        workspace.note = Some(format!("counted up to {COUNTED_MAX} files"));
    }
}

#[derive(Debug, Default)]
struct DiskCount {
    bytes: u64,
    files: u64,
    /// Hard links are one file.
    seen: HashSet<(u64, u64)>,
}

impl DiskCount {
    fn add(&mut self, folder: &Path) {
        let mut waiting = vec![folder.to_owned()];
        while let Some(path) = waiting.pop() {
            if self.files >= COUNTED_MAX {
                return;
            }
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            if found.nlink() > 1 && !found.is_dir() && !self.seen.insert((found.dev(), found.ino())) {
                continue;
            }
            self.files += 1;
            self.bytes += found.blocks() * BLOCK_BYTES;
            if found.is_dir() {
                let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                waiting.extend(entries.map(|entry| entry.path()));
            }
        }
    }
}
