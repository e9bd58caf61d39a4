//! Why there is no snapshot.

use std::io;
use std::path::PathBuf;

use maestro_store::StoreError;

use crate::archive::ArchiveReadError;

/// Why there is no snapshot. The cluster goes on in each case.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Redis refused, or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive, or a file beside it, cannot be written.
    #[error("cannot write `{}`", path.display())]
    Disk {
        /// What was to be written.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The cluster went on too soon: what was read does not belong together.
    #[error("the cluster could not be held still for as long as the snapshot took")]
    NotHeld,
    /// It cannot be said in an archive.
    #[error("{what} cannot be put into a snapshot")]
    Unlawful {
        /// What.
        what: String,
    },
    /// What was written is not what can be read.
    #[error("the snapshot that was written cannot be read again")]
    Unread(#[source] ArchiveReadError),
}

impl SnapshotError {
    pub(crate) fn disk(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> SnapshotError {
        let path = path.into();
        move |source| SnapshotError::Disk { path, source }
    }

    pub(super) fn unlawful(what: impl Into<String>) -> SnapshotError {
        SnapshotError::Unlawful { what: what.into() }
    }
}
