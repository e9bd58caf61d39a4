//! The folder beside a place: `.<name>.restore-<id>`, with what is staged in it and marks of how far that has come.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use maestro_model::snapshot::{WorkspaceKey, WorkspaceRole};

use crate::workspace::WorkspaceRoot;

/// Longest id of a restore.
const ID_BYTES_MAX: usize = 64;
/// What is being unpacked, and what is whole.
const PART: &str = "part";
const WHOLE: &str = "new";
/// Why unpacking failed.
const FAILED: &str = "failed";
/// Which folder goes into the place, by its number on the disk: written before the exchange.
const MARK: &str = "exchange";

/// How far a staged folder has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StagingState {
    /// Nothing is known of it.
    Absent,
    /// It is on its way.
    Receiving,
    /// It is whole.
    Staged,
    /// It is in its place.
    Placed,
    /// It could not be unpacked.
    Failed(String),
}

/// A place and the folder beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Where the workspace belongs.
    pub(crate) place: PathBuf,
    /// The folder beside it.
    path: PathBuf,
}

impl Holder {
    /// For a workspace of a snapshot on this host; none if the names cannot be.
    pub(crate) fn of(
        root: &WorkspaceRoot,
        restore: &str,
        key: &WorkspaceKey,
        role: &WorkspaceRole,
    ) -> Option<Holder> {
        let lawful = !restore.is_empty()
            && restore.len() <= ID_BYTES_MAX
            && restore.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !lawful {
            return None;
        }
        let place = match role {
            WorkspaceRole::Assigned { path } => PathBuf::from(path),
            WorkspaceRole::Task | WorkspaceRole::Run => root.path().join(key.owner()).join(key.name()),
        };
        let name = place.file_name()?.to_str()?;
        let path = place.parent()?.join(format!(".{name}.restore-{restore}"));
        Some(Holder { place, path })
    }

    /// Begins anew, whatever an earlier try has left. The folder above is made, as that of an agent is.
    pub(super) fn begin(&self) -> io::Result<PathBuf> {
        self.remove()?;
        if let Some(above) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(above)?;
        }
        let mut closed = fs::DirBuilder::new();
        closed.mode(0o700).create(&self.path)?;
        let part = self.path.join(PART);
        closed.create(&part)?;
        Ok(part)
    }

    /// What was unpacked is whole.
    pub(super) fn seal(&self) -> io::Result<()> {
        fs::rename(self.path.join(PART), self.path.join(WHOLE))?;
        // A power cut after the commit must not take what was staged.
        fs::File::open(&self.path)?.sync_all()
    }

    /// What was unpacked is not.
    pub(super) fn fail(&self, why: &str) {
        let told = fs::write(self.path.join(FAILED), why);
        if let Err(error) = told {
            tracing::warn!(folder = %self.path.display(), "cannot note why staging failed ({why}): {error}");
        }
    }

    /// How far it has come.
    pub(crate) fn state(&self) -> StagingState {
        if let Ok(why) = fs::read_to_string(self.path.join(FAILED)) {
            return StagingState::Failed(why);
        }
        match self.marked() {
            Some(number) if number_of(&self.place) == Some(number) => StagingState::Placed,
            _ if is_folder(&self.whole()) => StagingState::Staged,
            _ if is_folder(&self.path.join(PART)) => StagingState::Receiving,
            _ => StagingState::Absent,
        }
    }

    pub(super) fn whole(&self) -> PathBuf {
        self.path.join(WHOLE)
    }

    /// Notes which folder is about to go into the place.
    pub(super) fn mark(&self) -> io::Result<()> {
        let number = number_of(&self.whole()).ok_or(io::ErrorKind::NotFound)?;
        let path = self.path.join(MARK);
        fs::write(&path, format!("{}:{}", number.0, number.1))?;
        fs::File::open(&path)?.sync_all()
    }

    fn marked(&self) -> Option<(u64, u64)> {
        let text = fs::read_to_string(self.path.join(MARK)).ok()?;
        let (device, inode) = text.split_once(':')?;
        Some((device.parse().ok()?, inode.parse().ok()?))
    }

    /// Removes it, with whatever is in it.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn number_of(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
