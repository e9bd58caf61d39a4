//! `maestro worker`: the verbs, one file each.

mod drain;
mod list;
mod start;

use clap::Subcommand;

use super::{CommandContext, Outcome};

/// The verbs of `worker`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  maestro worker start --concurrency 8")]
pub(crate) enum WorkerCommand {
    /// Let a worker end by and by, and wait until it has gone
    Drain(drain::WorkerDrainArgs),
    /// List workers and coordinators
    List(list::WorkerListArgs),
    /// Claim tasks and run agents, until told to end
    Start(start::WorkerStartArgs),
}

/// Runs one of the verbs.
pub(crate) fn run(command: WorkerCommand, context: &CommandContext) -> Outcome {
    match command {
        WorkerCommand::Drain(args) => drain::run(&args, context),
        WorkerCommand::List(args) => list::run(&args, context),
        WorkerCommand::Start(args) => start::run(args, context),
    }
}
