//! `maestro state list`: shared values by key.

use clap::Args;

use super::entry::STATE_ROWS;
use super::pattern::read_pattern;
use super::road::StateRoad;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;

/// Flags of `state list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro state list \"build*\"")]
pub(crate) struct StateListArgs {
    /// Only keys that match: `*`, `?`, `[ab]`, `{a,b}`
    glob: Option<String>,
}

/// Lists them.
pub(crate) fn run(args: &StateListArgs, context: &CommandContext) -> Outcome {
    let glob = args.glob.as_deref();
    let pattern = read_pattern(glob)?;
    context.block_on(0, async {
        let entries = StateRoad::open(context).await?.list(glob, &pattern).await?;
        context.printer.list(&entries, &STATE_ROWS)?;
        Ok(Exit::Done)
    })
}
