//! `maestro task list`: tasks of one run, or of all.

use clap::{Args, ValueEnum};
use maestro_model::task::TaskStatus;

use super::entry::{TASK_CARD, TASK_ROWS, WorkerNames, task_entries};
use super::scan::{RUNS_LOOKED_AT_MAX, TaskWish, scan_tasks};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::ids::{find_run, find_task};
use crate::work::last_of_agent;

/// Flags of `task list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro task list --run last --status failed")]
pub(crate) struct TaskListArgs {
    /// Only the task that started last (with --agent: of that agent), as one record
    #[arg(long, conflicts_with_all = ["run", "status", "limit"])]
    last: bool,
    /// Only tasks of this run: its id, a prefix of it, or `last`
    #[arg(long)]
    run: Option<String>,
    /// Only tasks in this state; may be given several times
    #[arg(long, value_enum)]
    status: Vec<StatusWord>,
    /// Only tasks of this agent or agent type
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// The states of a task, as users write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusWord {
    /// Waits for other tasks
    Blocked,
    /// Waits for a worker
    Queued,
    /// An agent works on it
    Running,
    /// Waits for a time
    Parked,
    /// Ended well
    Completed,
    /// Ended badly, for good
    Failed,
    /// Will not run
    Skipped,
    /// Ended because somebody said so
    Cancelled,
}

impl StatusWord {
    /// The states the word stands for.
    pub(crate) fn statuses(self) -> &'static [TaskStatus] {
        match self {
            StatusWord::Blocked => &[TaskStatus::Blocked],
            StatusWord::Queued => &[TaskStatus::Queued],
            // A task that is told to end still runs.
            StatusWord::Running => &[TaskStatus::Running, TaskStatus::Cancelling],
            StatusWord::Parked => &[TaskStatus::Parked],
            StatusWord::Completed => &[TaskStatus::Completed],
            StatusWord::Failed => &[TaskStatus::Failed],
            StatusWord::Skipped => &[TaskStatus::Skipped],
            StatusWord::Cancelled => &[TaskStatus::Cancelled],
        }
    }
}

/// Prints the tasks.
pub(crate) fn run(args: &TaskListArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        if args.last {
            let found = match &args.agent {
                Some(agent) => last_of_agent(&store, agent).await?,
                None => find_task(&store, "last").await?,
            };
            let mut names = WorkerNames::read(&store).await?;
            for entry in task_entries(&store, &found.run, &[found.task], &mut names).await? {
                context.printer.record(&entry, &TASK_CARD)?;
            }
            return Ok(Exit::Done);
        }
        let runs = match &args.run {
            Some(run) => vec![find_run(&store, run).await?],
            None => store.newest_runs(RUNS_LOOKED_AT_MAX).await?,
        };
        let wish = TaskWish {
            statuses: args.status.iter().flat_map(|word| word.statuses()).copied().collect(),
            agent: args.agent.clone(),
            limit: args.limit as usize,
        };
        let scanned = scan_tasks(&store, &runs, &wish).await?;
        context.printer.list(&scanned.entries, &TASK_ROWS)?;
        if scanned.more {
            context.printer.note(&format!(
                "there are more than these {}: raise `--limit`, or name a run with `--run`",
                scanned.entries.len()
            ));
        }
        Ok(Exit::Done)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_can_be_asked_for_and_by_its_own_word() {
        let mut asked: Vec<TaskStatus> = Vec::new();
        for word in StatusWord::value_variants() {
            let name = word.to_possible_value().expect("none is hidden").get_name().to_owned();
            assert!(word.statuses().iter().all(|status| status.word() == name), "{name}");
            asked.extend(word.statuses());
        }
        asked.sort();
        let mut all = TaskStatus::ALL.to_vec();
        all.sort();
        assert_eq!(asked, all);
    }
}
