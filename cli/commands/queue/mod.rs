//! `maestro queue`: the verbs, one file each.

mod counts;
mod status;

use clap::Subcommand;

use super::{CommandContext, Outcome};

/// The verbs of `queue`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  maestro queue status --waiting")]
pub(crate) enum QueueCommand {
    /// How much waits, runs and has ended, by agent type
    Status(status::QueueStatusArgs),
}

/// Runs one of the verbs.
pub(crate) fn run(command: QueueCommand, context: &CommandContext) -> Outcome {
    match command {
        QueueCommand::Status(args) => status::run(&args, context),
    }
}
