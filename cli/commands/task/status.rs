//! `maestro task status`: one task's record, or that of a run of several.

use clap::Args;

use super::entry::{TASK_CARD, WorkerNames, task_entries};
use crate::cluster::open_store;
use crate::commands::workflow::print_run;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::ids::find_task;
use crate::work::{FoundWork, find_work, last_of_agent};

/// Flags of `task status`.
#[derive(Debug, Args)]
#[command(
    after_help = "The exit code says nothing about the task: it is 0 if there is one. The id of a run of several \
                        tasks prints that run.\n\n\
                        Examples:\n  maestro task status last/build --format json\n  \
                        maestro task status --last code-reviewer | jq -r .status"
)]
pub(crate) struct TaskStatusArgs {
    /// `<run>.<index>`, `<run>/<step>`, `<run>/<step>[<item>]` or `<run>`; a run is its id, a prefix of it, or `last`
    #[arg(required_unless_present = "last")]
    id: Option<String>,
    /// The task that started last, or the newest one of this agent or agent type
    #[arg(long, value_name = "AGENT", num_args = 0..=1, conflicts_with = "id")]
    last: Option<Option<String>>,
}

/// Prints the record. The exit code says nothing about the task: it is 0 if there is one.
pub(crate) fn run(args: &TaskStatusArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let work = match (&args.last, &args.id) {
            (Some(Some(agent)), _) => FoundWork::Task(Box::new(last_of_agent(&store, agent).await?)),
            (None, Some(id)) => find_work(&store, id).await?,
            (Some(None), _) | (None, None) => FoundWork::Task(Box::new(find_task(&store, "last").await?)),
        };
        let found = match work {
            FoundWork::Run(run) => return print_run(&store, &run, context).await,
            FoundWork::Task(found) => found,
        };
        let mut names = WorkerNames::read(&store).await?;
        for entry in &task_entries(&store, &found.run, &[found.task], &mut names).await? {
            context.printer.record(entry, &TASK_CARD)?;
        }
        Ok(Exit::Done)
    })
}
