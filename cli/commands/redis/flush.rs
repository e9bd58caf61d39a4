//! `maestro redis flush`: deletes Maestro's keys, and nobody else's.

use clap::Args;
use maestro_store::Store;
use maestro_store::worker::ProcessRole;
use serde::Serialize;

use crate::agents::who_asks;
use crate::cluster::open_store;
use crate::commands::state::take_safety_copy;
use crate::commands::task::entry::counted;
use crate::commands::{CommandContext, Outcome};
use crate::config::settings::Settings;
use crate::consent::Consent;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::shape::{Column, Field, Shape};

/// Threads of the command: the freeze of the safety copy is renewed while the disk is waited for.
const THREADS: usize = 2;
/// Runs looked at for those that go on.
const RUNS_LOOKED_AT_MAX: usize = 100_000;

/// Flags of `redis flush`.
#[derive(Debug, Args)]
#[command(
    after_help = "Only keys of this namespace go; what else is in that Redis stays. A snapshot is taken before \
                        (`auto/pre-flush-<time>.tar.gz`). Workers and coordinators go on and begin anew; agents that run are ended, \
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
    /// Do not take a snapshot of what is there now
    #[arg(long)]
    no_safety_copy: bool,
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
    safety_copy: Option<String>,
}

const SHAPE: Shape<FlushRecord> = Shape {
    columns: &[
        Column::new("NAMESPACE", |record| record.namespace.clone().into()),
        Column::new("KEYS", |record| Field::number(record.keys)),
        Column::new("RUNS", |record| Field::number(record.runs)),
        Column::new("RUNNING", |record| Field::number(record.running)),
        Column::new("WORKERS", |record| Field::number(record.workers)),
        Column::new("FLUSHED", |record| if record.flushed { "yes" } else { "no" }.into()),
        Column::new("SAFETY COPY", |record| Field::or_none(record.safety_copy.clone())),
    ],
    name: |record| record.namespace.clone(),
    none: "nothing",
};

/// Deletes them.
pub(crate) fn run(args: &FlushArgs, context: &CommandContext) -> Outcome {
    context.block_on(THREADS, async {
        let settings = context.settings()?;
        let store = open_store(&settings).await?;
        let mut record = found(&store).await?;
        if !args.dry_run {
            let what = format!(
                "all of namespace `{}` at {} is about to be deleted: {} keys, {}, {} of them going on, \
                 stored workflows and shared state",
                record.namespace,
                store.address(),
                record.keys,
                counted(record.runs as u32, "run"),
                record.running,
            );
            Consent::of_flag(args.yes).require(&what, context)?;
            if !args.no_safety_copy {
                record.safety_copy = copy_first(&store, &settings, args, context).await?;
            }
            record.keys = store.flush().await?;
            record.flushed = true;
        }
        context.printer.record(&record, &SHAPE)?;
        Ok(Exit::Done)
    })
}

/// Should it fail, somebody has to say that it may be done without.
async fn copy_first(
    store: &Store,
    settings: &Settings,
    args: &FlushArgs,
    context: &CommandContext,
) -> Result<Option<String>, Failure> {
    let by = who_asks(&context.surroundings()?);
    match take_safety_copy(store, settings, "flush", &by, context).await {
        Ok(path) => Ok(Some(path)),
        Err(error) => {
            let what = format!("there is no safety copy of what is there now ({error})");
            context.printer.warn(&what);
            Consent::of_flag(args.yes).require(&what, context)?;
            Ok(None)
        }
    }
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
        safety_copy: None,
    })
}
