//! `maestro state snapshot`: all of the cluster at one instant, in one archive.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use maestro_coordinator::agent_conditions::failed_agents;
use maestro_coordinator::snapshot::{SnapshotError, SnapshotFolder, SnapshotRequest, TakenSnapshot, stamp};
use maestro_model::duration::parse_duration;
use maestro_model::snapshot::WorkerCoverage;
use maestro_store::Store;
use maestro_store::watching::SnapshotNote;
use serde::Serialize;

use super::snapshot_progress::take_shown;
use crate::agents::who_asks;
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::moment::{as_rfc3339, now_ms, rfc3339};
use crate::output::shape::{Column, Field, Shape};

/// Threads of the command: the freeze is renewed while the disk is waited for.
const THREADS: usize = 2;
/// Longest label, bytes.
const LABEL_BYTES_MAX: usize = 1024;

/// Flags of `state snapshot`.
#[derive(Debug, Args)]
#[command(
    after_help = "Agents pause while keys and workspaces are read, and go on by themselves even if this command is \
                  killed. Ends with 1 if a worker's folders are missing: such a snapshot is never `latest`.\n\n\
                  Example:\n  maestro state snapshot --label before-upgrade"
)]
pub(crate) struct StateSnapshotArgs {
    /// Logs of attempts as well
    #[arg(long)]
    include_logs: bool,
    /// Where to; by default a new name in the snapshot folder
    #[arg(long, value_name = "F.tar.gz")]
    output: Option<PathBuf>,
    /// A word on it, for whoever looks later
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// When the cluster goes on at the latest
    #[arg(long, value_name = "TIME", default_value = "10m")]
    freeze_deadline: String,
}

#[derive(Debug, Serialize)]
struct SnapshotRecord {
    file: String,
    bytes: u64,
    #[serde(rename = "taken_at", serialize_with = "as_rfc3339")]
    taken_at_ms: u64,
    label: Option<String>,
    /// Whether something is missing.
    partial: bool,
    /// Whether `latest` leads to it now.
    latest: bool,
    keys: u64,
    runs: u64,
    running: u64,
    workspaces: u64,
    entries: u64,
    /// How long agents stood still, s.
    still_for: f64,
    /// What is missing, each with the reason.
    missing: Vec<String>,
    /// Agents that were failed.
    failed_agents: Vec<String>,
}

const SHAPE: Shape<SnapshotRecord> = Shape {
    columns: &[
        Column::new("SNAPSHOT", |one| one.file.clone().into()),
        Column::new("TAKEN", |one| rfc3339(one.taken_at_ms).into()),
        Column::new("LABEL", |one| Field::or_none(one.label.clone())),
        Column::new("LATEST", |one| if one.latest { "yes" } else { "no" }.into()),
        Column::new("KEYS", |one| Field::number(one.keys)),
        Column::new("RUNS", |one| Field::number(one.runs)),
        Column::new("RUNNING", |one| Field::number(one.running)),
        Column::new("WORKSPACES", |one| Field::number(one.workspaces)),
        Column::new("ENTRIES", |one| Field::number(one.entries)),
        Column::new("BYTES", |one| Field::number(one.bytes)),
        Column::new("STILL FOR", |one| format!("{:.1}s", one.still_for).into()),
        Column::new("MISSING", |one| {
            Field::or_none((!one.missing.is_empty()).then(|| one.missing.join(", ")))
        }),
    ],
    name: |one| one.file.clone(),
    none: "no snapshot",
};

/// Takes it.
pub(crate) fn run(args: &StateSnapshotArgs, context: &CommandContext) -> Outcome {
    if args.label.as_ref().is_some_and(|label| label.len() > LABEL_BYTES_MAX) {
        return Err(Failure::usage(format!("the label is longer than {LABEL_BYTES_MAX} bytes")));
    }
    let deadline = parse_duration(&args.freeze_deadline).map_err(|error| {
        Failure::usage(format!("cannot use the value of `--freeze-deadline`: {error}")).hint(error.hint())
    })?;
    context.block_on(THREADS, take(args, deadline, context))
}

async fn take(args: &StateSnapshotArgs, deadline: Duration, context: &CommandContext) -> Outcome {
    let settings = context.settings()?;
    let store = open_store(&settings).await?;
    let folder = SnapshotFolder::open(&settings.snapshot_dir());
    let folder = folder.map_err(|error| snapshot_failure(&error))?;
    let output = output_of(args, &folder)?;
    let request = SnapshotRequest {
        output,
        label: args.label.clone(),
        include_logs: args.include_logs,
        by: who_asks(&context.surroundings()?),
        deadline,
        failed_agents: failed_agents(&store).await?,
    };
    let taken = take_shown(&store, &request, context).await.map_err(|error| snapshot_failure(&error))?;
    let latest =
        folder.make_latest(&taken.path, taken.is_good()).map_err(|error| snapshot_failure(&error))?;
    if taken.is_good() {
        note_for_watchers(&store, &taken, context).await;
    }
    let record = record_of(&taken, latest);
    remove_old(&folder, settings.snapshot_retention(), context);
    for missing in &record.missing {
        context.printer.warn(missing);
    }
    context.printer.record(&record, &SHAPE)?;
    Ok(if record.partial { Exit::WorkFailed } else { Exit::Done })
}

/// Those who watch the cluster want to know how old the newest snapshot is; the snapshot does not depend on it.
async fn note_for_watchers(store: &Store, taken: &TakenSnapshot, context: &CommandContext) {
    let note = SnapshotNote { taken_at_ms: taken.manifest.taken_at_ms, bytes: taken.bytes };
    if let Err(error) = store.note_snapshot(note).await {
        context.printer.warn(&format!("its age is not told to those who watch: {error}"));
    }
}

/// Where it goes: what is there already is not written over.
fn output_of(args: &StateSnapshotArgs, folder: &SnapshotFolder) -> Result<PathBuf, Failure> {
    let Some(output) = &args.output else { return Ok(folder.named(&stamp(now_ms()))) };
    if output.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
        let message = format!("`{}` is there already", output.display());
        return Err(Failure::refused(message).hint("remove it first, or give another name"));
    }
    if output.is_dir() {
        let folder = SnapshotFolder::open(output).map_err(|error| snapshot_failure(&error))?;
        return Ok(folder.named(&stamp(now_ms())));
    }
    Ok(output.clone())
}

fn record_of(taken: &TakenSnapshot, latest: bool) -> SnapshotRecord {
    let manifest = &taken.manifest;
    let missing = manifest.workers.iter().filter_map(|worker| match &worker.coverage {
        WorkerCoverage::Missing(absent) => Some(format!("worker `{}`: {}", worker.name, absent.why)),
        WorkerCoverage::Packed => None,
    });
    SnapshotRecord {
        file: taken.path.display().to_string(),
        bytes: taken.bytes,
        taken_at_ms: manifest.taken_at_ms,
        label: manifest.label.clone(),
        partial: manifest.partial,
        latest,
        keys: manifest.counts.keys,
        runs: manifest.counts.runs,
        running: manifest.counts.running,
        workspaces: manifest.counts.workspaces,
        entries: manifest.counts.entries,
        still_for: taken.still_for.as_secs_f64(),
        missing: missing.collect(),
        failed_agents: manifest.failed_agents.clone(),
    }
}

/// What is too old goes with each new one.
fn remove_old(folder: &SnapshotFolder, retention: Duration, context: &CommandContext) {
    match folder.remove_old(retention) {
        Ok(removed) => removed.iter().for_each(|path| tell_removed(path, context)),
        Err(error) => context.printer.warn(&format!("old snapshots stay: {error}")),
    }
}

fn tell_removed(path: &Path, context: &CommandContext) {
    context.printer.note(&format!("removed `{}`: it was older than the retention time", path.display()));
}

/// What a command says of a snapshot that was not taken.
pub(super) fn snapshot_failure(error: &SnapshotError) -> Failure {
    match error {
        SnapshotError::Store(_) => {
            Failure::new(Exit::NothingToRunIt, "no snapshot was taken; the cluster goes on").caused_by(error)
        }
        SnapshotError::NotHeld => {
            Failure::new(Exit::WorkFailed, "no snapshot was taken; the cluster goes on")
                .caused_by(error)
                .hint("give it more time: `--freeze-deadline 30m`")
        }
        SnapshotError::Disk { .. } | SnapshotError::Unlawful { .. } | SnapshotError::Unread(_) => {
            Failure::new(Exit::WorkFailed, "no snapshot was taken; the cluster goes on").caused_by(error)
        }
    }
}
