//! `maestro state diff`: what has changed in the cluster since a snapshot was taken.

use std::path::PathBuf;

use clap::Args;
use maestro_coordinator::restoring::plan_restore;

use super::archive::open_verified;
use super::going_back::restore_failure;
use super::plan_entry::{PLAN_ROWS, PlanEntry, subject_of};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;

/// Flags of `state diff`.
#[derive(Debug, Args)]
#[command(
    after_help = "Of shared state, runs, workflows, agents and logs; what is in workspaces is not compared. \
                  `maestro state restore FILE --dry-run` says what going back would mean.\n\n\
                  Example:\n  maestro state diff before-upgrade.tar.gz"
)]
pub(crate) struct StateDiffArgs {
    /// The snapshot
    file: PathBuf,
}

/// Compares.
pub(crate) fn run(args: &StateDiffArgs, context: &CommandContext) -> Outcome {
    let archive = open_verified(&args.file, context)?;
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let plan = plan_restore(&store, &archive).await;
        let plan = plan.map_err(|error| restore_failure(&args.file, &error))?;
        // What a restore would add has been removed since.
        let lists = [("added", &plan.removed), ("changed", &plan.changed), ("removed", &plan.added)];
        let mut entries: Vec<PlanEntry> = Vec::new();
        for (change, keys) in lists {
            for key in keys {
                let (what, name) = subject_of(key);
                let entry = PlanEntry { change, what, name, note: None };
                if entries.last() != Some(&entry) {
                    entries.push(entry);
                }
            }
        }
        context.printer.list(&entries, &PLAN_ROWS)?;
        Ok(Exit::Done)
    })
}
