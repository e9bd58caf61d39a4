//! Opening a snapshot for a command: verified, or a failure that says what is wrong with it.

use std::path::Path;

use maestro_coordinator::archive::{ArchiveReadError, ReadProgress, VerifiedArchive, verify_archive};

use crate::commands::CommandContext;
use crate::failure::Failure;

/// Reads every byte of it.
///
/// # Errors
/// 65 if it is refused, 66 if there is no such file, 1 if the disk fails.
pub(crate) fn open_verified(path: &Path, context: &CommandContext) -> Result<VerifiedArchive, Failure> {
    let mut line = context.progress()?;
    let mut on_progress =
        |progress: ReadProgress| line.show("reading the archive", progress.done, Some(progress.total));
    verify_archive(path, &mut on_progress).map_err(|error| archive_failure(path, &error))
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
