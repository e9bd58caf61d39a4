//! A task as users see it: the record of `task status`, `task list` and `queue status`.

use std::collections::{BTreeSet, HashMap};

pub(crate) use maestro_coordinator::counting::{agent_name, is_shown, running_groups, shared_parts};
use maestro_model::agent_type::OutputFormat;
use maestro_model::ids::{AgentSlug, Incarnation};
use maestro_model::plan::SharedSpec;
use maestro_model::task::TaskStatus;
use maestro_store::Store;
use maestro_store::events::{EventKind, EventPosition, TaskHappening};
use maestro_store::record::TaskRecord;
use maestro_store::runs::{RunRecord, StoredOutput, TaskView};
use serde::Serialize;

use super::model_use_entry::ModelUseEntry;
use crate::failure::Failure;
use crate::output::moment::{age, as_optional_rfc3339, as_rfc3339, duration, now_ms};
use crate::output::shape::{Column, Field, Shape};
use crate::output::tone::Tone;

/// Workers that are gone whose names are looked for in the audit stream, at most.
const GONE_NAMES_MAX: usize = 32;
/// How long before an attempt's start its event is looked for, ms.
const EVENT_MARGIN_MS: u64 = 5;
/// Columns of a message in a table.
const MESSAGE_COLUMNS: usize = 60;

/// A task's record.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TaskEntry {
    /// `<run>.<index>`
    pub(crate) id: String,
    /// The run it belongs to.
    pub(crate) run: String,
    /// The workflow of that run.
    pub(crate) workflow: String,
    /// The step, and of an item its number too.
    pub(crate) step: String,
    /// The agent, or the agent type where the task is for whoever serves it.
    pub(crate) agent: String,
    /// The agent type.
    pub(crate) agent_type: String,
    /// Where it is in its life.
    pub(crate) status: &'static str,
    /// Why it failed or is parked.
    pub(crate) reason: Option<&'static str>,
    /// The agent's own code.
    pub(crate) exit_code: Option<i32>,
    /// Its last attempt; 0 = none yet.
    pub(crate) attempt: u32,
    /// Who works or worked on that attempt, if it is still known.
    pub(crate) worker: Option<String>,
    /// When the run was submitted.
    #[serde(serialize_with = "as_rfc3339")]
    pub(crate) created_at: u64,
    /// When it first was ready.
    #[serde(serialize_with = "as_optional_rfc3339")]
    pub(crate) queued_at: Option<u64>,
    /// When its last attempt started.
    #[serde(serialize_with = "as_optional_rfc3339")]
    pub(crate) started_at: Option<u64>,
    /// When its last attempt ended.
    #[serde(serialize_with = "as_optional_rfc3339")]
    pub(crate) finished_at: Option<u64>,
    /// One line about its failure or its end.
    pub(crate) message: Option<String>,
    /// Failures counted against its retry policy.
    pub(crate) failures: u32,
    /// Losses with a dead worker.
    pub(crate) losses: u32,
    /// What its last attempt took of a model, as far as its program said.
    #[serde(flatten)]
    pub(crate) model_use: ModelUseEntry,
}

/// Many tasks.
pub(crate) const TASK_ROWS: Shape<TaskEntry> = Shape {
    columns: &[ID, STEP, AGENT, STATUS, WHY, ATTEMPT, WORKER, TOOK, AGE],
    name: |task| task.id.clone(),
    none: "no tasks",
};

/// One task.
pub(crate) const TASK_CARD: Shape<TaskEntry> = Shape {
    columns: &[
        ID,
        STEP,
        Column::new("RUN", |task| format!("{} ({})", task.run, task.workflow).into()),
        AGENT,
        STATUS,
        WHY,
        Column::new("MESSAGE", |task| Field::or_none(task.message.clone())),
        ATTEMPT,
        Column::new("FAILURES", |task| Field::number(task.failures)),
        Column::new("LOSSES", |task| Field::number(task.losses)),
        WORKER,
        Column::new("SESSION", |task| Field::or_none(task.model_use.session.clone())),
        Column::new("TOKENS", |task| Field::or_none(task.model_use.tokens_text())),
        Column::new("COST", |task| Field::or_none(task.model_use.cost_text())),
        Column::new("CREATED", |task| moment_field(Some(task.created_at))),
        Column::new("QUEUED", |task| moment_field(task.queued_at)),
        Column::new("STARTED", |task| moment_field(task.started_at)),
        Column::new("FINISHED", |task| moment_field(task.finished_at)),
        TOOK,
    ],
    name: |task| task.id.clone(),
    none: "no task",
};

const ID: Column<TaskEntry> = Column::new("ID", |task| task.id.clone().into());
const STEP: Column<TaskEntry> = Column::new("STEP", |task| task.step.clone().into());
const AGENT: Column<TaskEntry> = Column::new("AGENT", |task| task.agent.clone().into());
const STATUS: Column<TaskEntry> =
    Column::new("STATUS", |task| Field::toned(task.status, status_tone(task.status)));
const WHY: Column<TaskEntry> = Column::new("REASON", |task| {
    let message = || task.message.as_deref().map(|text| crate::output::foreign::cut(text, MESSAGE_COLUMNS));
    Field::or_none(why(task.reason, task.exit_code).or_else(message))
});
const ATTEMPT: Column<TaskEntry> = Column::new("ATTEMPT", |task| Field::number(task.attempt));
const WORKER: Column<TaskEntry> = Column::new("WORKER", |task| Field::or_none(task.worker.clone()));
const TOOK: Column<TaskEntry> =
    Column::new("TOOK", |task| Field::or_none(took(task.status, task.started_at, task.finished_at)));
const AGE: Column<TaskEntry> = Column::new("AGE", |task| age(task.created_at, now_ms()).into());

/// `exit 3`, `timeout`.
pub(crate) fn why(reason: Option<&str>, exit_code: Option<i32>) -> Option<String> {
    match (reason, exit_code) {
        (Some("exit"), Some(code)) => Some(format!("exit {code}")),
        (Some(reason), _) => Some(reason.to_owned()),
        (None, _) => None,
    }
}

/// How long its last attempt lasted, or lasts.
pub(crate) fn took(status: &str, started_at: Option<u64>, finished_at: Option<u64>) -> Option<String> {
    let started_at = started_at?;
    let until = if status == "running" { now_ms() } else { finished_at? };
    Some(duration(until.saturating_sub(started_at)))
}

/// The state as the end of a sentence whose subject is the task: `is queued`, `failed`, `was skipped`.
pub(crate) fn state_phrase(status: TaskStatus) -> String {
    match status {
        TaskStatus::Completed | TaskStatus::Failed => status.word().to_owned(),
        TaskStatus::Skipped | TaskStatus::Cancelled => format!("was {}", status.word()),
        _ => format!("is {}", status.word()),
    }
}

/// `1 item`, `3 items`.
pub(crate) fn counted(count: u32, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// What a status word means.
pub(crate) fn status_tone(word: &str) -> Tone {
    match word {
        "completed" => Tone::Good,
        "failed" => Tone::Bad,
        "running" | "cancelling" => Tone::Busy,
        "cancelled" | "parked" => Tone::Warn,
        _ => Tone::Faint,
    }
}

/// `2026-11-20T09:20:01Z (8s ago)`.
pub(crate) fn moment_field(at: Option<u64>) -> Field {
    Field::or_none(at.map(|at| format!("{} ({} ago)", crate::output::moment::rfc3339(at), age(at, now_ms()))))
}

/// Names of workers by incarnation, those that are gone included as far as the audit stream knows them.
#[derive(Debug, Default)]
pub(crate) struct WorkerNames {
    known: HashMap<Incarnation, Option<String>>,
    looked_up: usize,
}

impl WorkerNames {
    /// With the names of those that are attached.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn read(store: &Store) -> Result<WorkerNames, Failure> {
        let processes = store.processes().await?;
        let known = processes.into_iter().map(|process| (process.incarnation, Some(process.name))).collect();
        Ok(WorkerNames { known, looked_up: 0 })
    }

    /// Who holds or held a task's last attempt.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn of(&mut self, store: &Store, record: &TaskRecord) -> Result<Option<String>, Failure> {
        let (Some(owner), Some(started)) = (&record.owner, record.started_at_ms) else { return Ok(None) };
        if let Some(name) = self.known.get(owner) {
            return Ok(name.clone());
        }
        if self.looked_up >= GONE_NAMES_MAX {
            return Ok(None);
        }
        self.looked_up += 1;
        let from = EventPosition::at(started.saturating_sub(EVENT_MARGIN_MS));
        let (events, _) = store.events_after(&from).await?;
        let name = events.into_iter().find_map(|event| match event.kind {
            EventKind::Task { who, what: TaskHappening::Started { worker }, .. } if who == owner.as_str() => {
                Some(worker)
            }
            _ => None,
        });
        self.known.insert(owner.clone(), name.clone());
        Ok(name)
    }
}

/// Tasks of one run with all that users see of them.
///
/// # Errors
/// What the store says.
pub(crate) async fn task_entries(
    store: &Store,
    run: &RunRecord,
    tasks: &[TaskView],
    names: &mut WorkerNames,
) -> Result<Vec<TaskEntry>, Failure> {
    let shared = shared_parts(store, run, tasks).await?;
    let mut told = told(store, run, tasks, &shared).await?;
    let mut entries = Vec::with_capacity(tasks.len());
    for task in tasks {
        let record = task.record.as_ref();
        let worker = match record {
            Some(record) => names.of(store, record).await?,
            None => None,
        };
        entries.push(TaskEntry {
            id: task.id.to_string(),
            run: run.id.to_string(),
            workflow: run.workflow.clone(),
            step: task.own.label(),
            agent: shared.get(&task.shared).map(agent_name).unwrap_or_default(),
            agent_type: shared.get(&task.shared).map(|part| part.agent.to_string()).unwrap_or_default(),
            status: task.status.word(),
            reason: record.and_then(|record| record.reason).map(|reason| reason.word()),
            exit_code: record.and_then(|record| record.exit_code),
            attempt: record.map_or(0, |record| record.attempt.0),
            worker,
            created_at: run.created_at_ms,
            queued_at: record.and_then(|record| record.queued_at_ms),
            started_at: record.and_then(|record| record.started_at_ms),
            finished_at: record.and_then(|record| record.finished_at_ms),
            message: told.get_mut(&task.id.index).and_then(|told| told.message.take()),
            failures: record.map_or(0, |record| record.failures),
            losses: record.map_or(0, |record| record.losses),
            model_use: told.remove(&task.id.index).and_then(|told| told.model_use).into(),
        });
    }
    Ok(entries)
}

/// Whether a task is for an agent of this name, or of this type.
pub(crate) fn is_of(part: &SharedSpec, name: &str) -> bool {
    part.agent.as_str() == name || part.assigned.as_ref().is_some_and(|id| id.as_str() == name)
}

/// What was reported, by index: messages of tasks that may have one, and what was used by those whose program
/// says so. The output of any other completed task is not read for it.
async fn told(
    store: &Store,
    run: &RunRecord,
    tasks: &[TaskView],
    shared: &HashMap<u32, SharedSpec>,
) -> Result<HashMap<u32, StoredOutput>, Failure> {
    let speaking = speaking_types(store, run, shared).await?;
    let may_have_one = |task: &&TaskView| {
        let ended_badly = matches!(
            task.status,
            TaskStatus::Failed | TaskStatus::Parked | TaskStatus::Cancelled | TaskStatus::Cancelling
        );
        let tried_before = task.record.as_ref().is_some_and(|record| record.failures > 0);
        let speaks = || shared.get(&task.shared).is_some_and(|part| speaking.contains(&part.agent));
        ended_badly
            || (tried_before && task.status != TaskStatus::Completed)
            || (task.status == TaskStatus::Completed && speaks())
    };
    let indexes: Vec<u32> = tasks.iter().filter(may_have_one).map(|task| task.id.index).collect();
    let outputs = store.outputs(&run.id, &indexes).await?;
    let pairs = indexes.into_iter().zip(outputs);
    Ok(pairs.filter_map(|(index, output)| Some((index, output?))).collect())
}

/// Agent types of these steps whose programs tell what they used.
///
/// # Errors
/// What the store says.
pub(crate) async fn speaking_types(
    store: &Store,
    run: &RunRecord,
    shared: &HashMap<u32, SharedSpec>,
) -> Result<BTreeSet<AgentSlug>, Failure> {
    let slugs: BTreeSet<AgentSlug> = shared.values().map(|part| part.agent.clone()).collect();
    let slugs: Vec<AgentSlug> = slugs.into_iter().collect();
    if slugs.is_empty() {
        return Ok(BTreeSet::new());
    }
    let agents = store.run_parts(&run.id, &[], &slugs).await?.agents;
    let speaking = agents.into_iter().filter(|(_, agent)| agent.output != OutputFormat::Text);
    Ok(speaking.map(|(slug, _)| slug).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_the_code_where_there_is_one() {
        assert_eq!(why(Some("exit"), Some(3)).as_deref(), Some("exit 3"));
        assert_eq!(why(Some("timeout"), Some(124)).as_deref(), Some("timeout"));
        assert_eq!(why(Some("exit"), None).as_deref(), Some("exit"));
        assert_eq!(why(None, Some(0)), None);
    }

    #[test]
    fn only_an_attempt_that_ended_or_runs_has_a_duration() {
        assert_eq!(took("completed", Some(1_000), Some(9_000)).as_deref(), Some("8.0s"));
        assert_eq!(took("queued", Some(1_000), None), None);
        assert_eq!(took("cancelled", None, Some(9_000)), None);
    }
}
