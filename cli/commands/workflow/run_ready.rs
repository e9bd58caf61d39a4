//! A run ready to be submitted: compiled from what was found, or resumed from an earlier run.

use std::sync::Arc;

use maestro_coordinator::resuming::{KeptStep, ResumeError, newest_incomplete_run, resume_plan};
use maestro_model::diagnostic::Colour;
use maestro_model::ids::StepId;
use maestro_model::plan::Plan;
use maestro_model::workflow::Workflow;
use maestro_store::Store;
use maestro_store::runs::RunRecord;
use serde::Serialize;

use super::run_found::WorkflowFinder;
use crate::cluster::store_failure;
use crate::commands::CommandContext;
use crate::commands::task::entry::{counted, state_phrase, status_tone};
use crate::failure::Failure;
use crate::ids::find_run;
use crate::live::StepEventKind;
use crate::output::shape::{Column, Field, Shape};

/// A run that is to be submitted.
pub(super) struct ReadyRun {
    /// What it was made from.
    pub(super) workflow: Arc<Workflow>,
    /// What is submitted.
    pub(super) plan: Plan,
    /// Of a resumed run.
    pub(super) resumed: Option<Resumed>,
}

/// What a resumed run takes over.
pub(super) struct Resumed {
    old: RunRecord,
    from: StepId,
    will_run: Vec<StepId>,
    keeps: Vec<KeptStep>,
}

/// A step of a resumed run, for `--dry-run`.
#[derive(Debug, Serialize)]
pub(super) struct ResumedStep {
    step: String,
    /// Whether it runs, as far as its edges and its `when` let it.
    runs: bool,
    /// What it came to before, of one that does not.
    status: Option<&'static str>,
}

/// The steps of a resumed run.
pub(super) const RESUME_ROWS: Shape<ResumedStep> = Shape {
    columns: &[
        Column::new("STEP", |step| step.step.clone().into()),
        Column::new("RUNS", |step| if step.runs { "yes" } else { "no" }.into()),
        Column::new("KEEPS", |step| match step.status {
            Some(status) => Field::toned(status, status_tone(status)),
            None => Field::none(),
        }),
    ],
    name: |step| step.step.clone(),
    none: "no steps",
};

impl Resumed {
    /// A row for each step: those that run first, in the order of the file.
    pub(super) fn rows(&self) -> Vec<ResumedStep> {
        let runs =
            self.will_run.iter().map(|step| ResumedStep { step: step.to_string(), runs: true, status: None });
        let kept = self.keeps.iter().map(|kept| ResumedStep {
            step: kept.step.to_string(),
            runs: false,
            status: Some(kept.status.word()),
        });
        runs.chain(kept).collect()
    }

    /// What is about to happen, for people.
    pub(super) fn sentence(&self) -> String {
        let names = |steps: &mut dyn Iterator<Item = String>| steps.collect::<Vec<_>>().join(", ");
        let run = names(&mut self.will_run.iter().map(ToString::to_string));
        let mut kept = self.keeps.iter().map(|kept| format!("{} {}", kept.step, state_phrase(kept.status)));
        let kept = match self.keeps.len() {
            0 => String::new(),
            _ => format!("\nkept as they were: {}", names(&mut kept)),
        };
        format!(
            "resuming run `{}` ({}) from `{}`\n{} will run: {run}{kept}",
            self.old.id,
            self.old.workflow,
            self.from,
            counted(self.will_run.len() as u32, "step"),
        )
    }

    /// What is known of the kept steps before anything happens.
    pub(super) fn events(&self) -> impl Iterator<Item = (String, StepEventKind)> {
        use maestro_model::task::{Reason, TaskStatus};
        self.keeps.iter().map(|kept| {
            let kind = match kept.status {
                TaskStatus::Completed => StepEventKind::Completed,
                TaskStatus::Failed => {
                    StepEventKind::Failed { reason: Reason::Exit, exit_code: None, message: None }
                }
                TaskStatus::Cancelled => StepEventKind::Cancelled,
                _ => StepEventKind::Skipped,
            };
            (kept.step.to_string(), kind)
        })
    }
}

/// Finds the run and works out what a new one of it is made of.
///
/// # Errors
/// 66 if there is no such run or step, 77 if it has not ended, 65 if its definition does not hold any more.
pub(super) async fn resumed(
    store: &Store,
    finder: &WorkflowFinder<'_>,
    step: &str,
    run: Option<&str>,
    (default_timeout_ms, trace): (u64, bool),
    context: &CommandContext,
) -> Result<ReadyRun, Failure> {
    let from: StepId = step.parse().map_err(|_| Failure::usage(format!("`{step}` is no step id")))?;
    // A file says the name; of a file that is gone or wrong the name would have to be given.
    let name = match finder.is_a_file() {
        true => finder.find(Some(store)).await?.workflow.name.value.to_string(),
        false => finder.text.to_owned(),
    };
    let old = match run {
        Some(run) => find_run(store, run).await?,
        None => newest_incomplete_run(store, &name).await.map_err(|error| {
            store_failure(error)
                .hint(format!("`maestro workflow runs {name}` lists its runs; name one with `--run`"))
        })?,
    };
    if old.workflow != name {
        return Err(Failure::usage(format!(
            "run `{}` is one of workflow `{}`, not of `{name}`",
            old.id, old.workflow
        )));
    }
    let plan = resume_plan(store, &old.id, &from, default_timeout_ms, trace).await.map_err(refusal)?;
    context.printer.detail(&format!("resuming run `{}`", old.id));
    let resumed = Resumed { old, from, will_run: plan.will_run, keeps: plan.keeps };
    Ok(ReadyRun { workflow: Arc::new(plan.workflow), plan: plan.plan, resumed: Some(resumed) })
}

fn refusal(error: ResumeError) -> Failure {
    let message = error.to_string();
    match error {
        ResumeError::NotEnded { run, .. } => Failure::refused(message).hint(format!(
            "wait for its end (`maestro task wait {run}`), or stop it (`maestro workflow stop {run}`)"
        )),
        ResumeError::NoDefinition { run } => Failure::refused(message)
            .hint(format!("`maestro task retry {run}` gives what failed in it another try")),
        ResumeError::UnknownStep { run, nearest, .. } => Failure::not_found(message).hint(match nearest {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("`maestro workflow status {run}` lists its steps"),
        }),
        ResumeError::TooManyTasks { .. } => Failure::refused(message),
        ResumeError::Invalid { problems, .. } => Failure::invalid_file(message)
            .details(problems.to_json())
            .shown_as(problems.render(Colour::Plain)),
        ResumeError::Store(error) => store_failure(error),
    }
}
