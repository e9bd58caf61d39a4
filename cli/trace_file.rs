//! The trace of a run as a file: Chrome's trace format, which Perfetto and `chrome://tracing` open.
//!
//! Made from the audit stream (who waited, started and ended when) and from the notes of the workers
//! (phases, prompts, results, shared state), which only a run with `--trace` has. All of it lies on the
//! clock of Redis.

mod slices;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use maestro_model::ids::RunId;
use maestro_store::Store;
use maestro_store::events::{AuditEvent, EventPosition};
use maestro_store::runs::{RunRecord, TaskView};
use maestro_store::trace::WrittenTrace;
use serde_json::{Value, json};

use crate::commands::CommandContext;
use crate::config::folders::data_folder;
use crate::failure::Failure;
use crate::output::moment::{now_ms, rfc3339};

/// Events of a run may be stamped a moment before the run's own time of submission, ms.
const SUBMIT_MARGIN_MS: u64 = 1_000;
/// How long after a run's end its last events may be stamped, ms.
const END_MARGIN_MS: u64 = 5_000;

/// What a trace is made from.
#[derive(Debug)]
pub(crate) struct TraceSources {
    run: RunRecord,
    /// Names by task.
    labels: BTreeMap<u32, String>,
    events: Vec<AuditEvent>,
    notes: Vec<WrittenTrace>,
}

impl TraceSources {
    /// Reads them.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn read(store: &Store, run: RunRecord) -> Result<TraceSources, Failure> {
        let tasks = store.tasks(&run.id, 0..run.tasks).await?;
        let label = |task: TaskView| (task.id.index, task.own.label());
        let labels = tasks.into_iter().map(label).collect();
        let events = events_of(store, &run).await?;
        let notes = store.read_trace(&run.id).await?;
        Ok(TraceSources { run, labels, events, notes })
    }

    /// The file's content.
    pub(crate) fn document(&self, now_ms: u64) -> Value {
        let until_ms = self.run.finished_at_ms.unwrap_or(now_ms);
        let mut entries = vec![json!({
            "ph": "M", "pid": 1, "name": "process_name",
            "args": { "name": format!("{} {}", self.run.workflow, self.run.id) },
        })];
        for (index, label) in &self.labels {
            let tid = index + 1;
            entries.push(
                json!({ "ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": { "name": label } }),
            );
            entries.push(json!({
                "ph": "M", "pid": 1, "tid": tid, "name": "thread_sort_index", "args": { "sort_index": tid },
            }));
        }
        entries.extend(slices::of_run(&self.run, &self.events, &self.notes, until_ms));
        json!({
            "displayTimeUnit": "ms",
            "otherData": {
                "run": self.run.id,
                "workflow": self.run.workflow,
                "status": self.run.status.word(),
                "submitted_at": rfc3339(self.run.created_at_ms),
                "traced": self.run.trace,
            },
            "traceEvents": entries,
        })
    }
}

async fn events_of(store: &Store, run: &RunRecord) -> Result<Vec<AuditEvent>, Failure> {
    let mut position = EventPosition::at(run.created_at_ms.saturating_sub(SUBMIT_MARGIN_MS));
    let last = run.finished_at_ms.map(|at| at + END_MARGIN_MS);
    let mut found = Vec::new();
    loop {
        let (events, next) = store.events_after(&position).await?;
        let over = events.last().is_some_and(|event| last.is_some_and(|last| event.at_ms > last));
        found.extend(events.into_iter().filter(|event| event.run() == Some(&run.id)));
        if over || next == position {
            return Ok(found);
        }
        position = next;
    }
}

/// Where the trace of a run is kept on this host if nobody says where.
///
/// # Errors
/// If the data folder is not known.
pub(crate) fn kept_trace(run: &RunId, context: &CommandContext) -> Result<PathBuf, Failure> {
    Ok(data_folder(&context.surroundings()?).join("runs").join(run.as_str()).join("trace.json"))
}

/// Writes the trace of a run into a file, whole or not at all.
///
/// # Errors
/// What the store says, or the disk.
pub(crate) async fn write_trace(store: &Store, run: RunRecord, path: &Path) -> Result<(), Failure> {
    let document = TraceSources::read(store, run).await?.document(now_ms());
    let cannot = |error: std::io::Error| {
        Failure::usage(format!("cannot write the trace `{}`", path.display())).caused_by(&error)
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(cannot)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let written = std::fs::write(&temporary, format!("{document}\n"));
    written.and_then(|()| std::fs::rename(&temporary, path)).map_err(cannot)
}
