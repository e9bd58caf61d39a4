//! `maestro state`: the verbs, one file each.
//!
//! `archive` opens a snapshot; `plan_entry` is what a restore would do; `entry` is a shared value as users see it;
//! `pattern` is which keys are meant; `road` is the way to them, which inside a task leads to the worker and not to
//! Redis.

mod archive;
mod delete;
mod diff;
mod entry;
mod get;
mod list;
mod pattern;
mod plan_entry;
mod restore;
mod road;
mod set;
mod snapshot;
mod snapshots;
mod verify;
mod watch;

use clap::Subcommand;

use super::{CommandContext, Outcome};

pub(crate) use archive::open_verified;

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
        StateCommand::Watch(args) => watch::run(&args, context),
    }
}
