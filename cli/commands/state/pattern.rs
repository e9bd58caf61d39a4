//! Which keys of shared state are meant, as it is written on a command line.

use maestro_worker::side_door::{GlobError, KeyPattern};

use crate::failure::Failure;

/// Reads a glob; without one all keys are meant.
///
/// # Errors
/// 2 if it is none.
pub(crate) fn read_pattern(glob: Option<&str>) -> Result<KeyPattern, Failure> {
    KeyPattern::read(glob).map_err(|error| Failure::usage(error.to_string()).hint(GlobError::HINT))
}
