//! `maestro state list`: shared values by key.

use clap::Args;

use super::entry::{STATE_ROWS, StateEntry};
use super::pattern::KeyPattern;
use crate::cluster::open_store;
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
    let pattern = KeyPattern::read(args.glob.as_deref())?;
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        // What a glob begins with before its first special character narrows the reading.
        let literal = args.glob.as_deref().unwrap_or_default();
        let prefix: String = literal.chars().take_while(|letter| !r"*?[]{}\!".contains(*letter)).collect();
        let values = store.states(&prefix).await?;
        let entries: Vec<StateEntry> =
            values.into_iter().filter(|shared| pattern.means(&shared.key)).map(StateEntry::from).collect();
        context.printer.list(&entries, &STATE_ROWS)?;
        Ok(Exit::Done)
    })
}
