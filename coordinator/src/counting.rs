//! Which tasks of a run that goes on are where: what `queue status` counts and what is served as gauges.
//!
//! Task by task, because a task without a record may be anywhere before its start.

use std::collections::{BTreeSet, HashMap};

use maestro_model::plan::SharedSpec;
use maestro_model::task::TaskStatus;
use maestro_store::runs::{RunRecord, TaskView};
use maestro_store::{Store, StoreError};

/// A task that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedTask {
    /// The agent it is for, else its type.
    pub agent: String,
    /// Where it is in its life.
    pub status: TaskStatus,
    /// When it first became ready, ms since 1970.
    pub ready_at_ms: Option<u64>,
}

/// The tasks of a run that count: agents' work. A `foreach` stands for its items until they are known.
///
/// # Errors
/// What the store says.
pub async fn counted_tasks(store: &Store, run: &RunRecord) -> Result<Vec<CountedTask>, StoreError> {
    let tasks = store.tasks(&run.id, 0..run.tasks).await?;
    let shared = shared_parts(store, run, &tasks).await?;
    let groups = running_groups(&tasks);
    let counts = |task: &&TaskView| {
        let group = match task.kind {
            'g' => true,
            // Until its items are known it stands for them.
            'x' => matches!(task.status, TaskStatus::Running) || task.status.is_final(),
            _ => false,
        };
        !group && is_shown(task, &groups)
    };
    let counted = tasks.iter().filter(counts).filter_map(|task| {
        Some(CountedTask {
            agent: agent_name(shared.get(&task.shared)?),
            status: task.status,
            ready_at_ms: task.record.as_ref().and_then(|record| record.queued_at_ms),
        })
    });
    Ok(counted.collect())
}

/// The shared parts of tasks, by number.
///
/// # Errors
/// What the store says.
pub async fn shared_parts(
    store: &Store,
    run: &RunRecord,
    tasks: &[TaskView],
) -> Result<HashMap<u32, SharedSpec>, StoreError> {
    let numbers: BTreeSet<u32> = tasks.iter().map(|task| task.shared).collect();
    let numbers: Vec<u32> = numbers.into_iter().collect();
    if numbers.is_empty() {
        return Ok(HashMap::new());
    }
    Ok(store.run_parts(&run.id, &numbers, &[]).await?.shared)
}

/// The agent a task is for, else its type.
pub fn agent_name(part: &SharedSpec) -> String {
    part.assigned.as_ref().map_or_else(|| part.agent.to_string(), ToString::to_string)
}

/// Whether a task is worth showing: an item is not before its `foreach` has started.
pub fn is_shown(task: &TaskView, running_groups: &BTreeSet<u32>) -> bool {
    task.record.is_some() || task.group.is_none_or(|group| running_groups.contains(&group))
}

/// The `foreach` steps among tasks that run now.
pub fn running_groups(tasks: &[TaskView]) -> BTreeSet<u32> {
    let runs = |task: &&TaskView| {
        matches!(task.kind, 'g' | 'x') && matches!(task.status, TaskStatus::Running | TaskStatus::Cancelling)
    };
    tasks.iter().filter(runs).map(|task| task.id.index).collect()
}
