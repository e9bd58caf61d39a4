//! How the agents of this suite are kept apart: as processes. The suite of containers has the same tests, and a
//! module of this name and shape.

use maestro_worker::attempt::AttemptRunner;

/// Whether the worker counts an agent's processes, their memory, and what they leave behind.
pub(crate) const COUNTS_PROCESSES: bool = true;

/// What an agent type of the suite says of it.
pub(crate) fn keys() -> serde_json::Value {
    serde_json::json!({})
}

/// A runner as it is.
pub(crate) fn equipped(runner: AttemptRunner) -> AttemptRunner {
    runner
}
