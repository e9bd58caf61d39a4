//! What operators do with agents and workflows day by day, with the real binary and real processes.
//!
//! - `agents`: assigned agents at work; `housekeeping`: agents, workers and folders
//! - `dispatching`: single tasks, retries, traces; `ordering`: who starts when
//! - `every_command`: what each prints; `step_copies`: folders that travel from step to step
//! - `repo_audit`, `shipped`: what is shipped; `reference`: what is documented
//!
//! One binary for all of them: each would be linked with everything again.

mod agents;
mod dispatching;
mod every_command;
mod housekeeping;
mod ordering;
mod reference;
mod repo_audit;
mod shipped;
mod step_copies;
#[path = "../support/mod.rs"]
mod support;
