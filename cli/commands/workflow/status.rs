//! `maestro workflow status`: a run and its steps.

use clap::Args;
use serde::Serialize;

use super::run_entry::{RUN_CARD, RunEntry};
use super::step_entry::{STEP_ROWS, StepEntry, step_entries};
use super::watch::watch;
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::ids::find_run;
use crate::output::format::Form;
use crate::output::shape::{card_of, table_of};

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
        let steps = step_entries(&store, &record).await?;
        let run = RunEntry::from(&record);
        let printer = &context.printer;
        match printer.form() {
            Form::Table => {
                let card = card_of(&run, &RUN_CARD, printer.paint());
                let table = table_of(&steps, &STEP_ROWS, printer.paint());
                printer.lines(&format!("{card}\n\n{table}"))?;
            }
            Form::Name => printer.lines(&run.id)?,
            Form::Json | Form::Jsonl | Form::Yaml => printer.document(&RunWithSteps { run, steps })?,
        }
        Ok(Exit::Done)
    })
}
