//! Opening a snapshot for a command: verified, or a failure that says what is wrong with it.

use std::path::Path;

use maestro_coordinator::archive::{ArchiveReadError, VerifiedArchive, verify_archive};

use crate::failure::Failure;

/// Reads every byte of it.
///
/// # Errors
/// 65 if it is refused, 66 if there is no such file, 1 if the disk fails.
pub(crate) fn open_verified(path: &Path) -> Result<VerifiedArchive, Failure> {
    verify_archive(path, &mut |_| {}).map_err(|error| archive_failure(path, &error))
}

/// What a command says of an archive that cannot be read.
pub(super) fn archive_failure(path: &Path, error: &ArchiveReadError) -> Failure {
    let shown = path.display();
    match error {
        ArchiveReadError::Open { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Failure::not_found(format!("there is no snapshot `{shown}`"))
                .hint("`maestro state snapshots` lists those that there are")
        }
        ArchiveReadError::Open { .. } | ArchiveReadError::Disk { .. } => {
            Failure::new(crate::exit::Exit::WorkFailed, format!("cannot read snapshot `{shown}`"))
                .caused_by(error)
        }
        ArchiveReadError::Fault(fault) => {
            Failure::invalid_file(format!("snapshot `{shown}` is refused")).cause(fault).hint(fault.hint())
        }
    }
}
