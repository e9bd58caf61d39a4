//! `maestro monitor`: the verbs, one file each.

mod entry;
mod problems;
mod start;

use clap::Subcommand;

use super::{CommandContext, Outcome};

/// The verbs of `monitor`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  maestro monitor start --alert-webhook https://alerts.internal/maestro")]
pub(crate) enum MonitorCommand {
    /// List what needs a person
    Problems(problems::MonitorProblemsArgs),
    /// Check again and again, print changes and send alerts
    Start(start::MonitorStartArgs),
}

/// Runs one of the verbs.
pub(crate) fn run(command: MonitorCommand, context: &CommandContext) -> Outcome {
    match command {
        MonitorCommand::Problems(args) => problems::run(&args, context),
        MonitorCommand::Start(args) => start::run(&args, context),
    }
}
