//! `maestro state snapshots`: which snapshots and safety copies there are on this host.

use clap::Args;
use maestro_coordinator::snapshot::{SnapshotFile, SnapshotFolder};
use serde::Serialize;

use super::snapshot::snapshot_failure;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::output::moment::{as_optional_rfc3339, rfc3339};
use crate::output::shape::{Column, Field, Shape};

/// Flags of `state snapshots`: none.
#[derive(Debug, Args)]
#[command(
    after_help = "The newest first. What they say of themselves is not verified here: `state verify` does that.\n\n\
                  Example:\n  maestro state snapshots"
)]
pub(crate) struct StateSnapshotsArgs {}

#[derive(Debug, Serialize)]
struct SnapshotEntry {
    file: String,
    bytes: u64,
    #[serde(rename = "taken_at", serialize_with = "as_optional_rfc3339")]
    taken_at_ms: Option<u64>,
    label: Option<String>,
    /// `good`, `partial`, `agents failed`, `unreadable`.
    state: &'static str,
    latest: bool,
    cluster: Option<String>,
    runs: Option<u64>,
    workspaces: Option<u64>,
}

impl SnapshotEntry {
    fn of(file: SnapshotFile) -> SnapshotEntry {
        let head = file.head;
        let state = match &head {
            None => "unreadable",
            Some(head) if head.partial => "partial",
            Some(head) if !head.is_good() => "agents failed",
            Some(_) => "good",
        };
        SnapshotEntry {
            file: file.path.display().to_string(),
            bytes: file.bytes,
            taken_at_ms: head.as_ref().map(|head| head.taken_at_ms),
            label: head.as_ref().and_then(|head| head.label.clone()),
            state,
            latest: file.is_latest,
            cluster: head.as_ref().map(|head| head.cluster.clone()),
            runs: head.as_ref().map(|head| head.counts.runs),
            workspaces: head.as_ref().map(|head| head.counts.workspaces),
        }
    }
}

const SHAPE: Shape<SnapshotEntry> = Shape {
    columns: &[
        Column::new("SNAPSHOT", |one| one.file.clone().into()),
        Column::new("TAKEN", |one| Field::or_none(one.taken_at_ms.map(rfc3339))),
        Column::new("LABEL", |one| Field::or_none(one.label.clone())),
        Column::new("STATE", |one| one.state.into()),
        Column::new("LATEST", |one| if one.latest { "yes" } else { "" }.into()),
        Column::new("RUNS", |one| Field::or_none(one.runs.map(|runs| runs.to_string()))),
        Column::new("WORKSPACES", |one| Field::or_none(one.workspaces.map(|count| count.to_string()))),
        Column::new("BYTES", |one| Field::number(one.bytes)),
    ],
    name: |one| one.file.clone(),
    none: "no snapshots",
};

/// Lists them. Needs no Redis.
pub(crate) fn run(_args: &StateSnapshotsArgs, context: &CommandContext) -> Outcome {
    let settings = context.settings()?;
    let folder = SnapshotFolder::open(&settings.snapshot_dir());
    let files = folder.and_then(|folder| folder.list()).map_err(|error| snapshot_failure(&error))?;
    let entries: Vec<SnapshotEntry> = files.into_iter().map(SnapshotEntry::of).collect();
    context.printer.list(&entries, &SHAPE)?;
    Ok(Exit::Done)
}
