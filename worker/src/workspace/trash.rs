//! Removing workspaces behind the work, in small portions.
//!
//! A file system that has just lost tens of thousands of files at once is slow for minutes. So a workspace is
//! first moved aside, which is one step however large it is, and what lies there is removed a portion at a time.
//! Nested folders are moved up instead of being walked into: no depth is too deep, and a portion that was cut
//! short leaves nothing to remember. Nothing outside is touched: links are removed, never followed.

use std::ffi::CStr;
use std::io;
use std::path::Path;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::root::{WorkspaceError, WorkspacePaths, WorkspacePlace, WorkspaceRoot, make_folder};

/// Where things lie until they are removed.
const TRASH: &str = ".trash";

/// What one portion of removing came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrashPortion {
    /// Files and folders removed.
    pub removed: usize,
    /// Whether something is left to remove.
    pub more: bool,
    /// Entries that could not be removed, and are left for a person to see.
    pub stuck: usize,
}

impl WorkspaceRoot {
    /// Moves an attempt's folders aside. The folder of a run stays: other steps use it.
    ///
    /// # Errors
    /// If the host refuses; folders that are not there are no error.
    pub fn discard(&self, paths: &WorkspacePaths) -> Result<(), WorkspaceError> {
        if paths.place == WorkspacePlace::Task {
            self.discard_path(&paths.folder)?;
        }
        self.discard_path(&paths.own)
    }

    /// Moves one folder below the root aside.
    ///
    /// # Errors
    /// If the host refuses; a folder that is not there is no error.
    pub fn discard_path(&self, path: &Path) -> Result<(), WorkspaceError> {
        let aside = self.path().join(TRASH).join(unused_name());
        let moved = match rustix::fs::rename(path, &aside) {
            Err(Errno::NOENT) => {
                make_folder(&self.path().join(TRASH))?;
                rustix::fs::rename(path, &aside)
            }
            other => other,
        };
        match moved {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(WorkspaceError::host("move aside", path, errno.into())),
        }
    }

    /// Removes up to `entries_max` files and folders of what was moved aside. Blocks on the disk.
    ///
    /// # Errors
    /// If the folder of removed things cannot be read; what cannot be removed is counted instead.
    pub fn empty_trash(&self, entries_max: usize) -> io::Result<TrashPortion> {
        let path = self.path().join(TRASH);
        let trash = match open_folder(CWD.as_fd(), &path) {
            Ok(trash) => trash,
            Err(Errno::NOENT) => return Ok(TrashPortion::default()),
            Err(errno) => return Err(errno.into()),
        };
        let mut portion = TrashPortion::default();
        for entry in Dir::read_from(&trash)? {
            let entry = entry?;
            if is_self_or_parent(entry.file_name()) {
                continue;
            }
            if portion.removed >= entries_max {
                portion.more = true;
                break;
            }
            empty_one(&trash, entry.file_name(), entry.file_type(), entries_max, &mut portion);
        }
        Ok(portion)
    }
}

/// Removes one thing in the trash; of a folder, what lies in it as far as the portion goes.
fn empty_one(trash: &OwnedFd, name: &CStr, kind: FileType, entries_max: usize, portion: &mut TrashPortion) {
    // Whatever it is: one that is no folder goes at once. The kernel refuses to unlink a folder.
    if kind != FileType::Directory && rustix::fs::unlinkat(trash, name, AtFlags::empty()).is_ok() {
        portion.removed += 1;
        return;
    }
    let Ok(folder) = open_folder(trash.as_fd(), name) else {
        portion.stuck += 1;
        return;
    };
    let Ok(listing) = Dir::read_from(&folder) else {
        portion.stuck += 1;
        return;
    };
    for entry in listing.flatten() {
        if is_self_or_parent(entry.file_name()) {
            continue;
        }
        if portion.removed >= entries_max {
            portion.more = true;
            return;
        }
        match remove_entry(trash, &folder, entry.file_name(), entry.file_type()) {
            Ok(Removal::Gone) => portion.removed += 1,
            Ok(Removal::MovedUp) => portion.more = true,
            Err(_) => portion.stuck += 1,
        }
    }
    // A folder that is not empty by now holds something that is stuck, which has been counted.
    if rustix::fs::unlinkat(trash, name, AtFlags::REMOVEDIR).is_ok() {
        portion.removed += 1;
    }
}

enum Removal {
    Gone,
    MovedUp,
}

fn remove_entry(trash: &OwnedFd, folder: &OwnedFd, name: &CStr, kind: FileType) -> Result<Removal, Errno> {
    if kind != FileType::Directory {
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            // The listing did not know that it is a folder.
            Err(Errno::ISDIR | Errno::PERM) => {}
            other => return other.map(|()| Removal::Gone),
        }
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        other => return other.map(|()| Removal::Gone),
    }
    // A folder that its owner may not write to cannot be moved to another parent.
    let _ = grant_owner(folder.as_fd(), name);
    rustix::fs::renameat(folder, name, trash, unused_name()).map(|()| Removal::MovedUp)
}

/// Opens a folder, never through a link, giving its owner all rights first if need be.
fn open_folder<P: rustix::path::Arg + Copy>(at: BorrowedFd<'_>, name: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            grant_owner(at, name)?;
            rustix::fs::openat(at, name, flags, Mode::empty())
        }
        other => other,
    }
}

/// Gives a folder's owner all rights, never through a link: of that, only newer kernels are capable in one call.
fn grant_owner<P: rustix::path::Arg + Copy>(at: BorrowedFd<'_>, name: P) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(at, name, flags, Mode::empty())?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", folder.as_raw_fd()), Mode::RWXU)
}

fn is_self_or_parent(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// 64 bits at random: the trash holds thousands of names, not billions.
fn unused_name() -> String {
    format!("{:016x}", rand::random::<u64>())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn empty(root: &WorkspaceRoot, entries_max: usize) -> usize {
        let mut removed = 0;
        for _ in 0..10_000 {
            let portion = root.empty_trash(entries_max).expect("readable");
            assert!(portion.removed <= entries_max + 1, "{portion:?}");
            assert_eq!(portion.stuck, 0);
            removed += portion.removed;
            if !portion.more {
                return removed;
            }
        }
        panic!("removing does not come to an end");
    }

    #[test]
    fn a_tree_goes_in_portions_however_deep_it_is() {
        let place = tempfile::tempdir().expect("a folder");
        let root = WorkspaceRoot::open(place.path()).expect("a root");
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("kept"), "").expect("a file");
        let tree = place.path().join("tree");
        fs::create_dir(&tree).expect("a folder");
        for number in 0..100 {
            fs::write(tree.join(number.to_string()), "").expect("a file");
        }
        symlink(outside.path(), tree.join("link")).expect("a link");
        let mut deep = rustix::fs::open(&tree, OFlags::DIRECTORY, Mode::empty()).expect("there");
        for _ in 0..1_000 {
            rustix::fs::mkdirat(&deep, "nested", Mode::RWXU).expect("room");
            deep = rustix::fs::openat(&deep, "nested", OFlags::DIRECTORY, Mode::empty()).expect("made");
        }
        drop(deep);
        fs::set_permissions(tree.join("nested"), fs::Permissions::from_mode(0o000)).expect("ours");

        root.discard_path(&tree).expect("moved");
        assert!(!tree.exists());
        assert_eq!(empty(&root, 40), 1 + 100 + 1 + 1_000);
        assert!(outside.path().join("kept").exists());
        assert_eq!(fs::read_dir(place.path().join(TRASH)).expect("stays").count(), 0);
    }

    #[test]
    fn what_is_not_there_needs_no_removing() {
        let place = tempfile::tempdir().expect("a folder");
        let root = WorkspaceRoot::open(place.path()).expect("a root");
        root.discard_path(&place.path().join("nope")).expect("no error");
        assert_eq!(root.empty_trash(10).expect("readable"), TrashPortion::default());
    }
}
