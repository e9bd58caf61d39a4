//! `maestro state`: the verbs, one file each.
//!
//! `archive` opens a snapshot; `plan_entry` is what a restore would do, `going_back` does it, for a rollback as well;
//! `snapshot_progress` draws how a snapshot comes along; `entry` is a shared value as users see it;
//! `pattern` is which keys are meant; `road` is the way to them, which inside a task leads to the worker and not to
//! Redis; `safety_copy` is what is taken before something replaces or ends what is there.

mod archive;
mod delete;
mod diff;
mod entry;
mod get;
mod going_back;
mod list;
mod pattern;
mod plan_entry;
mod restore;
mod road;
mod rollback;
mod safety_copy;
mod set;
mod snapshot;
mod snapshot_progress;
mod snapshots;
mod verify;
mod watch;

use clap::Subcommand;

use super::{CommandContext, Outcome};

pub(crate) use archive::open_verified;
pub(crate) use safety_copy::take_safety_copy;

/// The verbs of `state`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  maestro state set branch main --ttl 2h")]
pub(crate) enum StateCommand {
    /// Write a value
    Set(set::StateSetArgs),
    /// Print a value
    Get(get::StateGetArgs),
    /// List values
    List(list::StateListArgs),
    /// Remove a value
    Delete(delete::StateDeleteArgs),
    /// Archive the whole cluster, keys and workspaces, at one instant
    Snapshot(snapshot::StateSnapshotArgs),
    /// List snapshots and safety copies
    Snapshots(snapshots::StateSnapshotsArgs),
    /// Read every byte of a snapshot and compare it with its manifest
    Verify(verify::StateVerifyArgs),
    /// Say what has changed since a snapshot
    Diff(diff::StateDiffArgs),
    /// Bring the cluster back to what a snapshot shows
    Restore(restore::StateRestoreArgs),
    /// Go back to an earlier snapshot of this cluster, and end what its agents do
    Rollback(rollback::StateRollbackArgs),
    /// Print changes as they happen
    Watch(watch::StateWatchArgs),
}

/// Runs one of the verbs.
pub(crate) fn run(command: StateCommand, context: &CommandContext) -> Outcome {
    match command {
        StateCommand::Set(args) => set::run(&args, context),
        StateCommand::Get(args) => get::run(&args, context),
        StateCommand::List(args) => list::run(&args, context),
        StateCommand::Delete(args) => delete::run(&args, context),
        StateCommand::Snapshot(args) => snapshot::run(&args, context),
        StateCommand::Snapshots(args) => snapshots::run(&args, context),
        StateCommand::Verify(args) => verify::run(&args, context),
        StateCommand::Diff(args) => diff::run(&args, context),
        StateCommand::Restore(args) => restore::run(&args, context),
        StateCommand::Rollback(args) => rollback::run(&args, context),
        StateCommand::Watch(args) => watch::run(&args, context),
    }
}
