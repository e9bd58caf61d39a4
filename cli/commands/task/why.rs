//! Why a task is where it is: what it waits for, who could take it, how it ended.
//!
//! Nothing is decided here; all of it is read off what the store knows at this moment.

use std::time::Duration;

use maestro_model::ids::{RunId, TaskId};
use maestro_model::plan::{EdgeKind, SharedSpec};
use maestro_model::task::{Reason, TaskStatus};
use maestro_store::Store;
use maestro_store::record::TaskRecord;
use maestro_store::runs::TaskView;
use serde::Serialize;

use super::entry::{WorkerNames, agent_name, counted, shared_parts, state_phrase, why as reason_text};
use super::why_elsewhere;
use super::why_queued::queued;
use crate::failure::Failure;
use crate::ids::FoundTask;
use crate::output::moment::{duration, now_ms};

/// Steps waited for that are shown.
const SHOWN_MAX: usize = 10;
/// The code by which an agent asks to be called again.
const COME_BACK_CODE: i32 = 75;

/// An explanation.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    pub(crate) id: String,
    pub(crate) run: String,
    pub(crate) step: String,
    pub(crate) agent: String,
    pub(crate) status: &'static str,
    /// The state in a sentence.
    #[serde(skip)]
    pub(crate) phrase: String,
    /// One sentence without its beginning: `it waits for 2 steps`.
    pub(crate) why: String,
    /// What belongs to it, a line each.
    pub(crate) details: Vec<String>,
    /// What can be done.
    pub(crate) hint: Option<String>,
}

/// The part of an explanation that depends on the state.
#[derive(Debug, Default)]
pub(crate) struct Because {
    pub(crate) why: String,
    pub(crate) details: Vec<String>,
    pub(crate) hint: Option<String>,
}

impl Because {
    /// A sentence alone.
    pub(crate) fn of(why: impl Into<String>) -> Because {
        Because { why: why.into(), ..Because::default() }
    }

    /// With one more line.
    #[must_use]
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Because {
        self.details.push(detail.into());
        self
    }

    /// With what can be done.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Because {
        self.hint = Some(hint.into());
        self
    }
}

/// Finds out why.
///
/// # Errors
/// What the store says.
pub(crate) async fn explain(store: &Store, found: &FoundTask) -> Result<Explanation, Failure> {
    let task = &found.task;
    let mut parts = shared_parts(store, &found.run, std::slice::from_ref(task)).await?;
    let shared = parts.remove(&task.shared).ok_or_else(|| {
        Failure::not_found(format!("run `{}` was removed while it was looked at", found.run.id))
    })?;
    let because = match task.status {
        TaskStatus::Blocked if task.group.is_some() => turn(store, task).await?,
        TaskStatus::Blocked => blocked(store, task).await?,
        TaskStatus::Queued => queued(store, &found.run, task, &shared).await?,
        TaskStatus::Parked => parked(store, task, &shared).await?,
        TaskStatus::Running | TaskStatus::Cancelling => running(store, task, &shared).await?,
        TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Skipped | TaskStatus::Cancelled => {
            ended(store, found).await?
        }
    };
    Ok(Explanation {
        id: task.id.to_string(),
        run: task.id.run.to_string(),
        step: task.own.label(),
        agent: agent_name(&shared),
        status: task.status.word(),
        phrase: state_phrase(task.status),
        why: because.why,
        details: because.details,
        hint: because.hint,
    })
}

/// An item that has not been let into its queue.
async fn turn(store: &Store, task: &TaskView) -> Result<Because, Failure> {
    let groups = store.groups(&task.id.run).await?;
    let known = task.group.and_then(|index| Some((index, groups.get(&index)?)));
    let Some((index, group)) = known else { return Ok(Because::of("its `foreach` has not started")) };
    let id = TaskId { run: task.id.run.clone(), index };
    let whole = store.task(&id).await?;
    if whole.status != TaskStatus::Running {
        let begun = if whole.record.is_some() { "does not go on" } else { "has not started" };
        return Ok(Because::of(format!(
            "its step `{}` {begun}: it {}",
            whole.own.step,
            state_phrase(whole.status)
        ))
        .hint(format!("`maestro task explain {id}` says why")));
    }
    let step = &task.own.step;
    let before = task.id.index.saturating_sub(group.first + group.released);
    let limit = match group.max_parallel {
        Some(limit) => format!("`{step}` works on at most {} at a time", counted(limit, "item")),
        None => format!("items of `{step}` are put into their queue little by little"),
    };
    let done = group.count - group.open;
    let ended = format!("{done} of {} have ended", counted(group.count, "item"));
    let place = if before == 0 {
        "it is the next".to_owned()
    } else {
        format!("{} before it", counted(before, "item"))
    };
    Ok(Because::of(format!("it waits for its turn: {limit}")).detail(format!("{place}; {ended}")))
}

/// A task that other tasks have not let go.
async fn blocked(store: &Store, task: &TaskView) -> Result<Because, Failure> {
    if let Some(because) = why_elsewhere::blocked(store, task).await? {
        return Ok(because);
    }
    let before = predecessors(store, &task.id.run, task.id.index).await?;
    let total = before.len();
    let open: Vec<_> = before.into_iter().filter(|(task, _)| !task.status.is_final()).collect();
    if open.is_empty() {
        return Ok(Because::of(
            "all it waited for has ended; it starts as soon as that has been accounted for",
        ));
    }
    let steps = if total == 1 { "1 step".to_owned() } else { format!("{} of {total} steps", open.len()) };
    let mut because = Because::of(format!("it waits for {steps}"));
    for (other, edge) in open.iter().take(SHOWN_MAX) {
        let wanted = match edge {
            EdgeKind::Needs | EdgeKind::Item => "has to complete",
            EdgeKind::OnSuccess => "starts it when it completes (on_success)",
            EdgeKind::OnFailure => "starts it when it fails (on_failure)",
        };
        because = because.detail(format!(
            "`{}` ({}) {wanted}; it {}",
            other.own.label(),
            other.id,
            state_phrase(other.status)
        ));
    }
    if open.len() > SHOWN_MAX {
        because = because.detail(format!("and {} more", open.len() - SHOWN_MAX));
    }
    let stuck = open.iter().find(|(other, _)| other.status != TaskStatus::Running);
    let (next, _) = stuck.unwrap_or(&open[0]);
    Ok(because.hint(format!("`maestro task explain {}` says what `{}` does", next.id, next.own.label())))
}

async fn predecessors(store: &Store, run: &RunId, index: u32) -> Result<Vec<(TaskView, EdgeKind)>, Failure> {
    let edges = store.predecessors(run, index).await?;
    let indexes: Vec<u32> = edges.iter().map(|(from, _)| *from).collect();
    let tasks = store.tasks_at(run, &indexes).await?;
    Ok(tasks.into_iter().zip(edges).map(|(task, (_, edge))| (task, edge)).collect())
}

/// A task that waits for a time.
async fn parked(store: &Store, task: &TaskView, shared: &SharedSpec) -> Result<Because, Failure> {
    let when = match store.due_in(&task.id).await? {
        Some(Duration::ZERO) | None => "it is due now".to_owned(),
        Some(wait) => format!("it is tried again in {}", duration(wait.as_millis() as u64)),
    };
    let Some(record) = &task.record else { return Ok(Because::of(when)) };
    if record.exit_code == Some(COME_BACK_CODE) && record.come_backs > 0 {
        return Ok(Because::of(format!(
            "its agent asked to be called again (exit {COME_BACK_CODE}); {when}"
        ))
        .detail(format!("it has asked {} so far", times(record.come_backs))));
    }
    let failure = failure_text(store, task, record).await?;
    Ok(Because::of(format!("its attempt {} failed ({failure}); {when}", record.attempt)).detail(format!(
        "{} so far; the {} is final",
        counted(record.failures, "failure"),
        ordinal(shared.retry.max_attempts)
    )))
}

/// `1st`, `2nd`, `3rd`, `4th`.
fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (1, rest) if rest != 11 => "st",
        (2, rest) if rest != 12 => "nd",
        (3, rest) if rest != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// `exit 3: no such file`.
async fn failure_text(store: &Store, task: &TaskView, record: &TaskRecord) -> Result<String, Failure> {
    let reason = reason_text(record.reason.map(Reason::word), record.exit_code);
    let reason = reason.unwrap_or_else(|| "failed".to_owned());
    Ok(match message(store, task).await? {
        Some(message) => format!("{reason}: {message}"),
        None => reason,
    })
}

async fn message(store: &Store, task: &TaskView) -> Result<Option<String>, Failure> {
    let output = store.outputs(&task.id.run, &[task.id.index]).await?.pop().flatten();
    Ok(output.and_then(|output| output.message))
}

/// A task that somebody works on.
async fn running(store: &Store, task: &TaskView, shared: &SharedSpec) -> Result<Because, Failure> {
    let Some(record) = &task.record else { return Ok(Because::of("it runs")) };
    let ending = if task.status == TaskStatus::Cancelling { "it was told to end; " } else { "" };
    let Some(owner) = &record.owner else {
        let groups = store.groups(&task.id.run).await?;
        let because = match groups.get(&task.id.index) {
            Some(group) => Because::of(format!(
                "{ending}{} of its {} items have ended",
                group.count - group.open,
                group.count
            )),
            None => Because::of(format!("{ending}its items are being made")),
        };
        return Ok(because.hint(format!("`maestro task list --run {}` lists the items", task.id.run)));
    };
    let processes = store.processes().await?;
    let worker = processes.iter().find(|process| process.incarnation == *owner);
    let since = record.started_at_ms.map_or(0, |started| now_ms().saturating_sub(started));
    let name = WorkerNames::read(store).await?.of(store, record).await?.unwrap_or_else(|| owner.to_string());
    match worker {
        Some(worker) if worker.alive => {
            let limit = Duration::from_millis(shared.timeout_ms);
            let because =
                Because::of(format!("{ending}worker `{name}` has worked on it for {}", duration(since)))
                    .detail(format!(
                        "attempt {}; it may take {} in all",
                        record.attempt,
                        maestro_model::duration::ShownDuration(limit)
                    ))
                    .detail(format!(
                        "the worker was last heard of {} ago",
                        duration(now_ms().saturating_sub(worker.beat_ms))
                    ));
            Ok(because.hint(format!("`maestro task logs {} -f` shows what its agent prints", task.id)))
        }
        _ => Ok(Because::of(format!("{ending}its worker `{name}` is lost; it goes back to its queue"))
            .detail(format!("attempt {} began {} ago", record.attempt, duration(since)))
            .hint("`maestro worker list` shows who is there; a coordinator or another worker puts it back")),
    }
}

/// A task that has ended.
async fn ended(store: &Store, found: &FoundTask) -> Result<Because, Failure> {
    let task = &found.task;
    let Some(record) = &task.record else { return Ok(Because::of("it never was ready")) };
    let name = WorkerNames::read(store).await?.of(store, record).await?;
    let place = name.map(|name| format!(" on worker `{name}`")).unwrap_or_default();
    let took = record.started_at_ms.zip(record.finished_at_ms);
    let took = took.map(|(started, ended)| format!(" after {}", duration(ended.saturating_sub(started))));
    let took = took.unwrap_or_default();
    Ok(match task.status {
        TaskStatus::Completed => Because::of(format!("it ended well{place}{took}")),
        TaskStatus::Failed => {
            failed(task, record, failure_text(store, task, record).await?, &format!("{place}{took}"))
        }
        TaskStatus::Skipped if record.attempt.0 > 0 => Because::of("its `when` was false"),
        TaskStatus::Skipped => skipped(store, task).await?,
        _ => {
            let note = message(store, task).await?.or_else(|| Some(found.run.note.clone()));
            match note.filter(|note| !note.is_empty()) {
                Some(note) => Because::of(format!("somebody ended it{took}: {note}")),
                None => Because::of(format!("somebody ended it, or its run{took}")),
            }
        }
    })
}

fn failed(task: &TaskView, record: &TaskRecord, text: String, circumstances: &str) -> Because {
    let mut because = Because::of(text);
    // A `foreach` has no attempts of its own.
    if record.owner.is_some() {
        because = because.detail(format!(
            "{}{circumstances}: {} failed, {} lost with their worker",
            counted(record.attempt.0, "attempt"),
            record.failures,
            record.losses
        ));
    }
    let id = &task.id;
    because.hint(match record.reason {
        Some(Reason::Config) => {
            "it cannot run as it is written: correct the workflow, and run it again".to_owned()
        }
        Some(Reason::Infra) => "`maestro doctor`, on the worker's host, says what is wrong there".to_owned(),
        Some(Reason::Lost) => "`maestro worker list` shows who is there".to_owned(),
        _ => format!("`maestro task logs {id}` shows what its agent printed"),
    })
}

/// A task that can no longer run: which steps are to blame.
async fn skipped(store: &Store, task: &TaskView) -> Result<Because, Failure> {
    let mut because = Because::of("what it waited for cannot happen any more");
    for detail in why_elsewhere::ended_badly(store, task).await? {
        because = because.detail(detail);
    }
    let before = predecessors(store, &task.id.run, task.id.index).await?;
    let ended = before.iter().filter(|(other, edge)| match edge {
        EdgeKind::Needs | EdgeKind::OnSuccess | EdgeKind::Item => other.status != TaskStatus::Completed,
        EdgeKind::OnFailure => other.status != TaskStatus::Failed,
    });
    for (other, edge) in ended.take(SHOWN_MAX) {
        let wanted = if *edge == EdgeKind::OnFailure { "fail" } else { "complete" };
        because = because.detail(format!(
            "`{}` ({}) had to {wanted}; it {}",
            other.own.label(),
            other.id,
            state_phrase(other.status)
        ));
    }
    Ok(because)
}
