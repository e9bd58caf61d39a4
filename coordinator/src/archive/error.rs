//! Why an archive could not be read.

use std::io;
use std::path::PathBuf;

use maestro_model::snapshot::ArchiveFault;

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveReadError {
    /// There is no such file, or it may not be read.
    #[error("cannot open `{}`", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The disk failed.
    #[error("cannot read `{}`", path.display())]
    Disk {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The archive breaks a rule: it is refused as a whole.
    #[error(transparent)]
    Fault(#[from] ArchiveFault),
}
