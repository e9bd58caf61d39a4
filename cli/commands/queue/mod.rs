//! `maestro queue`: the verbs, one file each.

mod counts;
mod pause;
mod status;

use clap::Subcommand;

pub(crate) use pause::{pause_hint, pause_note};

use super::{CommandContext, Outcome};

/// The verbs of `queue`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  maestro queue status --waiting")]
pub(crate) enum QueueCommand {
    /// How much waits, runs and has ended, by agent type
    Status(status::QueueStatusArgs),
    /// Start nothing new; what runs goes on
    Pause(pause::PauseArgs),
    /// Go on after a pause
    Resume(pause::ResumeArgs),
}

/// Runs one of the verbs.
pub(crate) fn run(command: QueueCommand, context: &CommandContext) -> Outcome {
    match command {
        QueueCommand::Status(args) => status::run(&args, context),
        QueueCommand::Pause(args) => pause::pause(&args, context),
        QueueCommand::Resume(args) => pause::resume(&args, context),
    }
}
