//! Every command from outside: output, errors and exit codes of the real binary.
//!
//! Each call has an environment of its own (an empty home, nothing inherited), so that no setting of the
//! host leaks in. Paths of the sandbox are shown as `[FOLDER]`.
//!
//! - `config`, `general`, `starting`, `workflow`: those that need no cluster
//! - `asking`: those that ask one

mod asking;
mod config;
mod general;
mod sandbox;
mod starting;
#[path = "../../store/tests/support/mod.rs"]
mod support;
mod workflow;
