//! A copy of a folder as one `tar.gz`, before it is emptied.
//!
//! Packing is `tree`'s business; here is where the archive goes, that it is whole, and that it appears under its
//! name when it is, or not at all. Sockets, pipes and devices are left out.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::tree::{PackError, PackTrouble, TreePacker};

/// Bytes written at one time, before and after they are compressed.
const BUFFER_BYTES: usize = 128 * 1024;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    /// The archive cannot be written.
    #[error("cannot write `{}`", path.display())]
    Output {
        /// Where it was to be.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The folder cannot be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Something in the folder would be missing in the copy.
    #[error("`{}` cannot be read", path.display())]
    Incomplete {
        /// The first such entry.
        path: PathBuf,
    },
}

/// Writes all that is in `folder` to `<snapshots>/auto/<name>.tar.gz`; where that is.
///
/// # Errors
/// If anything of the folder would be missing, or the archive cannot be written: then there is none.
pub(super) fn archive_folder(folder: &Path, snapshots: &Path, name: &str) -> Result<PathBuf, ArchiveError> {
    let place = snapshots.join("auto");
    let path = place.join(format!("{name}.tar.gz"));
    let failed = |source| ArchiveError::Output { path: path.clone(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(&place).map_err(failed)?;
    let unfinished = place.join(format!(".{name}.{:08x}.part", rand::random::<u32>()));
    let written = write_archive(folder, &unfinished);
    if written.is_err() {
        // What there is of it is of no use to anybody.
        let _ = fs::remove_file(&unfinished);
    }
    written?;
    fs::rename(&unfinished, &path).map_err(failed)?;
    Ok(path)
}

fn write_archive(folder: &Path, path: &Path) -> Result<(), ArchiveError> {
    let failed = |source| ArchiveError::Output { path: path.to_owned(), source };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let packed = GzEncoder::new(BufWriter::with_capacity(BUFFER_BYTES, file), Compression::fast());
    let mut packer = TreePacker::new(BufWriter::with_capacity(BUFFER_BYTES, packed));
    // An assigned folder may be named by a link.
    let folder = fs::canonicalize(folder).map_err(failed)?;
    packer.add(&folder, Path::new(""))?;
    let (packed, summary) = packer.finish()?;
    let is_missing = |trouble| matches!(trouble, PackTrouble::Unreadable | PackTrouble::TooDeep);
    let missing = summary.notes.iter().find(|note| is_missing(note.trouble));
    if let Some(note) = missing {
        return Err(ArchiveError::Incomplete { path: note.path.clone() });
    }
    let packed = packed.into_inner().map_err(|error| failed(error.into_error()))?;
    let mut file = packed.finish().map_err(failed)?;
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    #[test]
    fn plain_tar_reads_what_was_archived() {
        let place = tempfile::tempdir().expect("a folder");
        let (folder, snapshots) = (place.path().join("work"), place.path().join("snapshots"));
        fs::create_dir_all(folder.join("sub/empty")).expect("folders");
        fs::write(folder.join("sub/run.sh"), "echo").expect("a file");
        fs::set_permissions(folder.join("sub/run.sh"), fs::Permissions::from_mode(0o750)).expect("ours");
        symlink("/etc/passwd", folder.join("outside")).expect("a link");
        let long = "x".repeat(150);
        fs::write(folder.join(&long), "long").expect("a file");
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("pipe"), 0o600.into()).expect("a pipe");

        let path = archive_folder(&folder, &snapshots, "pre-reset-smith-1").expect("an archive");

        assert_eq!(path, snapshots.join("auto/pre-reset-smith-1.tar.gz"));
        let back = place.path().join("back");
        fs::create_dir(&back).expect("a folder");
        let tar =
            Command::new("tar").arg("-xzf").arg(&path).arg("-C").arg(&back).status().expect("tar is there");
        assert!(tar.success());
        assert_eq!(fs::read_to_string(back.join("sub/run.sh")).expect("there"), "echo");
        let mode = fs::metadata(back.join("sub/run.sh")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o750);
        assert_eq!(fs::read_link(back.join("outside")).expect("a link"), Path::new("/etc/passwd"));
        assert!(back.join("sub/empty").is_dir());
        assert!(back.join(long).is_file());
        assert!(!back.join("pipe").exists());
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_copy_that_failed_leaves_nothing() {
        let place = tempfile::tempdir().expect("a folder");
        let missing = place.path().join("missing");
        assert!(archive_folder(&missing, place.path(), "x").is_err());
        assert_eq!(fs::read_dir(place.path().join("auto")).expect("made").count(), 0);
    }
}
