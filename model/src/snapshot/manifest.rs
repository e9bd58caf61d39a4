//! `manifest.json`: what was frozen, when, by whom, and every file of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::entry_path::EntryPath;
use super::fault::ArchiveFault;
use super::place::WorkspaceKey;
use crate::ids::WorkerName;

/// The latest format of an archive. Fields are only added within one; a reader passes over those it does not know.
pub const MANIFEST_FORMAT: u32 = 1;

/// What an archive says of itself. `files` lists every entry before it, in the order of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// `MANIFEST_FORMAT` of whoever wrote it.
    pub format: u32,
    /// The version of Maestro that wrote it.
    pub maestro_version: String,
    /// The version of Redis that made the values.
    pub redis_version: String,
    /// The cluster's id.
    pub cluster: String,
    /// What its keys begin with.
    pub namespace: String,
    /// The generation that was in force.
    pub generation: u64,
    /// The epoch that was in force.
    pub epoch: u64,
    /// The version of what is stored in Redis.
    pub schema: String,
    /// The one instant that all of it shows, ms since 1970 by Redis' clock.
    pub taken_at_ms: u64,
    /// In somebody's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether something is missing: such a snapshot never is `latest`.
    pub partial: bool,
    /// Whether `agent.log` of every workspace is in it.
    pub include_logs: bool,
    /// Agents that were failed.
    #[serde(default)]
    pub failed_agents: Vec<String>,
    /// How much there is.
    pub counts: SnapshotCounts,
    /// Workers that were alive.
    pub workers: Vec<ArchivedWorker>,
    /// Folders in the archive, in its order.
    pub workspaces: Vec<ArchivedWorkspace>,
    /// Every entry before the manifest, in its order.
    pub files: Vec<ArchivedFile>,
}

/// How much there is in an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCounts {
    /// Keys in `dump.rdb`.
    pub keys: u64,
    /// Runs.
    pub runs: u64,
    /// Tasks that were running.
    pub running: u64,
    /// Values of shared state.
    pub state: u64,
    /// Workspaces.
    pub workspaces: u64,
    /// Entries before the manifest.
    pub entries: u64,
    /// Bytes of all files, holes included.
    pub bytes: u64,
}

/// A worker that was alive when the snapshot was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedWorker {
    /// Its name.
    pub name: WorkerName,
    /// Its host.
    pub host: String,
    /// Whether its folders are in the archive.
    #[serde(flatten)]
    pub coverage: WorkerCoverage,
}

/// Whether a worker's folders are in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "coverage", rename_all = "snake_case")]
pub enum WorkerCoverage {
    /// All of them.
    Packed,
    /// None, or not all.
    Missing(AbsentWorker),
}

/// Why a worker's folders are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsentWorker {
    /// Why, for people.
    pub why: String,
}

/// What kind of folder a workspace is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum WorkspaceRole {
    /// Of one attempt, or Maestro's own beside it: below the worker's root.
    Task,
    /// Of the steps of one run: below the worker's root.
    Run,
    /// Of an assigned agent.
    Assigned {
        /// Absolute, on its worker's host.
        path: String,
    },
}

/// One folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedWorkspace {
    /// Which, and by that its place in the archive.
    pub key: WorkspaceKey,
    /// What kind.
    #[serde(flatten)]
    pub role: WorkspaceRole,
    /// Entries, the folder itself included.
    pub entries: u64,
    /// Bytes of its files, holes included.
    pub bytes: u64,
    /// Where its gzip members lie in the archive.
    pub members: MemberRange,
    /// What was odd: files that changed or vanished while they were read, or are of a kind that is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<ArchivedNote>,
}

/// Bytes of the archive as it lies on disk: whole gzip members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRange {
    /// Of the first byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// What was odd about one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedNote {
    /// Its entry.
    pub path: EntryPath,
    /// `vanished`, `changed`, `special`, `unreadable`, `too_deep`.
    pub trouble: String,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedFile {
    /// Its name; of a folder without the `/` at the end.
    pub path: EntryPath,
    /// The permissions, nine bits.
    pub mode: u32,
    /// What kind of entry.
    #[serde(flatten)]
    pub kind: ArchivedKind,
}

/// What kind of entry it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ArchivedKind {
    /// A folder.
    Folder,
    /// A regular file. A sparse one counts as what it reads as.
    File {
        /// Bytes, holes included.
        size: u64,
        /// Of these bytes.
        sha256: FileDigest,
    },
    /// A further name of a file before it in the same workspace.
    HardLink {
        /// The name of its entry.
        target: EntryPath,
    },
    /// A symbolic link.
    Symlink {
        /// What stands in it, escaped like a name.
        target: String,
    },
}

/// A SHA-256, as 64 lower-case digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileDigest(pub [u8; 32]);

impl Manifest {
    /// Whether this version can read it.
    ///
    /// # Errors
    /// `Newer`.
    pub fn check_format(&self) -> Result<(), ArchiveFault> {
        if self.format <= MANIFEST_FORMAT {
            return Ok(());
        }
        Err(ArchiveFault::Newer { of: "the snapshot", found: self.format, known: MANIFEST_FORMAT })
    }
}

impl ArchivedKind {
    /// A symbolic link with these bytes in it.
    pub fn symlink(target: &[u8]) -> ArchivedKind {
        ArchivedKind::Symlink { target: super::entry_path::text_of(target) }
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl From<FileDigest> for String {
    fn from(digest: FileDigest) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for FileDigest {
    type Error = ArchiveFault;

    fn try_from(text: String) -> Result<FileDigest, ArchiveFault> {
        let refused = || ArchiveFault::Contradiction { what: format!("`{text}` is no SHA-256 of 64 digits") };
        let lawful = text.len() == 64 && text.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        if !lawful {
            return Err(refused());
        }
        let mut digest = [0; 32];
        for (place, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).map_err(|_| refused())?;
        }
        Ok(FileDigest(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_json_in_one_line_each() {
        let files = [
            ArchivedFile {
                path: EntryPath::new(b"maestro/\xff").expect("lawful"),
                mode: 0o644,
                kind: ArchivedKind::File { size: 1, sha256: FileDigest([0xab; 32]) },
            },
            ArchivedFile {
                path: EntryPath::new(b"maestro/x").expect("lawful"),
                mode: 0o777,
                kind: ArchivedKind::symlink(b"../\xfe"),
            },
        ];
        for file in files {
            let text = serde_json::to_string(&file).expect("plain data");
            assert_eq!(serde_json::from_str::<ArchivedFile>(&text).expect("read"), file, "{text}");
        }
        assert!(FileDigest::try_from("AB".repeat(32)).is_err(), "one text for one digest");
    }
}
