//! A plan before it runs: what `--dry-run` prints, and what the live view knows beforehand.

use std::collections::HashMap;

use maestro_model::duration::ShownDuration;
use maestro_model::plan::{EdgeKind, Plan, PlannedTask, TaskKind, WorkspaceChoice};
use maestro_model::workflow::Workflow;
use serde::Serialize;

use crate::live::StepPlan;
use crate::output::shape::{Column, Field, Shape};

/// A step of a plan, as users see it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PlannedStep {
    step: String,
    /// The agent, or the agent type.
    agent: String,
    /// Steps that have to complete first.
    depends_on: Vec<String>,
    /// Steps whose success starts it.
    after_success_of: Vec<String>,
    /// Steps whose failure starts it.
    after_failure_of: Vec<String>,
    /// Items of a `foreach`; null where they are only known later, or where it is none.
    items: Option<u32>,
    foreach: bool,
    priority: u8,
    /// Longest time of one attempt, seconds.
    timeout: f64,
    /// Tries, the first included.
    max_attempts: u32,
    /// `task`, `run`, `assigned`, or the step whose folder is copied.
    workspace: String,
}

/// The steps of a plan.
pub(super) const PLAN_ROWS: Shape<PlannedStep> = Shape {
    columns: &[
        Column::new("STEP", |step| step.step.clone().into()),
        Column::new("AGENT", |step| step.agent.clone().into()),
        Column::new("AFTER", |step| Field::or_none(after_text(step))),
        Column::new("ITEMS", |step| match (step.foreach, step.items) {
            (true, Some(items)) => Field::number(items),
            (true, None) => Field::from("later"),
            (false, _) => Field::none(),
        }),
        Column::new("PRIORITY", |step| Field::number(step.priority)),
        Column::new("TIMEOUT", |step| {
            ShownDuration(std::time::Duration::from_secs_f64(step.timeout)).to_string().into()
        }),
        Column::new("WORKSPACE", |step| step.workspace.clone().into()),
    ],
    name: |step| step.step.clone(),
    none: "no steps",
};

/// `build, test; failure of deploy`.
fn after_text(step: &PlannedStep) -> Option<String> {
    let kinds = [
        ("", &step.depends_on),
        ("success of ", &step.after_success_of),
        ("failure of ", &step.after_failure_of),
    ];
    let parts: Vec<String> = kinds
        .into_iter()
        .filter(|(_, ids)| !ids.is_empty())
        .map(|(word, ids)| format!("{word}{}", ids.join(", ")))
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The steps of a plan, in its order.
pub(super) fn planned_steps(plan: &Plan) -> Vec<PlannedStep> {
    let is_step = |task: &PlannedTask| !matches!(task.kind, TaskKind::Item { .. });
    let steps: Vec<(usize, &PlannedTask)> =
        plan.tasks.iter().enumerate().filter(|(_, task)| is_step(task)).collect();
    let places: HashMap<usize, usize> =
        steps.iter().enumerate().map(|(place, (index, _))| (*index, place)).collect();
    let mut planned: Vec<PlannedStep> = steps.iter().map(|(_, task)| planned_step(plan, task)).collect();
    for (_, task) in &steps {
        for dependent in &task.dependents {
            let Some(place) = places.get(&(dependent.index as usize)) else { continue };
            let step = &mut planned[*place];
            let list = match dependent.edge {
                EdgeKind::Needs => &mut step.depends_on,
                EdgeKind::OnSuccess => &mut step.after_success_of,
                EdgeKind::OnFailure => &mut step.after_failure_of,
                EdgeKind::Item => continue,
            };
            list.push(task.step.to_string());
        }
    }
    planned
}

fn planned_step(plan: &Plan, task: &PlannedTask) -> PlannedStep {
    let shared = &plan.shared[task.shared as usize];
    let (foreach, items) = match &task.kind {
        TaskKind::Group { count, .. } => (true, Some(*count)),
        TaskKind::Expand { .. } => (true, None),
        TaskKind::Agent | TaskKind::Item { .. } | TaskKind::Snapshot { .. } => (false, None),
    };
    PlannedStep {
        step: task.step.to_string(),
        agent: shared.assigned.as_ref().map_or_else(|| shared.agent.to_string(), ToString::to_string),
        depends_on: Vec::new(),
        after_success_of: Vec::new(),
        after_failure_of: Vec::new(),
        items,
        foreach,
        priority: shared.priority,
        timeout: shared.timeout_ms as f64 / 1000.0,
        max_attempts: shared.retry.max_attempts,
        workspace: match &shared.workspace {
            WorkspaceChoice::Task => "task".to_owned(),
            WorkspaceChoice::Run => "run".to_owned(),
            WorkspaceChoice::Assigned => "assigned".to_owned(),
            WorkspaceChoice::Step(step) => step.to_string(),
        },
    }
}

/// Step and item number of every planned task.
pub(super) fn labels(plan: &Plan) -> HashMap<u32, (String, Option<u32>)> {
    let label = |(index, task): (usize, &maestro_model::plan::PlannedTask)| {
        let number = match task.kind {
            TaskKind::Item { number, .. } => Some(number),
            _ => None,
        };
        (index as u32, (task.step.to_string(), number))
    };
    plan.tasks.iter().enumerate().map(label).collect()
}

/// The steps in the order of the file, as the live view wants them.
pub(super) fn step_plans(workflow: &Workflow, plan: &Plan) -> Vec<StepPlan> {
    let workflow = workflow.with_snapshot_steps();
    let mut steps: Vec<StepPlan> = workflow
        .steps
        .iter()
        .map(|step| {
            let kind = plan.tasks.iter().find(|task| task.step == step.id.value).map(|task| &task.kind);
            let items = match kind {
                Some(TaskKind::Group { count, .. }) => Some(*count),
                _ => None,
            };
            StepPlan {
                id: step.id.value.to_string(),
                depends_on: Vec::new(),
                is_group: step.foreach.is_some(),
                items,
            }
        })
        .collect();
    for edge in &workflow.edges {
        let from = steps[edge.from as usize].id.clone();
        steps[edge.to as usize].depends_on.push(from);
    }
    steps
}
