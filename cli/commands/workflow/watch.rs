//! Follows a run that somebody else started: `workflow status --watch`.
//!
//! What has happened is read from the audit stream, from the submission on, and shown as if it had been
//! watched all along; steps and edges come from the store, since the definition may have changed.

use std::collections::HashMap;

use maestro_store::Store;
use maestro_store::events::EventPosition;
use maestro_store::runs::{RunRecord, TaskView};

use crate::commands::{CommandContext, Outcome};
use crate::engine::Interruptions;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::following::Following;
use crate::live::{RunDisplay, RunView, StepPlan};
use crate::output::moment::now_ms;

/// Tasks whose names are read beforehand; those of larger runs are read one by one as they come.
const NAMES_AHEAD_MAX: u32 = 10_000;

/// Shows the run until it ends or the user has seen enough.
///
/// # Errors
/// What the store says.
pub(super) async fn watch(store: &Store, run: &RunRecord, context: &CommandContext) -> Outcome {
    let steps = store.tasks(&run.id, 0..run.steps).await?;
    let plans = step_plans(store, run, &steps).await?;
    let view = RunView::new(&run.workflow, run.id.as_str(), run.created_at_ms, plans);
    let mut display = RunDisplay::new(view, &context.printer, &context.surroundings()?);
    if run.trace {
        display = display.traced();
    }
    let mut labels: HashMap<u32, (String, Option<u32>)> = steps.into_iter().map(label).collect();
    if run.tasks <= NAMES_AHEAD_MAX {
        let items = store.tasks(&run.id, run.steps..run.tasks).await?;
        labels.extend(items.into_iter().map(label));
    }
    let from = EventPosition::at(run.created_at_ms);
    let mut following = Following::new(store, &run.id, from, labels);
    if run.trace {
        following = following.traced();
    }
    let mut interruptions = Interruptions::take_over()?;
    tokio::select! {
        end = following.until_the_end(&mut display) => end.map(|_| Exit::Done),
        () = interruptions.next() => {
            display.leave(now_ms())?;
            Ok(Exit::Cancelled)
        }
    }
}

fn label(task: TaskView) -> (u32, (String, Option<u32>)) {
    (task.id.index, (task.own.step, task.own.number))
}

async fn step_plans(store: &Store, run: &RunRecord, steps: &[TaskView]) -> Result<Vec<StepPlan>, Failure> {
    let groups = store.groups(&run.id).await?;
    let plan = |task: &TaskView| StepPlan {
        id: task.own.step.clone(),
        depends_on: Vec::new(),
        is_group: matches!(task.kind, 'g' | 'x'),
        items: groups.get(&task.id.index).map(|group| group.count),
    };
    let mut plans: Vec<StepPlan> = steps.iter().map(plan).collect();
    for edge in store.edges(&run.id).await? {
        let Some(from) = steps.get(edge.from as usize) else { continue };
        if let Some(plan) = plans.get_mut(edge.to as usize) {
            plan.depends_on.push(from.own.step.clone());
        }
    }
    Ok(plans)
}
