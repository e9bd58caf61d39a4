//! Where in the archive an entry lies, and what may stand there.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::entry_path::EntryPath;
use super::fault::ArchiveFault;
use crate::ids::{AgentId, RunId, WorkerName};

/// The name of the owner's folder for folders that the steps of a run share.
const RUNS: &str = ".runs";
/// The name of an assigned folder.
const ASSIGNED: &str = "assigned";

/// The parts of an archive in the order in which they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SnapshotPart {
    /// `agents.yaml`
    Agents,
    /// `redis/index.json`
    Index,
    /// `redis/dump.rdb`
    Dump,
    /// `containers/`
    Containers,
    /// `workspaces/`
    Workspaces,
    /// `manifest.json`
    Manifest,
    /// `manifest.sha256`
    Seal,
}

/// Which workspace: the two folders above it tell worker and owner.
///
/// As text it is `<worker>/<owner>/<name>`. `owner` is an agent type (folders of tasks), an agent (its
/// `assigned` folder) or `.runs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkspaceKey {
    worker: WorkerName,
    owner: String,
    name: String,
}

impl WorkspaceKey {
    /// The folder of an attempt, or Maestro's own beside it (`<task>.maestro`), by their names on disk.
    ///
    /// # Errors
    /// `Entry` if a name is not one that a worker gives.
    pub fn of_task(worker: &WorkerName, owner: &str, name: &str) -> Result<WorkspaceKey, ArchiveFault> {
        format!("{worker}/{owner}/{name}").try_into()
    }

    /// The folder that the steps of a run share.
    pub fn of_run(worker: &WorkerName, run: &RunId) -> WorkspaceKey {
        WorkspaceKey { worker: worker.clone(), owner: RUNS.to_owned(), name: run.to_string() }
    }

    /// The folder that an agent was assigned.
    pub fn of_agent(worker: &WorkerName, agent: &AgentId) -> WorkspaceKey {
        WorkspaceKey { worker: worker.clone(), owner: agent.to_string(), name: ASSIGNED.to_owned() }
    }

    /// The worker it lies on.
    pub fn worker(&self) -> &WorkerName {
        &self.worker
    }

    /// The agent type, the agent, or `.runs`.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The folder's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the folder of an assigned agent.
    pub fn is_assigned(&self) -> bool {
        self.name == ASSIGNED && self.owner != RUNS
    }

    /// Whether it is a run's folder.
    pub fn is_run(&self) -> bool {
        self.owner == RUNS
    }

    /// Its entry in the archive.
    pub fn entry(&self) -> EntryPath {
        EntryPath::new(format!("maestro/workspaces/{self}").as_bytes()).expect("its three names are lawful")
    }

    fn from_parts(worker: &str, owner: &str, name: &str) -> Option<WorkspaceKey> {
        let worker: WorkerName = worker.parse().ok()?;
        // An agent's id has the rule of every name; a task's folder too, since it begins with a run's id.
        let lawful = if owner == RUNS {
            name.parse::<RunId>().is_ok()
        } else {
            owner.parse::<AgentId>().is_ok() && name.parse::<AgentId>().is_ok()
        };
        lawful.then(|| WorkspaceKey { worker, owner: owner.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for WorkspaceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.worker, self.owner, self.name)
    }
}

impl From<WorkspaceKey> for String {
    fn from(key: WorkspaceKey) -> String {
        key.to_string()
    }
}

impl TryFrom<String> for WorkspaceKey {
    type Error = ArchiveFault;

    fn try_from(text: String) -> Result<WorkspaceKey, ArchiveFault> {
        let mut parts = text.split('/');
        let key = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(worker), Some(owner), Some(name), None) => WorkspaceKey::from_parts(worker, owner, name),
            _ => None,
        };
        key.ok_or_else(|| ArchiveFault::entry(&text, "is not a workspace, written `<worker>/<owner>/<name>`"))
    }
}

/// What an entry is by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryPlace {
    /// A folder above the parts or above workspaces; it may have an entry or not.
    Above(SnapshotPart),
    /// A file that is a part, or a container's description.
    File(SnapshotPart),
    /// A workspace itself (`below` is empty) or what lies in it.
    Workspace {
        /// Which.
        key: WorkspaceKey,
        /// The rest of the name.
        below: Vec<u8>,
    },
}

impl EntryPlace {
    /// Where a name belongs.
    ///
    /// # Errors
    /// `Entry` if nothing of that name belongs into an archive.
    pub fn of(path: &EntryPath) -> Result<EntryPlace, ArchiveFault> {
        let unknown = || ArchiveFault::entry(path, "does not belong into a snapshot");
        let mut parts = path.components();
        if parts.next() != Some(b"maestro") {
            return Err(unknown());
        }
        let rest: Vec<&[u8]> = parts.collect();
        Ok(match rest.as_slice() {
            [] => EntryPlace::Above(SnapshotPart::Agents),
            [b"agents.yaml"] => EntryPlace::File(SnapshotPart::Agents),
            [b"redis"] => EntryPlace::Above(SnapshotPart::Index),
            [b"redis", b"index.json"] => EntryPlace::File(SnapshotPart::Index),
            [b"redis", b"dump.rdb"] => EntryPlace::File(SnapshotPart::Dump),
            [b"containers"] => EntryPlace::Above(SnapshotPart::Containers),
            [b"containers", name] => {
                let id = std::str::from_utf8(name).ok().and_then(|name| name.strip_suffix(".json"));
                let lawful = id.is_some_and(|id| id.parse::<AgentId>().is_ok());
                if lawful { EntryPlace::File(SnapshotPart::Containers) } else { return Err(unknown()) }
            }
            [b"workspaces"] => EntryPlace::Above(SnapshotPart::Workspaces),
            [b"workspaces", names @ ..] => of_workspace(names).ok_or_else(unknown)?,
            [b"manifest.json"] => EntryPlace::File(SnapshotPart::Manifest),
            [b"manifest.sha256"] => EntryPlace::File(SnapshotPart::Seal),
            _ => return Err(unknown()),
        })
    }

    /// The part it belongs to.
    pub fn part(&self) -> SnapshotPart {
        match self {
            EntryPlace::Above(part) | EntryPlace::File(part) => *part,
            EntryPlace::Workspace { .. } => SnapshotPart::Workspaces,
        }
    }
}

fn of_workspace(names: &[&[u8]]) -> Option<EntryPlace> {
    let text = |name: &[u8]| std::str::from_utf8(name).ok().map(str::to_owned);
    let worker: WorkerName = text(names[0])?.parse().ok()?;
    match names {
        [_] => Some(EntryPlace::Above(SnapshotPart::Workspaces)),
        [_, owner] => {
            let owner = text(owner)?;
            let lawful = owner == RUNS || owner.parse::<AgentId>().is_ok();
            lawful.then_some(EntryPlace::Above(SnapshotPart::Workspaces))
        }
        [_, owner, name, below @ ..] => {
            let key = WorkspaceKey::from_parts(worker.as_str(), &text(owner)?, &text(name)?)?;
            Some(EntryPlace::Workspace { key, below: below.join(&b'/') })
        }
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<EntryPlace, ArchiveFault> {
        EntryPlace::of(&EntryPath::new(text.as_bytes()).expect("lawful"))
    }

    #[test]
    fn each_name_has_its_place_and_others_none() {
        assert_eq!(place("maestro/redis/dump.rdb"), Ok(EntryPlace::File(SnapshotPart::Dump)));
        assert_eq!(place("maestro/containers/smith.json"), Ok(EntryPlace::File(SnapshotPart::Containers)));
        assert_eq!(place("maestro/workspaces/w/.runs"), Ok(EntryPlace::Above(SnapshotPart::Workspaces)));
        let key = WorkspaceKey::of_task(&"w".parse().expect("lawful"), "shell", "0k3v9x2mqf1a.7.2");
        let below = b"src/lib.rs".to_vec();
        let found = place("maestro/workspaces/w/shell/0k3v9x2mqf1a.7.2/src/lib.rs");
        assert_eq!(found, Ok(EntryPlace::Workspace { key: key.expect("lawful"), below }));
        for wrong in [
            "etc/passwd",
            "maestro/redis/other",
            "maestro/manifest.json/x",
            "maestro/agents.yaml/x",
            "maestro/containers/.json",
            "maestro/workspaces/w/.runs/no-run/x",
            "maestro/workspaces/w/.hidden/x/y",
        ] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn parts_stand_in_one_order() {
        let order = [
            "maestro/agents.yaml",
            "maestro/redis/index.json",
            "maestro/redis/dump.rdb",
            "maestro/containers/a.json",
            "maestro/workspaces/w/a/assigned",
            "maestro/manifest.json",
            "maestro/manifest.sha256",
        ];
        let parts = order.map(|name| place(name).expect("lawful").part());
        assert!(parts.is_sorted_by(|left, right| left < right));
    }
}
