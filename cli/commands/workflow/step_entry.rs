//! A step of a run as users see it: one row, a `foreach` with the counts of its items.

use std::collections::BTreeMap;

use maestro_model::model_use::ModelUse;
use maestro_model::task::TaskStatus;
use maestro_store::Store;
use maestro_store::inspect::GroupView;
use maestro_store::runs::{RunRecord, TaskView};
use serde::Serialize;

use crate::commands::task::entry::{
    TaskEntry, WorkerNames, shared_parts, speaking_types, status_tone, task_entries, took, why,
};
use crate::failure::Failure;
use crate::output::foreign::cut;
use crate::output::shape::{Column, Field, Shape};

/// Columns of a message in the table.
const MESSAGE_COLUMNS: usize = 70;
/// Items of one `foreach` whose tokens and cost are added up: their results are read for it.
const ITEMS_READ_MAX: u32 = 1_000;

/// A step's record: that of its task, and the counts of its items.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StepEntry {
    /// The step's task.
    #[serde(flatten)]
    pub(crate) task: TaskEntry,
    /// Of a `foreach` whose items are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) items: Option<ItemCounts>,
}

/// Items of a `foreach` by where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct ItemCounts {
    pub(crate) total: u32,
    /// Not ended.
    pub(crate) open: u32,
    pub(crate) completed: u32,
    /// Failed or skipped.
    pub(crate) failed: u32,
    pub(crate) cancelled: u32,
}

/// The steps of a run.
pub(crate) const STEP_ROWS: Shape<StepEntry> = Shape {
    columns: &[STEP, AGENT, STATUS, ITEMS, ATTEMPT, TOOK, WORKER, WHY],
    name: |step| step.task.id.clone(),
    none: "no steps",
};

/// The steps of a run whose programs told what they used.
pub(crate) const STEP_ROWS_WITH_USE: Shape<StepEntry> = Shape {
    columns: &[
        STEP,
        AGENT,
        STATUS,
        ITEMS,
        ATTEMPT,
        TOOK,
        WORKER,
        Column::new("TOKENS", |step| Field::or_none(step.task.model_use.tokens_text())),
        Column::new("COST", |step| Field::or_none(step.task.model_use.cost_text())),
        WHY,
    ],
    ..STEP_ROWS
};

const STEP: Column<StepEntry> = Column::new("STEP", |step| step.task.step.clone().into());
const AGENT: Column<StepEntry> = Column::new("AGENT", |step| step.task.agent.clone().into());
const STATUS: Column<StepEntry> =
    Column::new("STATUS", |step| Field::toned(step.task.status, status_tone(step.task.status)));
const ITEMS: Column<StepEntry> =
    Column::new("ITEMS", |step| Field::or_none(step.items.map(|items| items_text(&items))));
const ATTEMPT: Column<StepEntry> = Column::new("ATTEMPT", |step| Field::number(step.task.attempt));
const TOOK: Column<StepEntry> = Column::new("TOOK", |step| {
    Field::or_none(took(step.task.status, step.task.started_at, step.task.finished_at))
});
const WORKER: Column<StepEntry> = Column::new("WORKER", |step| Field::or_none(step.task.worker.clone()));
const WHY: Column<StepEntry> = Column::new("WHY", |step| Field::or_none(why_text(step)));

/// `2/5`, `2/5, 1 failed`.
fn items_text(items: &ItemCounts) -> String {
    let mut text = format!("{}/{}", items.completed, items.total);
    for (word, count) in [("failed", items.failed), ("cancelled", items.cancelled)] {
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    text
}

/// `exit 3: no such file`.
fn why_text(step: &StepEntry) -> Option<String> {
    let task = &step.task;
    // What its items failed for stands with them; how many they are is in a column of its own.
    if step.items.is_some_and(|items| items.failed > 0) {
        return None;
    }
    let message = task.message.as_deref().map(|message| cut(message, MESSAGE_COLUMNS));
    match (why(task.reason, task.exit_code), message) {
        (Some(why), Some(message)) => Some(format!("{why}: {message}")),
        (why, message) => why.or(message),
    }
}

/// All steps of a run in the order of its plan.
///
/// # Errors
/// What the store says.
pub(crate) async fn step_entries(store: &Store, run: &RunRecord) -> Result<Vec<StepEntry>, Failure> {
    let tasks = store.tasks(&run.id, 0..run.steps).await?;
    let groups = store.groups(&run.id).await?;
    let mut names = WorkerNames::read(store).await?;
    let entries = task_entries(store, run, &tasks, &mut names).await?;
    let used = items_use(store, run, &tasks, &groups).await?;
    let steps = entries.into_iter().zip(&tasks).map(|(mut entry, task)| {
        if let Some(used) = used.get(&task.id.index) {
            entry.model_use = Some(used.clone()).into();
        }
        StepEntry { items: item_counts(task, &groups), task: entry }
    });
    Ok(steps.collect())
}

/// What the items of each `foreach` used together, of types that tell, as far as its items are read.
async fn items_use(
    store: &Store,
    run: &RunRecord,
    tasks: &[TaskView],
    groups: &BTreeMap<u32, GroupView>,
) -> Result<BTreeMap<u32, ModelUse>, Failure> {
    let of_groups: Vec<TaskView> =
        tasks.iter().filter(|task| groups.contains_key(&task.id.index)).cloned().collect();
    let shared = shared_parts(store, run, &of_groups).await?;
    let speaking = speaking_types(store, run, &shared).await?;
    let mut used = BTreeMap::new();
    for task in &of_groups {
        let speaks = shared.get(&task.shared).is_some_and(|part| speaking.contains(&part.agent));
        let Some(group) = groups.get(&task.id.index).filter(|_| speaks) else { continue };
        let indexes: Vec<u32> = (group.first..group.first + group.count.min(ITEMS_READ_MAX)).collect();
        let outputs = store.outputs(&run.id, &indexes).await?;
        let told = outputs.into_iter().flatten().filter_map(|output| output.model_use);
        used.insert(task.id.index, told.fold(ModelUse::default(), |sum, one| sum.plus(&one)));
    }
    Ok(used)
}

fn item_counts(task: &TaskView, groups: &BTreeMap<u32, GroupView>) -> Option<ItemCounts> {
    let group = groups.get(&task.id.index)?;
    let begun = matches!(
        task.status,
        TaskStatus::Running | TaskStatus::Cancelling | TaskStatus::Completed | TaskStatus::Failed
    ) || group.released > 0;
    // Before its start the count of open items is 0, and nothing has ended.
    let open = if begun { group.open } else { group.count };
    Some(ItemCounts {
        total: group.count,
        open,
        completed: group.count.saturating_sub(open + group.failed + group.cancelled),
        failed: group.failed,
        cancelled: group.cancelled,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_went_badly_are_named() {
        let items = ItemCounts { total: 5, open: 1, completed: 2, failed: 1, cancelled: 1 };
        assert_eq!(items_text(&items), "2/5, 1 failed, 1 cancelled");
        assert_eq!(items_text(&ItemCounts { failed: 0, cancelled: 0, ..items }), "2/5");
    }
}
