//! Tasks of many runs, newest run first, as far as a limit allows.

use std::collections::BTreeSet;

use maestro_model::task::TaskStatus;
use maestro_store::Store;
use maestro_store::runs::{RunRecord, TaskView};

use super::entry::{TaskEntry, WorkerNames, is_shown, running_groups, task_entries};
use crate::failure::Failure;

/// Most tasks looked at for one list: beyond that it is said that it ends early.
pub(crate) const TASKS_LOOKED_AT_MAX: u32 = 200_000;
/// Most runs looked at for one list.
pub(crate) const RUNS_LOOKED_AT_MAX: usize = 2_000;

/// Which tasks are wanted.
#[derive(Debug, Clone)]
pub(crate) struct TaskWish {
    /// In one of these states; all of them if there are none.
    pub(crate) statuses: Vec<TaskStatus>,
    /// Of this agent or agent type.
    pub(crate) agent: Option<String>,
    /// At most so many.
    pub(crate) limit: usize,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct ScannedTasks {
    /// The tasks, newest run first, each run's in the order of its plan.
    pub(crate) entries: Vec<TaskEntry>,
    /// Whether there is more than was asked for, or looked at.
    pub(crate) more: bool,
}

/// Looks through runs for tasks.
///
/// # Errors
/// What the store says.
pub(crate) async fn scan_tasks(
    store: &Store,
    runs: &[RunRecord],
    wish: &TaskWish,
) -> Result<ScannedTasks, Failure> {
    let mut names = WorkerNames::read(store).await?;
    let mut scanned = ScannedTasks::default();
    let mut looked_at = 0;
    for run in runs {
        if !may_have(run, &wish.statuses) {
            continue;
        }
        if scanned.entries.len() >= wish.limit || looked_at >= TASKS_LOOKED_AT_MAX {
            scanned.more = true;
            break;
        }
        looked_at += run.tasks;
        let tasks = wanted_tasks(store, run, &wish.statuses).await?;
        let mut entries = task_entries(store, run, &tasks, &mut names).await?;
        entries.retain(|entry| {
            wish.agent.as_ref().is_none_or(|agent| entry.agent == *agent || entry.agent_type == *agent)
        });
        let room = wish.limit - scanned.entries.len();
        scanned.more |= entries.len() > room;
        entries.truncate(room);
        scanned.entries.append(&mut entries);
    }
    Ok(scanned)
}

/// Whether a run's counts allow for a task in one of these states.
fn may_have(run: &RunRecord, statuses: &[TaskStatus]) -> bool {
    let count = |status: &TaskStatus| match status {
        TaskStatus::Completed => run.completed,
        TaskStatus::Failed => run.failed,
        TaskStatus::Skipped => run.skipped,
        TaskStatus::Cancelled => run.cancelled,
        _ => run.open,
    };
    statuses.is_empty() || statuses.iter().any(|status| count(status) > 0)
}

async fn wanted_tasks(
    store: &Store,
    run: &RunRecord,
    statuses: &[TaskStatus],
) -> Result<Vec<TaskView>, Failure> {
    let mut tasks = store.tasks(&run.id, 0..run.tasks).await?;
    let groups: BTreeSet<u32> = running_groups(&tasks);
    tasks.retain(|task| is_shown(task, &groups));
    tasks.retain(|task| statuses.is_empty() || statuses.contains(&task.status));
    Ok(tasks)
}
