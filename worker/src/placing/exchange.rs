//! A staged folder and what is in its place change places, in one step of the file system.

use std::io;

use maestro_store::failpoint;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::holder::{Holder, StagingState};

/// Puts a staged folder into its place; one that is there already stays. What was in the place is left beside it.
///
/// # Errors
/// Why it is not in its place: nothing was staged, or the host refuses.
pub(crate) fn place_staged(holder: &Holder) -> Result<(), String> {
    match holder.state() {
        StagingState::Placed => return Ok(()),
        StagingState::Staged => {}
        StagingState::Failed(why) => return Err(why),
        StagingState::Absent | StagingState::Receiving => {
            return Err("it was not staged on this host".to_owned());
        }
    }
    let failed = |error: io::Error| format!("cannot put it into its place: {error}");
    // Whoever asks again sees by the mark whether the exchange took place.
    holder.mark().map_err(failed)?;
    failpoint::reach("worker-placing");
    let staged = holder.whole();
    match rustix::fs::renameat_with(CWD, &staged, CWD, &holder.place, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => {
            let moved = rustix::fs::renameat_with(CWD, &staged, CWD, &holder.place, RenameFlags::NOREPLACE);
            moved.map_err(|errno| failed(errno.into()))
        }
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Removes what a restore has left beside a place: what was staged and never put there, or what stood there before.
pub(crate) fn drop_staged(holder: &Holder) -> Result<(), String> {
    holder.remove().map_err(|error| format!("cannot remove what was staged: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use maestro_model::snapshot::{WorkspaceKey, WorkspaceRole};

    use super::*;
    use crate::workspace::WorkspaceRoot;

    fn stage(folder: &tempfile::TempDir) -> Holder {
        let root = WorkspaceRoot::open(&folder.path().join("root")).expect("a root");
        let worker = "w".parse().expect("lawful");
        let key = WorkspaceKey::of_task(&worker, "shell", "0k3v9x2mqf1a.7").expect("lawful");
        let holder = Holder::of(&root, "r1", &key, &WorkspaceRole::Task).expect("lawful");
        let part = holder.begin().expect("ours");
        fs::write(part.join("file"), "new").expect("ours");
        assert_eq!(holder.state(), StagingState::Receiving);
        holder.seal().expect("ours");
        holder
    }

    #[test]
    fn a_staged_folder_goes_into_its_place_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let holder = stage(&folder);
        fs::create_dir(&holder.place).expect("ours");
        fs::write(holder.place.join("file"), "old").expect("ours");
        assert_eq!(holder.state(), StagingState::Staged);
        for _ in 0..3 {
            assert_eq!(place_staged(&holder), Ok(()));
            assert_eq!(fs::read_to_string(holder.place.join("file")).expect("there"), "new");
            assert_eq!(holder.state(), StagingState::Placed);
        }
        assert_eq!(fs::read_to_string(holder.whole().join("file")).expect("kept"), "old");
        drop_staged(&holder).expect("ours");
        assert_eq!(holder.state(), StagingState::Absent);
        assert_eq!(fs::read_dir(holder.place.parent().expect("below the root")).expect("there").count(), 1);
    }

    #[test]
    fn where_nothing_stood_it_is_moved() {
        let folder = tempfile::tempdir().expect("a folder");
        let holder = stage(&folder);
        assert_eq!((place_staged(&holder), place_staged(&holder)), (Ok(()), Ok(())));
        assert!(holder.place.join("file").exists());
    }

    #[test]
    fn what_was_never_whole_is_not_placed() {
        let folder = tempfile::tempdir().expect("a folder");
        let holder = stage(&folder);
        holder.begin().expect("anew");
        assert!(place_staged(&holder).is_err());
        holder.fail("no room");
        assert_eq!(place_staged(&holder), Err("no room".to_owned()));
        assert!(!holder.place.exists());
    }

    #[test]
    fn ids_that_lead_elsewhere_have_no_holder() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = WorkspaceRoot::open(&folder.path().join("root")).expect("a root");
        let worker = "w".parse().expect("lawful");
        let key = WorkspaceKey::of_task(&worker, "shell", "x").expect("lawful");
        for id in ["", "../x", "a/b", "a.b"] {
            assert_eq!(Holder::of(&root, id, &key, &WorkspaceRole::Task), None, "{id}");
        }
    }
}
