//! `maestro redis flush`: deletes Maestro's keys, and nobody else's.

use clap::Args;
use maestro_store::Store;
use maestro_store::worker::ProcessRole;
use serde::Serialize;

use crate::cluster::open_store;
use crate::commands::task::entry::counted;
use crate::commands::{CommandContext, Outcome};
use crate::consent::Consent;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::shape::{Column, Field, Shape};

/// Runs looked at for those that go on.
const RUNS_LOOKED_AT_MAX: usize = 100_000;

/// Flags of `redis flush`.
#[derive(Debug, Args)]
#[command(
    after_help = "Only keys of this namespace go; what else is in that Redis stays. No safety copy is made by \
                        this version. Workers and coordinators go on and begin anew; agents that run are ended, \
                        folders of agents stay.\n\n\
                        Example:\n  maestro redis flush --dry-run"
)]
pub(crate) struct FlushArgs {
    /// Print what would go, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct FlushRecord {
    namespace: String,
    /// Keys deleted, or to be deleted.
    keys: u64,
    runs: usize,
    /// Of these, that go on.
    running: usize,
    workers: usize,
    flushed: bool,
}

const SHAPE: Shape<FlushRecord> = Shape {
    columns: &[
        Column::new("NAMESPACE", |record| record.namespace.clone().into()),
        Column::new("KEYS", |record| Field::number(record.keys)),
        Column::new("RUNS", |record| Field::number(record.runs)),
        Column::new("RUNNING", |record| Field::number(record.running)),
        Column::new("WORKERS", |record| Field::number(record.workers)),
        Column::new("FLUSHED", |record| if record.flushed { "yes" } else { "no" }.into()),
    ],
    name: |record| record.namespace.clone(),
    none: "nothing",
};

/// Deletes them.
pub(crate) fn run(args: &FlushArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let mut record = found(&store).await?;
        if !args.dry_run {
            let what = format!(
                "all of namespace `{}` at {} is about to be deleted: {} keys, {}, {} of them going on, \
                 stored workflows and shared state; no safety copy is made",
                record.namespace,
                store.address(),
                record.keys,
                counted(record.runs as u32, "run"),
                record.running,
            );
            Consent::of_flag(args.yes).require(&what, context)?;
            record.keys = store.flush().await?;
            record.flushed = true;
        }
        context.printer.record(&record, &SHAPE)?;
        Ok(Exit::Done)
    })
}

async fn found(store: &Store) -> Result<FlushRecord, Failure> {
    let runs = store.newest_runs(RUNS_LOOKED_AT_MAX).await?;
    let processes = store.processes().await?;
    let is_worker = |role: &ProcessRole| *role == ProcessRole::Worker;
    Ok(FlushRecord {
        namespace: store.namespace().to_owned(),
        keys: store.count_keys().await?,
        runs: runs.len(),
        running: runs.iter().filter(|run| !run.status.is_final()).count(),
        workers: processes.iter().filter(|one| one.alive && is_worker(&one.about.role)).count(),
        flushed: false,
    })
}
