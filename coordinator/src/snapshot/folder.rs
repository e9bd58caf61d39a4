//! Where snapshots lie: their names, which of them is `latest`, and how long they stay.
//!
//! An archive is made in a folder of its own beside its place and moved there when it is whole; what a process that was
//! killed left of it is removed by the next one.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use maestro_model::snapshot::SnapshotCounts;
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;

use super::error::SnapshotError;
use crate::archive::find_manifest;

/// The link to the newest good one.
const LATEST: &str = "latest";
/// Where safety copies lie.
const AUTO: &str = "auto";
/// How the folder is called in which an archive is made.
const WORK_PREFIX: &str = ".snapshot-";
const WORK_SUFFIX: &str = ".part";
/// The file in it that is locked while its process lives.
const LOCK: &str = "lock";

/// A folder with snapshots.
#[derive(Debug, Clone)]
pub struct SnapshotFolder {
    path: PathBuf,
}

/// One snapshot in it.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    /// Where.
    pub path: PathBuf,
    /// Bytes of the archive.
    pub bytes: u64,
    /// When it was written.
    pub written: SystemTime,
    /// Whether `latest` leads to it.
    pub is_latest: bool,
    /// What it says of itself; none if that cannot be read.
    pub head: Option<SnapshotHead>,
}

/// What a snapshot says of itself, short of its files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SnapshotHead {
    /// The cluster's id.
    pub cluster: String,
    /// Its one instant, ms since 1970.
    pub taken_at_ms: u64,
    /// In somebody's words.
    #[serde(default)]
    pub label: Option<String>,
    /// Whether something is missing.
    pub partial: bool,
    /// Agents that were failed.
    #[serde(default)]
    pub failed_agents: Vec<String>,
    /// How much is in it.
    pub counts: SnapshotCounts,
}

impl SnapshotHead {
    /// Whether one would go back to it.
    pub fn is_good(&self) -> bool {
        !self.partial && self.failed_agents.is_empty()
    }
}

impl SnapshotFolder {
    /// Takes a folder, making it if it is missing.
    ///
    /// # Errors
    /// `Disk`.
    pub fn open(path: &Path) -> Result<SnapshotFolder, SnapshotError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.and_then(|()| std::path::absolute(path))
            .map(|path| SnapshotFolder { path })
            .map_err(SnapshotError::disk(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a safety copy goes: `auto/pre-<cause>-<time>.tar.gz`.
    ///
    /// # Errors
    /// `Disk`.
    pub fn safety_copy(&self, cause: &str, time: &str) -> Result<PathBuf, SnapshotError> {
        let folder = self.path.join(AUTO);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(SnapshotError::disk(&folder))?;
        Ok(free_name(&folder, &format!("pre-{cause}-{time}")))
    }

    /// Where a snapshot of this time goes.
    pub fn named(&self, time: &str) -> PathBuf {
        free_name(&self.path, &format!("snapshot-{time}"))
    }

    /// Lets `latest` lead to a snapshot, if it lies in this folder itself and is a good one; whether it does now.
    ///
    /// # Errors
    /// `Disk`.
    pub fn make_latest(&self, snapshot: &Path, is_good: bool) -> Result<bool, SnapshotError> {
        let parent = snapshot.parent().and_then(|parent| fs::canonicalize(parent).ok());
        let is_here = parent == fs::canonicalize(&self.path).ok();
        let Some(name) = snapshot.file_name().filter(|_| is_here && is_good) else { return Ok(false) };
        let link = self.path.join(LATEST);
        let fresh = self.path.join(format!(".{LATEST}-{:08x}", rand::random::<u32>()));
        symlink(name, &fresh).and_then(|()| fs::rename(&fresh, &link)).map_err(SnapshotError::disk(link))?;
        Ok(true)
    }

    /// What lies in it, the newest first; safety copies as well.
    ///
    /// # Errors
    /// `Disk` if the folder cannot be read.
    pub fn list(&self) -> Result<Vec<SnapshotFile>, SnapshotError> {
        let latest = fs::canonicalize(self.path.join(LATEST)).ok();
        let mut found = Vec::new();
        for folder in [self.path.clone(), self.path.join(AUTO)] {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(SnapshotError::disk(&folder))?,
            };
            for path in entries.flatten().map(|entry| entry.path()) {
                if path.to_string_lossy().ends_with(".tar.gz") {
                    found.extend(look_at(path, latest.as_deref()));
                }
            }
        }
        found.sort_by(|left, right| right.written.cmp(&left.written).then(right.path.cmp(&left.path)));
        Ok(found)
    }

    /// Removes snapshots that are older than `retention`, but never the last good one, nor what is none of ours; those
    /// that went.
    ///
    /// # Errors
    /// `Disk`.
    pub fn remove_old(&self, retention: Duration) -> Result<Vec<PathBuf>, SnapshotError> {
        let all = self.list()?;
        let auto = self.path.join(AUTO);
        let is_good = |one: &&SnapshotFile| {
            one.head.as_ref().is_some_and(SnapshotHead::is_good) && !one.path.starts_with(&auto)
        };
        let last_good = all.iter().find(is_good).map(|one| one.path.clone());
        let mut removed = Vec::new();
        for one in all {
            let is_old = one.written.elapsed().is_ok_and(|age| age > retention);
            let stays = one.is_latest || Some(&one.path) == last_good.as_ref() || one.head.is_none();
            if is_old && !stays {
                fs::remove_file(&one.path).map_err(SnapshotError::disk(&one.path))?;
                removed.push(one.path);
            }
        }
        Ok(removed)
    }
}

/// A moment, ms since 1970, as it stands in the name of a snapshot: `20261120T160203Z`.
pub fn stamp(unix_ms: u64) -> String {
    let moment = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.unwrap_or(jiff::Timestamp::MAX).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The first name of this kind that is not taken.
fn free_name(folder: &Path, stem: &str) -> PathBuf {
    let mut number = 1;
    loop {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let path = folder.join(format!("{stem}{suffix}.tar.gz"));
        if path.symlink_metadata().is_err() {
            return path;
        }
        number += 1;
    }
}

fn look_at(path: PathBuf, latest: Option<&Path>) -> Option<SnapshotFile> {
    let found = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    let is_latest = latest.is_some() && fs::canonicalize(&path).ok().as_deref() == latest;
    let written = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let head = read_head(&path);
    Some(SnapshotFile { path, bytes: found.len(), written, is_latest, head })
}

/// Reads what an archive says of itself without the rest of it.
fn read_head(path: &Path) -> Option<SnapshotHead> {
    find_manifest(path, &mut |content| serde_json::from_reader(std::io::BufReader::new(content)).ok())
}

/// The folder in which one archive is made; it goes with the value.
pub(super) struct WorkFolder {
    path: PathBuf,
    _lock: File,
}

impl WorkFolder {
    pub(super) fn make(output: &Path) -> Result<WorkFolder, SnapshotError> {
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        remove_abandoned(parent);
        let path = parent.join(format!("{WORK_PREFIX}{:016x}{WORK_SUFFIX}", rand::random::<u64>()));
        let make = || {
            DirBuilder::new().mode(0o700).create(&path)?;
            let lock =
                fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path.join(LOCK))?;
            flock(&lock, FlockOperation::LockExclusive)?;
            Ok(lock)
        };
        let lock = make().map_err(SnapshotError::disk(&path))?;
        Ok(WorkFolder { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the whole archive to where it was wanted.
    pub(super) fn put_in_place(&self, archive: &Path, output: &Path) -> Result<(), SnapshotError> {
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty());
        let put = || {
            fs::set_permissions(archive, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            fs::rename(archive, output)?;
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        };
        put().map_err(SnapshotError::disk(output))
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // Whatever stays is found by the next one.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what a process that is gone has left.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_work = name.starts_with(WORK_PREFIX) && name.ends_with(WORK_SUFFIX);
        // One without a lock file is just being made.
        let is_free = || {
            let lock = File::open(entry.path().join(LOCK));
            lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
        };
        if is_work && is_free() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
