//! `maestro redis`: what concerns Maestro's keys in Redis as a whole.

mod flush;

use clap::Subcommand;

use super::{CommandContext, Outcome};

/// The verbs of `redis`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  maestro redis flush --dry-run")]
pub(crate) enum RedisCommand {
    /// Delete every key of this namespace: all runs, state, stored workflows and agents
    Flush(flush::FlushArgs),
}

/// Runs one of the verbs.
pub(crate) fn run(command: RedisCommand, context: &CommandContext) -> Outcome {
    match command {
        RedisCommand::Flush(args) => flush::run(&args, context),
    }
}
