//! `maestro task status`: one task's record.

use clap::Args;

use super::entry::{TASK_CARD, WorkerNames, task_entries};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::ids::find_task;

/// Flags of `task status`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro task status last/build --format json")]
pub(crate) struct TaskStatusArgs {
    /// `<run>.<index>`, `<run>/<step>` or `<run>/<step>[<item>]`; a run is its id, a prefix of it, or `last`
    #[arg(required_unless_present = "last")]
    id: Option<String>,
    /// The task that started last
    #[arg(long, conflicts_with = "id")]
    last: bool,
}

/// Prints the record. The exit code says nothing about the task: it is 0 if there is one.
pub(crate) fn run(args: &TaskStatusArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let found = find_task(&store, args.id.as_deref().unwrap_or("last")).await?;
        let mut names = WorkerNames::read(&store).await?;
        let entries = task_entries(&store, &found.run, &[found.task], &mut names).await?;
        for entry in &entries {
            context.printer.record(entry, &TASK_CARD)?;
        }
        Ok(Exit::Done)
    })
}
