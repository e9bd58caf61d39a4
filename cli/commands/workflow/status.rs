//! `maestro workflow status`: a run and its steps.

use clap::Args;
use maestro_store::Store;
use maestro_store::runs::RunRecord;
use serde::Serialize;

use super::resume_hint::resume_hint;
use super::run_entry::{RUN_CARD, RunEntry};
use super::step_entry::{STEP_ROWS, STEP_ROWS_WITH_USE, StepEntry, step_entries};
use super::watch::watch;
use crate::cluster::open_store;
use crate::commands::task::model_use_entry::ModelUseTotal;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::ids::find_run;
use crate::output::format::Form;
use crate::output::shape::card_of;

/// Flags of `workflow status`.
#[derive(Debug, Args)]
#[command(after_help = "The exit code says nothing about the run: it is 0 if there is one.\n\n\
                        Example:\n  maestro workflow status last")]
pub(crate) struct RunStatusArgs {
    /// The run: its id, a prefix of it, or `last`
    run: String,
    /// Follow it until it ends, like `workflow run`; Ctrl-C leaves it going
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Serialize)]
struct RunWithSteps {
    #[serde(flatten)]
    run: RunEntry,
    /// What all steps took of models together.
    #[serde(flatten)]
    model_use: ModelUseTotal,
    steps: Vec<StepEntry>,
}

/// Prints it.
pub(crate) fn run(args: &RunStatusArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let record = find_run(&store, &args.run).await?;
        if args.watch && !record.status.is_final() {
            return watch(&store, &record, context).await;
        }
        print_run(&store, &record, context).await
    })
}

/// Prints a run with its steps.
pub(crate) async fn print_run(store: &Store, record: &RunRecord, context: &CommandContext) -> Outcome {
    let steps = step_entries(store, record).await?;
    let run = RunEntry::from(record);
    let model_use = ModelUseTotal::of(steps.iter().map(|step| &step.task.model_use));
    let printer = &context.printer;
    if let Some(hint) = resume_hint(store, record).await? {
        printer.warn(&hint);
    }
    match printer.form() {
        Form::Table => {
            let card = card_of(&run, &RUN_CARD, printer.paint());
            let text = match model_use.text() {
                None => format!("{card}\n\n{}", printer.table(&steps, &STEP_ROWS)),
                Some(used) => {
                    let table = printer.table(&steps, &STEP_ROWS_WITH_USE);
                    format!("{card}\n\n{table}\n\nused: {used}")
                }
            };
            printer.lines(&text)?;
        }
        Form::Name => printer.lines(&run.id)?,
        Form::Json | Form::Jsonl | Form::Yaml => {
            printer.document(&RunWithSteps { run, model_use, steps })?;
        }
    }
    Ok(Exit::Done)
}
