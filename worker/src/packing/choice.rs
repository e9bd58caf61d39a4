//! Which folders belong into a snapshot: what attempts and runs have left below the root, and assigned folders.

use std::fs::File;
use std::path::{Path, PathBuf};

use maestro_model::assignment::Assignment;
use maestro_model::ids::WorkerName;
use maestro_model::snapshot::{WorkspaceKey, WorkspaceRole};
use rustix::fs::{FlockOperation, flock};

use crate::identity::lock_file;
use crate::janitor::{Leftover, for_each_leftover, is_strangers};
use crate::workspace::WorkspaceRoot;

/// Where the HOME of an assigned agent lies, below Maestro's own folder of it.
const AGENT_HOME: &str = "home";

/// What is to be sent.
#[derive(Debug, Clone)]
pub(crate) struct PackChoice {
    /// Where workspaces lie.
    pub(crate) root: WorkspaceRoot,
    /// Who sends.
    pub(crate) name: WorkerName,
    /// Who else does.
    pub(crate) peers: Vec<WorkerName>,
    /// Agents that have their folder here.
    pub(crate) assigned: Vec<Assignment>,
    /// Folders of other clusters are left alone.
    pub(crate) cluster: String,
    /// Whether Maestro's own folders go with them.
    pub(crate) include_logs: bool,
}

/// One folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackItem {
    /// Its place in the archive.
    pub(crate) key: WorkspaceKey,
    /// What it is.
    pub(crate) role: WorkspaceRole,
    /// Where it is.
    pub(crate) folder: PathBuf,
}

impl PackChoice {
    /// The folders, by their place in the archive. Reads folders: not for the main loop.
    pub(crate) fn items(&self) -> Vec<PackItem> {
        let mut items = Vec::new();
        if self.speaks_for_root() {
            for_each_leftover(self.root.path(), &mut |leftover| {
                if !is_strangers(&leftover, &self.cluster) {
                    self.add_leftover(&leftover, &mut items);
                }
            });
        }
        for agent in &self.assigned {
            let key = WorkspaceKey::of_agent(&self.name, &agent.id);
            let role = WorkspaceRole::Assigned { path: agent.path.clone() };
            items.push(PackItem { key, role, folder: agent.path.clone().into() });
            let home = self.root.path().join(agent.id.as_str()).join(AGENT_HOME);
            if let Ok(key) = WorkspaceKey::of_task(&self.name, agent.id.as_str(), AGENT_HOME)
                && is_folder(&home)
            {
                items.push(PackItem { key, role: WorkspaceRole::Task, folder: home });
            }
        }
        items.sort_by(|left, right| left.key.cmp(&right.key));
        items.dedup_by(|left, right| left.key == right.key);
        items
    }

    fn add_leftover(&self, leftover: &Leftover, items: &mut Vec<PackItem>) {
        if leftover.attempt.is_none() {
            let key = WorkspaceKey::of_run(&self.name, &leftover.run);
            // A template that is being copied beside it is no workspace yet.
            let is_whole = leftover.folder.file_name().is_some_and(|name| name == leftover.run.as_str());
            if is_whole && is_folder(&leftover.folder) {
                items.push(PackItem { key, role: WorkspaceRole::Run, folder: leftover.folder.clone() });
            }
            return;
        }
        let logs = leftover.own.as_ref().filter(|_| self.include_logs);
        for folder in [Some(&leftover.folder), logs].into_iter().flatten() {
            let owner = folder.parent().and_then(Path::file_name).and_then(|owner| owner.to_str());
            let name = folder.file_name().and_then(|name| name.to_str());
            let (Some(owner), Some(name)) = (owner, name) else { continue };
            if let Ok(key) = WorkspaceKey::of_task(&self.name, owner, name)
                && is_folder(folder)
            {
                items.push(PackItem { key, role: WorkspaceRole::Task, folder: folder.clone() });
            }
        }
    }

    /// Of several workers that share a root the first by name sends what lies below it.
    fn speaks_for_root(&self) -> bool {
        let shares = |peer: &&WorkerName| is_locked(&lock_file(self.root.path(), peer.as_str()));
        let first = self.peers.iter().filter(|peer| **peer < self.name).find(shares);
        first.is_none()
    }
}

/// Whether a process holds its name here.
fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

/// A real one, and no link.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}
