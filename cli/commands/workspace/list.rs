//! `maestro workspace list`: which folders agents have, and where.

use clap::Args;

use super::entry::{WORKSPACE_ROWS, all_workspaces};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;

/// Flags of `workspace list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro workspace list --agent shell")]
pub(crate) struct WorkspaceListArgs {
    /// Only those of an agent, an agent type, or a run
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
}

/// Lists them by agent.
pub(crate) fn run(args: &WorkspaceListArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let entries = all_workspaces(&store, args.agent.as_deref(), false, context).await?;
        context.printer.list(&entries, &WORKSPACE_ROWS)?;
        Ok(Exit::Done)
    })
}
