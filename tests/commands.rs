//! The commands that need no cluster, from outside: output, errors and exit codes of the real binary.
//!
//! Each call has an environment of its own (an empty home, nothing inherited), so that no setting of the
//! host leaks in. Paths of the sandbox are shown as `[FOLDER]`.

#[path = "commands/config.rs"]
mod config;
#[path = "commands/general.rs"]
mod general;
#[path = "commands/sandbox.rs"]
mod sandbox;
#[path = "commands/workflow.rs"]
mod workflow;
