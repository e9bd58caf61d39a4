//! A run as users see it: the record of `workflow runs`, `status` and `stop`.

use maestro_store::runs::RunRecord;
use serde::Serialize;

use crate::commands::task::entry::{moment_field, status_tone};
use crate::output::moment::{age, as_optional_rfc3339, as_rfc3339, duration, now_ms};
use crate::output::shape::{Column, Field, Shape};

/// A run's record.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunEntry {
    /// Its id.
    pub(crate) id: String,
    /// The workflow's name.
    pub(crate) workflow: String,
    /// `loading`, `running`, `cancelling`, `completed`, `failed` or `cancelled`.
    pub(crate) status: &'static str,
    /// Why it failed as a whole: `timeout` or `lost`.
    pub(crate) reason: Option<String>,
    /// Why somebody stopped it.
    pub(crate) note: Option<String>,
    /// How many tasks are where in their life.
    pub(crate) tasks: TaskCounts,
    /// The worker it is bound to.
    pub(crate) worker: Option<String>,
    /// Most tasks at one time.
    pub(crate) concurrency: Option<u32>,
    /// When it was submitted.
    #[serde(serialize_with = "as_rfc3339")]
    pub(crate) created_at: u64,
    /// When it ended.
    #[serde(serialize_with = "as_optional_rfc3339")]
    pub(crate) finished_at: Option<u64>,
    /// Memory it takes up in Redis, about.
    pub(crate) bytes: u64,
}

/// Tasks by where they are.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct TaskCounts {
    /// Known so far.
    pub(crate) total: u32,
    /// Not ended.
    pub(crate) open: u32,
    pub(crate) completed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
    pub(crate) cancelled: u32,
}

impl From<&RunRecord> for RunEntry {
    fn from(run: &RunRecord) -> RunEntry {
        let ended = run.completed + run.failed + run.skipped + run.cancelled;
        RunEntry {
            id: run.id.to_string(),
            workflow: run.workflow.clone(),
            status: run.status.word(),
            reason: (!run.reason.is_empty()).then(|| run.reason.clone()),
            note: (!run.note.is_empty()).then(|| run.note.clone()),
            tasks: TaskCounts {
                total: run.open + ended,
                open: run.open,
                completed: run.completed,
                failed: run.failed,
                skipped: run.skipped,
                cancelled: run.cancelled,
            },
            worker: run.bound_to.clone(),
            concurrency: (run.concurrency > 0).then_some(run.concurrency),
            created_at: run.created_at_ms,
            finished_at: run.finished_at_ms,
            bytes: run.bytes,
        }
    }
}

const ID: Column<RunEntry> = Column::new("ID", |run| run.id.clone().into());
const WORKFLOW: Column<RunEntry> = Column::new("WORKFLOW", |run| run.workflow.clone().into());
const STATUS: Column<RunEntry> =
    Column::new("STATUS", |run| Field::toned(run.status, status_tone(run.status)));
const TOOK: Column<RunEntry> = Column::new("TOOK", |run| {
    let until = run.finished_at.unwrap_or_else(now_ms);
    duration(until.saturating_sub(run.created_at)).into()
});

/// Many runs.
pub(crate) const RUN_ROWS: Shape<RunEntry> = Shape {
    columns: &[
        ID,
        WORKFLOW,
        STATUS,
        Column::new("DONE", |run| Field::number(format!("{}/{}", run.tasks.completed, run.tasks.total))),
        Column::new("FAILED", |run| Field::number(run.tasks.failed)),
        TOOK,
        Column::new("AGE", |run| age(run.created_at, now_ms()).into()),
    ],
    name: |run| run.id.clone(),
    none: "no runs",
};

/// One run.
pub(crate) const RUN_CARD: Shape<RunEntry> = Shape {
    columns: &[
        Column::new("RUN", |run| run.id.clone().into()),
        WORKFLOW,
        Column::new("STATUS", |run| {
            let why = run.reason.as_ref().or(run.note.as_ref());
            let text = why.map_or(run.status.to_owned(), |why| format!("{}: {why}", run.status));
            Field::toned(text, status_tone(run.status))
        }),
        Column::new("TASKS", |run| counts_text(&run.tasks).into()),
        Column::new("CREATED", |run| moment_field(Some(run.created_at))),
        Column::new("FINISHED", |run| moment_field(run.finished_at)),
        TOOK,
        Column::new("WORKER", |run| Field::or_none(run.worker.clone())),
    ],
    name: |run| run.id.clone(),
    none: "no run",
};

/// `5: 3 completed, 1 failed, 1 open`.
fn counts_text(counts: &TaskCounts) -> String {
    let kinds = [
        ("completed", counts.completed),
        ("failed", counts.failed),
        ("skipped", counts.skipped),
        ("cancelled", counts.cancelled),
        ("open", counts.open),
    ];
    let parts = kinds.into_iter().filter(|(_, count)| *count > 0);
    let parts: Vec<String> = parts.map(|(word, count)| format!("{count} {word}")).collect();
    if parts.is_empty() {
        counts.total.to_string()
    } else {
        format!("{}: {}", counts.total, parts.join(", "))
    }
}
