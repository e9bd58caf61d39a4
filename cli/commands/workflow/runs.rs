//! `maestro workflow runs`: which runs there are.

use clap::Args;
use maestro_model::ids::WorkflowName;

use super::run_entry::{RUN_ROWS, RunEntry};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;

/// Runs looked at when only those of one workflow are wanted: more than are ever kept.
const LOOKED_AT_MAX: usize = 100_000;

/// Flags of `workflow runs`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro workflow runs hello --limit 5")]
pub(crate) struct RunsArgs {
    /// Only runs of this workflow
    name: Option<WorkflowName>,
    /// At most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Lists them, newest first.
pub(crate) fn run(args: &RunsArgs, context: &CommandContext) -> Outcome {
    let limit = args.limit as usize;
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        // One more than is shown, to be able to say that there are more.
        let asked = if args.name.is_some() { LOOKED_AT_MAX } else { limit + 1 };
        let runs = store.newest_runs(asked).await?;
        let of_name = |workflow: &str| args.name.as_ref().is_none_or(|name| name.as_str() == workflow);
        let mut entries: Vec<RunEntry> =
            runs.iter().filter(|run| of_name(&run.workflow)).take(limit + 1).map(RunEntry::from).collect();
        let more = entries.len() > limit;
        entries.truncate(limit);
        context.printer.list(&entries, &RUN_ROWS)?;
        if more {
            context.printer.note(&format!("there are more than these {limit}: raise `--limit`"));
        }
        Ok(Exit::Done)
    })
}
