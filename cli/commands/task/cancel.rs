//! `maestro task cancel`: ends a task, whatever it does.

use clap::Args;
use maestro_model::task::TaskStatus;
use maestro_store::runs::{StopAnswer, TaskView};
use maestro_store::{Refusal, StoreError};
use serde::Serialize;

use super::entry::state_phrase;
use crate::cluster::open_store;
use crate::commands::workflow::stop_runs;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Form;
use crate::output::shape::{Column, Shape};
use crate::work::{FoundWork, find_work};

/// Flags of `task cancel`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro task cancel last/build --reason \"wrong-branch\"")]
pub(crate) struct TaskCancelArgs {
    /// `<run>.<index>`, `<run>/<step>`, `<run>/<step>[<item>]`, or `<run>` for all of its tasks; a run is its id,
    /// a prefix of it, or `last`
    id: String,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

#[derive(Debug, Serialize)]
struct CancelRecord {
    id: String,
    step: String,
    /// `cancelled`, `cancelling`, or how it had ended before.
    status: &'static str,
}

const SHAPE: Shape<CancelRecord> = Shape {
    columns: &[
        Column::new("ID", |record| record.id.clone().into()),
        Column::new("STEP", |record| record.step.clone().into()),
        Column::new("STATUS", |record| record.status.into()),
    ],
    name: |record| record.id.clone(),
    none: "no task",
};

/// Cancels it. One that has ended stays as it is, and that is no error: it does not run any more.
pub(crate) fn run(args: &TaskCancelArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let found = match find_work(&store, &args.id).await? {
            FoundWork::Task(found) => found,
            FoundWork::Run(run) => return stop_runs(&store, &[*run], &args.reason, context).await,
        };
        let task = &found.task;
        let ended_before = task.status.is_final();
        let answer = match store.cancel_task(&task.id, &args.reason).await {
            Err(StoreError::Refused(Refusal::NotFound { .. })) if task.group.is_some() => {
                return Err(item_not_there(task));
            }
            answer => answer?,
        };
        let (status, sentence) = if ended_before {
            (task.status.word(), format!("had ended already: it {}", state_phrase(task.status)))
        } else {
            match answer {
                StopAnswer::Ending => {
                    ("cancelling", "is being cancelled: its agent is told to end".to_owned())
                }
                StopAnswer::Repeated => ("cancelling", "is being cancelled already".to_owned()),
                // It may have ended by itself between the look and the cancelling.
                StopAnswer::Ended => match store.task(&task.id).await?.status {
                    TaskStatus::Cancelled => ("cancelled", "is cancelled".to_owned()),
                    other => (other.word(), format!("has ended meanwhile: it {}", state_phrase(other))),
                },
            }
        };
        if context.printer.form() == Form::Table {
            context.printer.lines(&format!("task `{}` ({}) {sentence}", task.id, task.own.label()))?;
        } else {
            let record = CancelRecord { id: task.id.to_string(), step: task.own.label(), status };
            context.printer.record(&record, &SHAPE)?;
        }
        Ok(Exit::Done)
    })
}

/// An item exists for the scripts only once its `foreach` has started.
fn item_not_there(task: &TaskView) -> Failure {
    let (run, step) = (&task.id.run, &task.own.step);
    Failure::refused(format!("item `{}` cannot be cancelled: its `foreach` does not run", task.own.label()))
        .hint(format!("`maestro task cancel {run}/{step}` cancels the whole step"))
}
