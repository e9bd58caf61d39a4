//! `maestro workflow stop`: ends a run, or every run of a workflow.

use clap::Args;
use maestro_store::Store;
use maestro_store::runs::{RunRecord, RunStatus, StopAnswer};
use serde::Serialize;

use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::find_run;
use crate::output::format::Form;
use crate::output::shape::{Column, Shape};

/// Runs looked at for those of one workflow: more than are ever kept.
const LOOKED_AT_MAX: usize = 100_000;

/// Flags of `workflow stop`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro workflow stop last --reason wrong-branch")]
pub(crate) struct StopArgs {
    /// The run: its id, a prefix of it, or `last`; or the name of a workflow: all its runs that go on
    #[arg(value_name = "RUN|NAME")]
    run: String,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Print which runs would be stopped, and stop none
    #[arg(long)]
    dry_run: bool,
    /// Accepted for scripts; this command never asks
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct StoppedRecord {
    id: String,
    workflow: String,
    /// `cancelling`, or how it had ended before.
    status: &'static str,
}

const SHAPE: Shape<StoppedRecord> = Shape {
    columns: &[
        Column::new("ID", |record| record.id.clone().into()),
        Column::new("WORKFLOW", |record| record.workflow.clone().into()),
        Column::new("STATUS", |record| record.status.into()),
    ],
    name: |record| record.id.clone(),
    none: "no runs",
};

/// Stops it. One that has ended stays as it is, and that is no error: it does not run any more.
pub(crate) fn run(args: &StopArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let runs = runs_meant(&store, &args.run).await?;
        if args.dry_run {
            let record = |run: &RunRecord| StoppedRecord {
                id: run.id.to_string(),
                workflow: run.workflow.clone(),
                status: run.status.word(),
            };
            context.printer.list(&runs.iter().map(record).collect::<Vec<_>>(), &SHAPE)?;
            context.printer.note("nothing was stopped");
            return Ok(Exit::Done);
        }
        stop_runs(&store, &runs, &args.reason, context).await
    })
}

/// Stops runs and says what became of each.
pub(crate) async fn stop_runs(
    store: &Store,
    runs: &[RunRecord],
    reason: &str,
    context: &CommandContext,
) -> Outcome {
    let mut records = Vec::new();
    let mut sentences = Vec::new();
    for run in runs {
        let (status, sentence) = stop(store, run, reason).await?;
        sentences.push(format!("run `{}` ({}) {sentence}", run.id, run.workflow));
        records.push(StoppedRecord { id: run.id.to_string(), workflow: run.workflow.clone(), status });
    }
    match (context.printer.form(), records.as_slice()) {
        (Form::Table, _) => context.printer.lines(&sentences.join("\n"))?,
        (_, [only]) => context.printer.record(only, &SHAPE)?,
        (_, several) => context.printer.list(several, &SHAPE)?,
    }
    Ok(Exit::Done)
}

/// A name means every run of that workflow that goes on; anything else one run.
async fn runs_meant(store: &Store, text: &str) -> Result<Vec<RunRecord>, Failure> {
    let mut of_name = store.newest_runs(LOOKED_AT_MAX).await?;
    of_name.retain(|run| run.workflow == text);
    if of_name.is_empty() {
        return Ok(vec![find_run(store, text).await?]);
    }
    let total = of_name.len();
    of_name.retain(|run| !run.status.is_final());
    if of_name.is_empty() {
        let runs = if total == 1 { "its one run has".to_owned() } else { format!("all {total} runs have") };
        return Err(Failure::not_found(format!("no run of workflow `{text}` goes on: {runs} ended")));
    }
    Ok(of_name)
}

async fn stop(store: &Store, run: &RunRecord, reason: &str) -> Result<(&'static str, String), Failure> {
    if run.status == RunStatus::Loading {
        return Err(Failure::refused(format!("run `{}` is still being submitted", run.id))
            .hint("try again in a moment; a submission that was broken off goes by itself after an hour"));
    }
    if run.status.is_final() {
        return Ok((run.status.word(), format!("had ended already: it {}", end_phrase(run.status))));
    }
    Ok(match store.stop_run(&run.id, reason).await? {
        StopAnswer::Ending => ("cancelling", "is being stopped: its agents are told to end".to_owned()),
        StopAnswer::Repeated => ("cancelling", "is being stopped already".to_owned()),
        StopAnswer::Ended => match store.run(&run.id).await? {
            Some(run) => (run.status.word(), format!("has ended meanwhile: it {}", end_phrase(run.status))),
            None => ("gone", "has ended meanwhile, and was removed".to_owned()),
        },
    })
}

fn end_phrase(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Completed => "completed",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "was cancelled",
        RunStatus::Loading | RunStatus::Running | RunStatus::Cancelling => "goes on",
    }
}
