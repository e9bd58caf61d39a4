//! `maestro state verify`: reads every byte of a snapshot and compares it with its manifest. Needs no Redis.

use std::path::PathBuf;

use clap::Args;
use maestro_coordinator::archive::VerifiedArchive;
use maestro_model::snapshot::{ArchivedKind, WorkerCoverage};
use serde::Serialize;

use super::archive::open_verified;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::output::moment::as_rfc3339;
use crate::output::shape::{Column, Field, Shape};

/// Flags of `state verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 if every byte is as it was written, with 65 if not. With `--sums` the list that is printed \
                  is what `sha256sum -c` takes in the folder where `tar -xzf` has unpacked the archive.\n\n\
                  Example:\n  maestro state verify before-upgrade.tar.gz"
)]
pub(crate) struct StateVerifyArgs {
    /// The snapshot
    file: PathBuf,
    /// Print the SHA-256 of every file in it
    #[arg(long)]
    sums: bool,
}

#[derive(Debug, Serialize)]
struct VerifiedEntry {
    file: String,
    verified: bool,
    /// Of the manifest: two snapshots with the same are the same.
    digest: String,
    bytes: u64,
    #[serde(rename = "taken_at", serialize_with = "as_rfc3339")]
    taken_at_ms: u64,
    label: Option<String>,
    partial: bool,
    cluster: String,
    namespace: String,
    epoch: u64,
    maestro_version: String,
    redis_version: String,
    keys: u64,
    runs: u64,
    running: u64,
    workspaces: u64,
    entries: u64,
    /// Workers whose folders are not in it.
    missing_workers: Vec<String>,
    /// Symbolic links that lead out of their workspace, the first of them.
    links_out: Vec<String>,
}

impl VerifiedEntry {
    fn of(archive: &VerifiedArchive) -> VerifiedEntry {
        let manifest = &archive.manifest;
        let counts = manifest.counts;
        let missing = manifest.workers.iter().filter(|worker| worker.coverage != WorkerCoverage::Packed);
        VerifiedEntry {
            file: archive.path.display().to_string(),
            verified: true,
            digest: archive.digest.to_string(),
            bytes: archive.bytes,
            taken_at_ms: manifest.taken_at_ms,
            label: manifest.label.clone(),
            partial: manifest.partial,
            cluster: manifest.cluster.clone(),
            namespace: manifest.namespace.clone(),
            epoch: manifest.epoch,
            maestro_version: manifest.maestro_version.clone(),
            redis_version: manifest.redis_version.clone(),
            keys: counts.keys,
            runs: counts.runs,
            running: counts.running,
            workspaces: counts.workspaces,
            entries: counts.entries,
            missing_workers: missing.map(|worker| worker.name.to_string()).collect(),
            links_out: archive.links_out.1.clone(),
        }
    }
}

const SHAPE: Shape<VerifiedEntry> = Shape {
    columns: &[
        Column::new("SNAPSHOT", |one| one.file.clone().into()),
        Column::new("VERIFIED", |one| if one.partial { "yes, but partial" } else { "yes" }.into()),
        Column::new("TAKEN", |one| crate::output::moment::rfc3339(one.taken_at_ms).into()),
        Column::new("LABEL", |one| Field::or_none(one.label.clone())),
        Column::new("CLUSTER", |one| one.cluster.clone().into()),
        Column::new("KEYS", |one| Field::number(one.keys)),
        Column::new("RUNS", |one| Field::number(one.runs)),
        Column::new("RUNNING", |one| Field::number(one.running)),
        Column::new("WORKSPACES", |one| Field::number(one.workspaces)),
        Column::new("ENTRIES", |one| Field::number(one.entries)),
        Column::new("BYTES", |one| Field::number(one.bytes)),
        Column::new("MISSING WORKERS", |one| {
            Field::or_none((!one.missing_workers.is_empty()).then(|| one.missing_workers.join(", ")))
        }),
        Column::new("DIGEST", |one| one.digest.clone().into()),
    ],
    name: |one| one.file.clone(),
    none: "no snapshot",
};

/// Verifies it.
pub(crate) fn run(args: &StateVerifyArgs, context: &CommandContext) -> Outcome {
    let archive = open_verified(&args.file, context)?;
    if archive.links_out.0 > 0 {
        let (count, first) = (archive.links_out.0, archive.links_out.1.first().cloned().unwrap_or_default());
        context
            .printer
            .warn(&format!("{count} symbolic links lead out of their workspace, such as `{first}`"));
    }
    if args.sums {
        context.printer.bytes(&sums_of(&archive))?;
    } else {
        context.printer.record(&VerifiedEntry::of(&archive), &SHAPE)?;
    }
    Ok(Exit::Done)
}

/// The list as `sha256sum -c` reads it.
fn sums_of(archive: &VerifiedArchive) -> Vec<u8> {
    let mut list = Vec::new();
    for file in &archive.manifest.files {
        if let ArchivedKind::File { sha256, .. } = file.kind {
            add_line(&mut list, &sha256.to_string(), file.path.as_bytes());
        }
    }
    add_line(&mut list, &archive.digest.to_string(), b"maestro/manifest.json");
    list
}

/// Names with a backslash or a line break are escaped, which a backslash at the beginning of the line says.
fn add_line(list: &mut Vec<u8>, digest: &str, name: &[u8]) {
    let is_plain = !name.iter().any(|byte| b"\\\n\r".contains(byte));
    if !is_plain {
        list.push(b'\\');
    }
    list.extend_from_slice(digest.as_bytes());
    list.extend_from_slice(b"  ");
    for byte in name {
        match byte {
            b'\\' => list.extend_from_slice(b"\\\\"),
            b'\n' => list.extend_from_slice(b"\\n"),
            b'\r' => list.extend_from_slice(b"\\r"),
            other => list.push(*other),
        }
    }
    list.push(b'\n');
}
