//! The folder below the workspace root in which one `--local` run has its workspaces.
//!
//! It goes with the run. What a killed one has left is removed by the next: a folder in use is locked, and the lock
//! goes with the process.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::config::settings::Settings;
use crate::failure::Failure;

/// What such folders are called: this, the process, and a number.
const PREFIX: &str = "local-";
/// A folder younger than this may not have been locked yet.
const LEFT_FOR_MIN: Duration = Duration::from_secs(60);

/// The folder of workspaces of one `--local` run; it goes with the value.
#[derive(Debug)]
pub(crate) struct LocalWorkspaces {
    /// Where.
    pub(crate) path: PathBuf,
    /// Says that it is in use.
    _lock: File,
}

impl LocalWorkspaces {
    /// A new folder below the workspace root.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn make(settings: &Settings) -> Result<LocalWorkspaces, Failure> {
        let root = settings.workspace_root();
        sweep(&root);
        let path = root.join(format!("{PREFIX}{}-{:08x}", std::process::id(), rand::random::<u32>()));
        let cannot = |error: io::Error| {
            Failure::unavailable(format!("cannot make the folder `{}`", path.display())).caused_by(&error)
        };
        fs::create_dir_all(&path).map_err(cannot)?;
        let lock = File::open(&path).map_err(cannot)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| cannot(errno.into()))?;
        Ok(LocalWorkspaces { path, _lock: lock })
    }
}

impl Drop for LocalWorkspaces {
    fn drop(&mut self) {
        // What is left is found by its name; there is nobody to tell any more.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders of runs that were killed. Whatever stands in the way is for the next one.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_ours && is_left(&entry.path()).unwrap_or(false) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether it is a folder that was locked once and is not any more.
fn is_left(path: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(path)?;
    let age = found.modified()?.elapsed().unwrap_or_default();
    if !found.is_dir() || age < LEFT_FOR_MIN {
        return Ok(false);
    }
    Ok(flock(File::open(path)?, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_folders_that_nobody_holds_any_more_are_swept() {
        let root = tempfile::tempdir().expect("a folder");
        let old = SystemTime::now() - 2 * LEFT_FOR_MIN;
        let mut held = Vec::new();
        for name in ["local-1-left", "local-2-held", "local-3-new", "shell"] {
            let path = root.path().join(name);
            fs::create_dir_all(path.join("shell/task")).expect("ours");
            let folder = File::open(&path).expect("ours");
            if !name.ends_with("new") {
                folder.set_modified(old).expect("ours");
            }
            if name.ends_with("held") {
                flock(&folder, FlockOperation::NonBlockingLockExclusive).expect("nobody has it");
                held.push(folder);
            }
        }
        sweep(root.path());
        let mut left: Vec<String> = fs::read_dir(root.path())
            .expect("ours")
            .map(|entry| entry.expect("ours").file_name().into_string().expect("UTF-8"))
            .collect();
        left.sort();
        assert_eq!(left, ["local-2-held", "local-3-new", "shell"]);
    }
}
