//! `maestro state rollback`: back to an earlier snapshot of this cluster, named by path, label or `latest`.
//!
//! A restore takes any archive and refuses while agents work; a rollback takes one of this cluster's own and ends
//! them. Everything else is the same, and it is as much all or nothing.

use std::path::{Path, PathBuf};

use clap::Args;
use maestro_coordinator::archive::{VerifiedArchive, read_outline};
use maestro_coordinator::snapshot::{SnapshotFile, SnapshotFolder};

use super::archive::{archive_failure, open_verified};
use super::going_back::{GoingBack, THREADS, go_back};
use super::snapshot::snapshot_failure;
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::consent::Consent;
use crate::failure::Failure;
use crate::ids::{NEWEST, closest};

/// The word for the newest good snapshot.
const LATEST: &str = "latest";

/// Flags of `state rollback`.
#[derive(Debug, Args)]
#[command(
    after_help = "As `state restore`, for a snapshot that this cluster has taken: agents that are active are ended, \
                  after asking (`--yes` without a terminal). Of several snapshots with one label the newest counts. \
                  With `--skip-verify` the archive is not read as a whole before; keys and each workspace are \
                  verified all the same, before the one moment of the change.\n\n\
                  Example:\n  maestro state rollback before-upgrade"
)]
pub(crate) struct StateRollbackArgs {
    /// The snapshot: a path, a label, a name in the snapshot folder, or `latest`
    snapshot: String,
    /// Do not read all of it first
    #[arg(long)]
    skip_verify: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Do not take a snapshot of what is there now
    #[arg(long)]
    no_safety_copy: bool,
}

/// Goes back.
pub(crate) fn run(args: &StateRollbackArgs, context: &CommandContext) -> Outcome {
    let settings = context.settings()?;
    let folder = SnapshotFolder::open(&settings.snapshot_dir()).map_err(|error| snapshot_failure(&error))?;
    let path = find(&args.snapshot, &folder)?;
    let archive = open(&path, args.skip_verify, context)?;
    context.block_on(THREADS, async {
        let store = open_store(&settings).await?;
        if archive.manifest.cluster != store.cluster_id() {
            let message = format!("snapshot `{}` is another cluster's", path.display());
            return Err(Failure::refused(message)
                .cause(format!(
                    "it is of cluster {}, and this is {}",
                    archive.manifest.cluster,
                    store.cluster_id()
                ))
                .hint(format!("`maestro state restore {}` takes any snapshot", path.display())));
        }
        let wish = GoingBack {
            file: path.clone(),
            cause: "rollback",
            skip_failed: false,
            consent: Consent::of_flag(args.yes),
            stop_agents: true,
            trust_archive: false,
            no_safety_copy: args.no_safety_copy,
        };
        go_back(&store, &settings, &archive, wish, context).await
    })
}

fn open(path: &Path, skip_verify: bool, context: &CommandContext) -> Result<VerifiedArchive, Failure> {
    if skip_verify {
        return read_outline(path).map_err(|error| archive_failure(path, &error));
    }
    open_verified(path, context)
}

/// The archive that a word means.
fn find(word: &str, folder: &SnapshotFolder) -> Result<PathBuf, Failure> {
    let files = folder.list().map_err(|error| snapshot_failure(&error))?;
    if word == LATEST || NEWEST.contains(&word) {
        let latest = files.into_iter().find(|file| file.is_latest).map(|file| file.path);
        return latest.ok_or_else(|| {
            Failure::not_found(format!("there is no `{LATEST}` in `{}`", folder.path().display()))
                .hint("`maestro state snapshot` takes one; partial ones never are `latest`")
        });
    }
    let path = PathBuf::from(word);
    if path.is_file() {
        return Ok(path);
    }
    let is_meant = |file: &SnapshotFile| {
        let label = file.head.as_ref().and_then(|head| head.label.as_deref());
        let name = file.path.file_name().and_then(|name| name.to_str());
        let stem = name.and_then(|name| name.strip_suffix(".tar.gz"));
        [label, name, stem].contains(&Some(word))
    };
    // The newest first.
    if let Some(found) = files.iter().find(|file| is_meant(file)) {
        return Ok(found.path.clone());
    }
    let labels = files.iter().filter_map(|file| file.head.as_ref()?.label.as_deref());
    let failure = Failure::not_found(format!("no snapshot is called `{word}`, and no file is"));
    Err(match closest(word, labels) {
        Some(label) => failure.hint(format!("did you mean `{label}`?")),
        None => failure.hint("`maestro state snapshots` lists those that there are"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_said_with_the_way_to_what_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let snapshots = SnapshotFolder::open(folder.path()).expect("ours");
        let file = folder.path().join("one.tar.gz");
        std::fs::write(&file, "no archive").expect("ours");
        let found = |word: &str| find(word, &snapshots).map_err(|failure| failure.exit());
        assert_eq!(found("one"), Ok(file.clone()), "its name will do");
        assert_eq!(found("one.tar.gz"), Ok(file.clone()));
        assert_eq!(found(file.to_str().expect("plain")), Ok(file));
        for word in ["latest", "@latest", "last", "two"] {
            assert_eq!(found(word), Err(crate::exit::Exit::NotFound), "{word}");
        }
    }
}
