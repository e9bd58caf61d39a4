//! `maestro queue status`: how much there is to do, or the tasks themselves.

use clap::Args;
use maestro_model::task::TaskStatus;
use maestro_store::Store;
use maestro_store::step::CellMode;

use super::counts::{COUNT_ROWS, count_by_agent};
use super::{pause_hint, pause_note};
use crate::agents::AgentOverview;
use crate::cluster::open_store;
use crate::commands::task::entry::{TASK_ROWS, WorkerNames, task_entries};
use crate::commands::task::scan::{RUNS_LOOKED_AT_MAX, TaskWish, scan_tasks};
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::find_task;

/// Flags of `queue status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Waiting = blocked, queued or parked; processing = running; completed = ended, however, \
                        in the runs that are kept.\n\nExample:\n  maestro queue status --waiting --agent shell"
)]
pub(crate) struct QueueStatusArgs {
    /// List tasks that wait: blocked, queued, parked
    #[arg(long)]
    waiting: bool,
    /// List tasks that run
    #[arg(long)]
    processing: bool,
    /// List tasks that have ended
    #[arg(long)]
    completed: bool,
    /// Only this agent, or this agent type
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Only this task: `<run>.<index>`, `<run>/<step>`, `last`
    #[arg(long, value_name = "ID", conflicts_with_all = ["waiting", "processing", "completed", "agent"])]
    task: Option<String>,
    /// At most so many tasks
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Prints counts by agent type, or tasks if a kind of them is named.
pub(crate) fn run(args: &QueueStatusArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let agent = match &args.agent {
            Some(agent) => Some(named(&store, agent).await?),
            None => None,
        };
        let mode = store.mode().await?;
        if mode.mode != CellMode::Run {
            let (note, hint) = (pause_note(&mode), pause_hint(&mode));
            context.printer.warn(&format!("{note}: nothing new is started ({hint})"));
        }
        if let Some(task) = &args.task {
            let found = find_task(&store, task).await?;
            let mut names = WorkerNames::read(&store).await?;
            let entries = task_entries(&store, &found.run, &[found.task], &mut names).await?;
            context.printer.list(&entries, &TASK_ROWS)?;
        } else if args.waiting || args.processing || args.completed {
            print_tasks(&store, args, agent, context).await?;
        } else {
            print_counts(&store, agent.as_deref(), context).await?;
        }
        Ok(Exit::Done)
    })
}

/// The agent or type that is meant. One that nobody knows any more may still have tasks.
async fn named(store: &Store, text: &str) -> Result<String, Failure> {
    let overview = AgentOverview::read(store).await?;
    match overview.find(text) {
        Ok(found) => Ok(found.name().to_owned()),
        Err(failure) => {
            let counted = count_by_agent(store).await?;
            let has_tasks = counted.rows.iter().any(|row| row.agent == text);
            has_tasks.then(|| text.to_owned()).ok_or(failure)
        }
    }
}

async fn print_tasks(
    store: &Store,
    args: &QueueStatusArgs,
    agent: Option<String>,
    context: &CommandContext,
) -> Result<(), Failure> {
    let kinds = [
        (args.waiting, &[TaskStatus::Blocked, TaskStatus::Queued, TaskStatus::Parked][..]),
        (args.processing, &[TaskStatus::Running, TaskStatus::Cancelling][..]),
        (
            args.completed,
            &[TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Skipped, TaskStatus::Cancelled][..],
        ),
    ];
    let asked = kinds.into_iter().filter(|(asked, _)| *asked);
    let wish = TaskWish {
        statuses: asked.flat_map(|(_, statuses)| statuses).copied().collect(),
        agent,
        limit: args.limit as usize,
    };
    let runs = store.newest_runs(RUNS_LOOKED_AT_MAX).await?;
    let scanned = scan_tasks(store, &runs, &wish).await?;
    context.printer.list(&scanned.entries, &TASK_ROWS)?;
    if scanned.more {
        context
            .printer
            .note(&format!("there are more than these {}: raise `--limit`", scanned.entries.len()));
    }
    Ok(())
}

async fn print_counts(store: &Store, agent: Option<&str>, context: &CommandContext) -> Result<(), Failure> {
    let mut counted = count_by_agent(store).await?;
    counted.rows.retain(|row| agent.is_none_or(|agent| row.agent == agent));
    context.printer.list(&counted.rows, &COUNT_ROWS)?;
    if counted.cut {
        context.printer.note("ended tasks of the oldest runs are not counted");
    }
    Ok(())
}
