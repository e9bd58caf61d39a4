//! What a user may wait for, cancel or depend on: a task, or a run as a whole; and how it ended.

use maestro_model::dispatch::DISPATCH_NAME;
use maestro_model::ids::RunId;
use maestro_model::plan::NeedTarget;
use maestro_model::task::{Reason, TaskStatus};
use maestro_store::Store;
use maestro_store::runs::{RunRecord, RunStatus, TaskView};

use crate::commands::task::entry::{is_of, shared_parts};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::{FoundTask, NEWEST, find_run, find_task};

/// Runs looked at for the newest task of an agent.
const RUNS_LOOKED_AT_MAX: usize = 2_000;
/// Runs read at one time while it is looked for.
const RUNS_PER_READ: usize = 50;

/// A task, or a run of several.
#[derive(Debug, Clone)]
pub(crate) enum FoundWork {
    /// One task.
    Task(Box<FoundTask>),
    /// All tasks of a run: of a workflow, or of a dispatch to several targets.
    Run(Box<RunRecord>),
}

/// What a text means: a run's id stands for its one task, or for all of them.
///
/// # Errors
/// 66 if there is none, 2 if there are several.
pub(crate) async fn find_work(store: &Store, text: &str) -> Result<FoundWork, Failure> {
    if text.contains(['/', '.']) || NEWEST.contains(&text) {
        return Ok(FoundWork::Task(Box::new(find_task(store, text).await?)));
    }
    let run = find_run(store, text).await?;
    if run.tasks == 1 {
        let task = find_task(store, run.id.as_str()).await?;
        return Ok(FoundWork::Task(Box::new(task)));
    }
    Ok(FoundWork::Run(Box::new(run)))
}

impl FoundWork {
    /// Its id, as users write it.
    pub(crate) fn id(&self) -> String {
        match self {
            FoundWork::Task(found) => found.task.id.to_string(),
            FoundWork::Run(run) => run.id.to_string(),
        }
    }

    /// What `--depends-on` makes of it.
    pub(crate) fn need(&self) -> NeedTarget {
        match self {
            FoundWork::Task(found) => NeedTarget::Task(found.task.id.clone()),
            FoundWork::Run(run) => NeedTarget::Run(run.id.clone()),
        }
    }

    /// The run it is, or lies in.
    pub(crate) fn run(&self) -> &RunId {
        match self {
            FoundWork::Task(found) => &found.run.id,
            FoundWork::Run(run) => &run.id,
        }
    }
}

/// The newest task of an agent or agent type: of its newest run, the one that started last.
///
/// # Errors
/// 66 if there is none among the newest runs.
pub(crate) async fn last_of_agent(store: &Store, agent: &str) -> Result<FoundTask, Failure> {
    let ids = store.run_ids(RUNS_LOOKED_AT_MAX).await?;
    for portion in ids.chunks(RUNS_PER_READ) {
        for id in portion {
            // A run may be collected between the two reads.
            let Some(run) = store.run(id).await? else { continue };
            if let Some(task) = last_in_run(store, &run, agent).await? {
                return Ok(FoundTask { run, task });
            }
        }
    }
    Err(Failure::not_found(format!("there is no task of `{agent}`"))
        .hint(format!("give it one: `maestro task dispatch \"…\" --to {agent}`")))
}

async fn last_in_run(store: &Store, run: &RunRecord, agent: &str) -> Result<Option<TaskView>, Failure> {
    let tasks = store.tasks(&run.id, 0..run.tasks).await?;
    let shared = shared_parts(store, run, &tasks).await?;
    let is_its = |task: &TaskView| {
        !matches!(task.kind, 'g' | 'x' | 's')
            && shared.get(&task.shared).is_some_and(|part| is_of(part, agent))
    };
    let started = |task: &TaskView| task.record.as_ref().and_then(|record| record.started_at_ms);
    let mut last: Option<TaskView> = None;
    for task in tasks.into_iter().filter(is_its) {
        if last.as_ref().is_none_or(|last| started(&task) > started(last)) {
            last = Some(task);
        }
    }
    Ok(last)
}

/// The exit code that tells how a task ended; none while it has not.
pub(crate) fn exit_of_task(task: &TaskView) -> Option<Exit> {
    let record = task.record.as_ref();
    Some(match task.status {
        TaskStatus::Completed => Exit::Done,
        TaskStatus::Skipped => Exit::WorkFailed,
        TaskStatus::Cancelled => Exit::Cancelled,
        TaskStatus::Failed => {
            let reason = record.and_then(|record| record.reason);
            let code = record.and_then(|record| record.exit_code).filter(|code| *code != 0);
            match (reason, code.and_then(|code| u8::try_from(code).ok())) {
                (Some(Reason::Timeout), _) => Exit::TimedOut,
                (_, Some(code)) => Exit::Passed(code),
                (_, None) => Exit::WorkFailed,
            }
        }
        _ => return None,
    })
}

/// The exit code that tells how a run ended; none while it has not. A dispatch ends as its tasks do, the
/// first that did not end well counts; a workflow has an outcome of its own.
pub(crate) fn exit_of_run(run: &RunRecord, tasks: &[TaskView]) -> Option<Exit> {
    if !run.status.is_final() {
        return None;
    }
    if run.workflow == DISPATCH_NAME {
        let ends = tasks.iter().filter_map(exit_of_task);
        return Some(first_bad(ends));
    }
    Some(match run.status {
        RunStatus::Completed => Exit::Done,
        RunStatus::Cancelled => Exit::Cancelled,
        _ if run.reason == "timeout" => Exit::TimedOut,
        _ => Exit::WorkFailed,
    })
}

/// The first that is not 0.
pub(crate) fn first_bad(exits: impl IntoIterator<Item = Exit>) -> Exit {
    exits.into_iter().find(|exit| exit.code() != 0).unwrap_or(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_did_not_end_well_counts() {
        assert_eq!(first_bad([Exit::Done, Exit::Passed(3), Exit::TimedOut]), Exit::Passed(3));
        assert_eq!(first_bad([Exit::Done, Exit::Done]), Exit::Done);
        assert_eq!(first_bad([]), Exit::Done);
    }
}
