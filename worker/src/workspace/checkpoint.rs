//! The state of a folder before a task, kept beside it while the task runs, and put back if the task fails.
//!
//! For folders that go on from task to task: assigned ones and those of runs. Contents are shared with the folder where
//! the file system can; elsewhere they are copied. A worker that is killed leaves the copy where it is, and the next
//! attempt of the same task begins by going back to it; what another task has left is removed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use maestro_model::ids::TaskId;
use rustix::fs::{CWD, RenameFlags};

use super::root::{WorkspaceError, make_folder};
use super::template::{TemplateCopyError, copy_template, finish_folder};

/// What stands between a folder's name and a task's in the name of a checkpoint.
const MARK: &str = ".checkpoint-";
/// What a copy is called until it is whole.
const PART: &str = ".part";

/// What is needed to go back. Dropped, it stays on the disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    folder: PathBuf,
    kept: Kept,
}

#[derive(Debug, PartialEq, Eq)]
enum Kept {
    /// The folder was not there.
    Nothing,
    /// A copy of it, here.
    Copy(PathBuf),
}

impl Checkpoint {
    /// Keeps the state of a folder, for a task that is about to work in it. Blocks for as long as the copy takes.
    ///
    /// # Errors
    /// If there is no room beside the folder, or no right to write there.
    pub(crate) fn take(folder: &Path, task: &TaskId) -> Result<Checkpoint, WorkspaceError> {
        let failed = |source| WorkspaceError::host("keep a checkpoint of", folder, source);
        // A folder may be named by a link: what it leads to is what changes.
        let folder = match fs::canonicalize(folder) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Checkpoint { folder: folder.to_owned(), kept: Kept::Nothing });
            }
            Err(error) => return Err(failed(error)),
        };
        let copy = beside(&folder, &format!("{MARK}{task}"))
            .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let checkpoint = Checkpoint { folder: folder.clone(), kept: Kept::Copy(copy.clone()) };
        if copy.is_dir() {
            tracing::warn!(folder = %folder.display(), %task, "an attempt did not come to its end: its folder goes back");
            checkpoint.roll_back().map_err(failed)?;
        }
        remove_others(&folder).map_err(failed)?;
        let part = beside(&folder, &format!("{MARK}{task}{PART}")).expect("its sibling has a name");
        make_folder(&part)?;
        let found = fs::metadata(&folder).map_err(failed)?;
        copy_template(&folder, &part).map_err(|error| failed(copy_failure(error)))?;
        finish_folder(&part, &found).and_then(|()| fs::rename(&part, &copy)).map_err(failed)?;
        Ok(checkpoint)
    }

    /// The folder is as it was, and nothing is beside it.
    ///
    /// # Errors
    /// If the host refuses; then the copy stays, and the next attempt of the task tries again.
    pub(crate) fn roll_back(&self) -> io::Result<()> {
        let Kept::Copy(copy) = &self.kept else { return remove(&self.folder) };
        match rustix::fs::renameat_with(CWD, copy, CWD, &self.folder, RenameFlags::EXCHANGE) {
            // The task has removed its own folder.
            Err(rustix::io::Errno::NOENT) => return fs::rename(copy, &self.folder),
            other => other?,
        }
        // What failed stands where the copy was.
        remove(copy)
    }

    /// The task has done what it was to do.
    ///
    /// # Errors
    /// If the host refuses; the next task in the folder removes what is left.
    pub(crate) fn discard(&self) -> io::Result<()> {
        match &self.kept {
            Kept::Nothing => Ok(()),
            Kept::Copy(copy) => remove(copy),
        }
    }
}

fn copy_failure(error: TemplateCopyError) -> io::Error {
    match error {
        TemplateCopyError::Host { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}

/// `.<name><suffix>` beside a folder.
fn beside(folder: &Path, suffix: &str) -> Option<PathBuf> {
    let name = folder.file_name()?.to_str()?;
    Some(folder.parent()?.join(format!(".{name}{suffix}")))
}

/// Removes what other tasks, or a copy that was not finished, have left.
fn remove_others(folder: &Path) -> io::Result<()> {
    let (Some(start), Some(parent)) = (beside(folder, MARK), folder.parent()) else { return Ok(()) };
    let start = start.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let owner = fs::metadata(folder)?.uid();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_string_lossy().starts_with(&start);
        // Somebody else's folder of such a name is none of ours.
        if is_ours && entry.metadata()?.uid() == owner {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn task(index: u32) -> TaskId {
        TaskId { run: "0k3v9x2mqf1a".parse().expect("lawful"), index }
    }

    fn scene() -> (tempfile::TempDir, PathBuf) {
        let above = tempfile::tempdir().expect("a folder");
        let folder = above.path().join("app");
        fs::create_dir(&folder).expect("ours");
        fs::write(folder.join("file"), "good").expect("ours");
        symlink("file", folder.join("link")).expect("ours");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).expect("ours");
        (above, folder)
    }

    fn names(above: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(above.path()).expect("there").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_folder_goes_back_to_what_it_was_with_its_mode_and_links() {
        let (above, folder) = scene();
        let checkpoint = Checkpoint::take(&folder, &task(1)).expect("kept");
        fs::write(folder.join("file"), "bad").expect("ours");
        fs::write(folder.join("more"), "bad").expect("ours");
        fs::remove_file(folder.join("link")).expect("ours");
        checkpoint.roll_back().expect("ours");
        assert_eq!(fs::read_to_string(folder.join("link")).expect("leads to the file"), "good");
        assert!(!folder.join("more").exists());
        assert_eq!(fs::metadata(&folder).expect("there").permissions().mode() & 0o777, 0o750);
        assert_eq!(names(&above), ["app"]);
    }

    #[test]
    fn what_was_done_well_stays() {
        let (above, folder) = scene();
        let checkpoint = Checkpoint::take(&folder, &task(1)).expect("kept");
        fs::write(folder.join("file"), "better").expect("ours");
        checkpoint.discard().expect("ours");
        assert_eq!(fs::read_to_string(folder.join("file")).expect("there"), "better");
        assert_eq!(names(&above), ["app"]);
    }

    #[test]
    fn after_a_death_the_same_task_goes_back_and_another_does_not() {
        for (next, expected) in [(1, "good"), (2, "half done")] {
            let (above, folder) = scene();
            drop(Checkpoint::take(&folder, &task(1)).expect("kept"));
            fs::write(folder.join("file"), "half done").expect("ours");
            let checkpoint = Checkpoint::take(&folder, &task(next)).expect("kept");
            assert_eq!(fs::read_to_string(folder.join("file")).expect("there"), expected);
            checkpoint.discard().expect("ours");
            assert_eq!(names(&above), ["app"]);
        }
    }

    #[test]
    fn a_folder_that_was_not_there_is_not_there_again() {
        let (above, folder) = scene();
        let fresh = above.path().join("fresh");
        let checkpoint = Checkpoint::take(&fresh, &task(1)).expect("nothing to keep");
        fs::create_dir(&fresh).expect("ours");
        checkpoint.roll_back().expect("ours");
        assert!(!fresh.exists() && folder.exists());
        let checkpoint = Checkpoint::take(&folder, &task(1)).expect("kept");
        fs::remove_dir_all(&folder).expect("ours");
        checkpoint.roll_back().expect("it is put back");
        assert_eq!(fs::read_to_string(folder.join("file")).expect("there"), "good");
        assert_eq!(names(&above), ["app"]);
    }
}
