//! `maestro workspace`: the verbs, one file each.

mod clean;
mod du;
mod entry;
mod list;

use clap::Subcommand;

use super::{CommandContext, Outcome};

/// The verbs of `workspace`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  maestro workspace du")]
pub(crate) enum WorkspaceCommand {
    /// List the workspaces on all live workers
    List(list::WorkspaceListArgs),
    /// Count files and bytes of workspaces
    Du(du::WorkspaceDuArgs),
    /// Remove workspaces that nothing needs any more
    Clean(clean::WorkspaceCleanArgs),
}

/// Runs one of the verbs.
pub(crate) fn run(command: WorkspaceCommand, context: &CommandContext) -> Outcome {
    match command {
        WorkspaceCommand::List(args) => list::run(&args, context),
        WorkspaceCommand::Du(args) => du::run(&args, context),
        WorkspaceCommand::Clean(args) => clean::run(&args, context),
    }
}
