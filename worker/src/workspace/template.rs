//! Copying a template into a new workspace.
//!
//! Kept: contents (shared with the template where the file system can), permissions, times, links as links,
//! further names of a file. Not kept: owners, set-uid bits, devices, sockets and pipes.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, FileTimes, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps};

/// Deepest nesting of folders in a template.
const TEMPLATE_DEPTH_MAX: usize = 128;
/// Most files and folders in a template.
const TEMPLATE_ENTRIES_MAX: usize = 1_000_000;

/// Why a template could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum TemplateCopyError {
    /// It is not on this host; another may have it.
    #[error("template not found: `{}`", path.display())]
    Missing {
        /// The template's folder.
        path: PathBuf,
    },
    /// It is no template on any host.
    #[error("template `{}` cannot be used: {rule}", path.display())]
    Unfit {
        /// The template's folder.
        path: PathBuf,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The host could not copy it.
    #[error("cannot copy `{}` of the template: {source}", path.display())]
    Host {
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Copies all that is in `template` into `target`, an empty folder.
pub(crate) fn copy_template(template: &Path, target: &Path) -> Result<(), TemplateCopyError> {
    let unfit = |rule| TemplateCopyError::Unfit { path: template.to_owned(), rule };
    match fs::metadata(template) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(unfit("it is not a folder")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(TemplateCopyError::Missing { path: template.to_owned() });
        }
        Err(source) => return Err(TemplateCopyError::Host { path: template.to_owned(), source }),
    }
    let mut waiting = vec![(template.to_owned(), target.to_owned(), 1)];
    let mut finished = Vec::new();
    let mut entries = 0;
    let mut first_names = HashMap::new();
    while let Some((from, to, depth)) = waiting.pop() {
        let host = |source| TemplateCopyError::Host { path: from.clone(), source };
        for entry in fs::read_dir(&from).map_err(host)? {
            let name = entry.map_err(host)?.file_name();
            entries += 1;
            if entries > TEMPLATE_ENTRIES_MAX {
                return Err(unfit("it has more than 1,000,000 files"));
            }
            let (from, to) = (from.join(&name), to.join(&name));
            let copied = copy_entry(&from, &to, &mut first_names);
            let Some(found) =
                copied.map_err(|source| TemplateCopyError::Host { path: from.clone(), source })?
            else {
                continue;
            };
            if depth == TEMPLATE_DEPTH_MAX {
                return Err(unfit("its folders are nested deeper than 128"));
            }
            finished.push((to.clone(), found));
            waiting.push((from, to, depth + 1));
        }
    }
    // Last, and the innermost first: whatever is put into a folder changes its times, and one that its
    // owner may not write to could not be filled.
    for (path, found) in finished.into_iter().rev() {
        finish_folder(&path, &found).map_err(|source| TemplateCopyError::Host { path, source })?;
    }
    Ok(())
}

/// Copies one entry; of a folder, makes an empty one and gives what is known of the original. `first_names`
/// are the copies of files that have further names.
fn copy_entry(
    from: &Path,
    to: &Path,
    first_names: &mut HashMap<(u64, u64), PathBuf>,
) -> io::Result<Option<Metadata>> {
    let found = fs::symlink_metadata(from)?;
    let kind = found.file_type();
    if kind.is_dir() {
        DirBuilder::new().mode(0o700).create(to)?;
        return Ok(Some(found));
    }
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps {
            last_access: time(found.atime(), found.atime_nsec()),
            last_modification: time(found.mtime(), found.mtime_nsec()),
        };
        rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    } else if kind.is_file() {
        let file = (found.dev(), found.ino());
        match first_names.get(&file) {
            Some(first) => fs::hard_link(first, to)?,
            None => copy_file(from, to)?,
        }
        if found.nlink() > 1 {
            first_names.entry(file).or_insert_with(|| to.to_owned());
        }
    } else {
        let socket = kind.is_socket();
        tracing::warn!(path = %from.display(), socket, "a template's special file is left out");
    }
    Ok(None)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let no_link = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let mut source = OpenOptions::new().read(true).custom_flags(no_link).open(from)?;
    let found = source.metadata()?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
        // Copies within the kernel where it can.
        io::copy(&mut source, &mut target)?;
    }
    target.set_permissions(Permissions::from_mode(found.permissions().mode() & 0o777))?;
    target.set_times(times_of(&found)?)
}

pub(super) fn finish_folder(path: &Path, found: &Metadata) -> io::Result<()> {
    let folder = File::open(path)?;
    folder.set_permissions(Permissions::from_mode(found.permissions().mode() & 0o777))?;
    folder.set_times(times_of(found)?)
}

fn times_of(found: &Metadata) -> io::Result<FileTimes> {
    Ok(FileTimes::new().set_modified(found.modified()?).set_accessed(found.accessed()?))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn contents_permissions_times_and_links_survive() {
        let place = tempfile::tempdir().expect("a folder");
        let (template, target) = (place.path().join("template"), place.path().join("target"));
        fs::create_dir_all(template.join("sub/empty")).expect("folders");
        fs::create_dir(&target).expect("a folder");
        let big = vec![7; 300_000];
        fs::write(template.join("sub/big"), &big).expect("a file");
        fs::set_permissions(template.join("sub/big"), Permissions::from_mode(0o4751)).expect("ours");
        symlink("/etc/passwd", template.join("outside")).expect("a link");
        fs::hard_link(template.join("sub/big"), template.join("same")).expect("a second name");
        rustix::fs::mkfifoat(rustix::fs::CWD, template.join("pipe"), 0o600.into()).expect("a pipe");
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for path in ["sub/big", "sub/empty", "sub"] {
            let file = File::open(template.join(path)).expect("there");
            file.set_times(FileTimes::new().set_modified(old)).expect("ours");
        }
        fs::set_permissions(template.join("sub/empty"), Permissions::from_mode(0o555)).expect("ours");

        copy_template(&template, &target).expect("a copy");

        assert_eq!(fs::read(target.join("sub/big")).expect("copied"), big);
        let mode =
            |path: &str| fs::metadata(target.join(path)).expect("copied").permissions().mode() & 0o7777;
        assert_eq!((mode("sub/big"), mode("sub/empty")), (0o751, 0o555));
        assert_eq!(fs::read_link(target.join("outside")).expect("a link"), Path::new("/etc/passwd"));
        for path in ["sub/big", "sub/empty", "sub"] {
            assert_eq!(
                fs::metadata(target.join(path)).expect("copied").modified().expect("known"),
                old,
                "{path}"
            );
        }
        assert!(!target.join("pipe").exists());
        let file = |path: &str| fs::metadata(target.join(path)).expect("copied").ino();
        assert_eq!(file("same"), file("sub/big"), "one file still");
        let link = |root: &Path| fs::symlink_metadata(root.join("outside")).expect("there").modified();
        assert_eq!(link(&target).expect("known"), link(&template).expect("known"));
    }

    #[test]
    fn a_missing_template_is_told_apart_from_a_file() {
        let place = tempfile::tempdir().expect("a folder");
        let missing = copy_template(&place.path().join("nope"), place.path());
        assert!(matches!(missing, Err(TemplateCopyError::Missing { .. })), "{missing:?}");
        let file = place.path().join("file");
        fs::write(&file, "").expect("a file");
        assert!(matches!(copy_template(&file, place.path()), Err(TemplateCopyError::Unfit { .. })));
    }
}
