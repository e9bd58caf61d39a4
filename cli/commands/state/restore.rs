//! `maestro state restore`: brings the cluster back to what a snapshot shows, all or nothing.

use std::path::PathBuf;

use clap::Args;
use maestro_coordinator::restoring::plan_restore;

use super::archive::open_verified;
use super::going_back::{GoingBack, THREADS, go_back, restore_failure};
use super::plan_entry::{PLAN_ROWS, entries_of};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::consent::Consent;
use crate::exit::Exit;

/// Flags of `state restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every byte is verified first. Until the one moment of the change any failure leaves the cluster as it \
                  was; after it, running the same command again finishes what is left. Tasks that ran when the \
                  snapshot was taken are queued again. While agents are active it is refused (77), unless \
                  `--stop-agents`.\n\n\
                  Example:\n  maestro state restore before-upgrade.tar.gz --dry-run"
)]
pub(crate) struct StateRestoreArgs {
    /// The snapshot
    file: PathBuf,
    /// Go on past workspaces that cannot be placed, and list them
    #[arg(long)]
    skip_failed: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// End agents that are active
    #[arg(long)]
    stop_agents: bool,
    /// Take values that redis cannot be made to check, and links that lead out of their workspaces
    #[arg(long)]
    trust_archive: bool,
    /// Do not take a snapshot of what is there now
    #[arg(long)]
    no_safety_copy: bool,
}

/// Restores it.
pub(crate) fn run(args: &StateRestoreArgs, context: &CommandContext) -> Outcome {
    let archive = open_verified(&args.file, context)?;
    context.block_on(THREADS, async {
        let settings = context.settings()?;
        let store = open_store(&settings).await?;
        if args.dry_run {
            let plan = plan_restore(&store, &archive).await;
            let plan = plan.map_err(|error| restore_failure(&args.file, &error))?;
            context.printer.note("nothing was done: this is what a restore would do");
            context.printer.list(&entries_of(&plan), &PLAN_ROWS)?;
            return Ok(Exit::Done);
        }
        let wish = GoingBack {
            file: args.file.clone(),
            cause: "restore",
            skip_failed: args.skip_failed,
            consent: Consent::of_flag(args.yes),
            stop_agents: args.stop_agents,
            trust_archive: args.trust_archive,
            no_safety_copy: args.no_safety_copy,
        };
        go_back(&store, &settings, &archive, wish, context).await
    })
}
