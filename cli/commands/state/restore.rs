//! `maestro state restore`: brings the cluster back to what a snapshot shows, all or nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use maestro_coordinator::archive::VerifiedArchive;
use maestro_coordinator::restoring::{
    RestoreError, RestorePlan, RestoreReport, RestoreRequest, RestoreStep, plan_restore, restore,
};
use maestro_coordinator::snapshot::{SnapshotFolder, SnapshotProgress, SnapshotRequest, take_snapshot};
use maestro_store::Store;
use maestro_store::restoring::LoadRefusal;
use serde::Serialize;
use tokio::sync::watch;

use super::archive::{archive_failure, open_verified};
use super::plan_entry::{PLAN_ROWS, entries_of};
use super::snapshot::stamp;
use crate::agents::who_asks;
use crate::cluster::open_store;
use crate::commands::task::entry::counted;
use crate::commands::{CommandContext, Outcome};
use crate::config::settings::Settings;
use crate::consent::Consent;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::moment::now_ms;
use crate::output::shape::{Column, Field, Shape};

/// Threads of the command: the freeze is renewed while the disk is waited for.
const THREADS: usize = 2;
/// How long the safety copy may hold the cluster still.
const COPY_DEADLINE: Duration = Duration::from_secs(600);

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

#[derive(Debug, Serialize)]
struct RestoredRecord {
    file: String,
    restored: bool,
    /// Whether only what an interrupted restore had left was done.
    finished_earlier: bool,
    epoch: String,
    /// Tasks that are queued again.
    queued_again: u64,
    /// Workspaces in their places.
    workspaces: usize,
    /// Those that are not, each with the reason.
    failed_workspaces: Vec<String>,
    safety_copy: Option<String>,
}

const SHAPE: Shape<RestoredRecord> = Shape {
    columns: &[
        Column::new("RESTORED", |one| one.file.clone().into()),
        Column::new("EPOCH", |one| one.epoch.clone().into()),
        Column::new("QUEUED AGAIN", |one| Field::number(one.queued_again)),
        Column::new("WORKSPACES", |one| Field::number(one.workspaces)),
        Column::new("NOT PLACED", |one| {
            Field::or_none((!one.failed_workspaces.is_empty()).then(|| one.failed_workspaces.join(", ")))
        }),
        Column::new("SAFETY COPY", |one| Field::or_none(one.safety_copy.clone())),
    ],
    name: |one| one.file.clone(),
    none: "nothing",
};

/// Restores it.
pub(crate) fn run(args: &StateRestoreArgs, context: &CommandContext) -> Outcome {
    let archive = open_verified(&args.file)?;
    context.block_on(THREADS, async {
        let settings = context.settings()?;
        let store = open_store(&settings).await?;
        let failed = |error: &RestoreError| restore_failure(&args.file, error);
        let plan = plan_restore(&store, &archive).await.map_err(|error| failed(&error))?;
        if args.dry_run {
            context.printer.note("nothing was done: this is what a restore would do");
            context.printer.list(&entries_of(&plan), &PLAN_ROWS)?;
            return Ok(Exit::Done);
        }
        ask(args, &archive, &plan, context)?;
        let by = who_asks(&context.surroundings()?);
        let safety_copy = copy_first(args, &settings, &store, &by, context).await?;
        let request = RestoreRequest {
            by,
            stop_agents: args.stop_agents,
            skip_failed: args.skip_failed,
            trust_archive: args.trust_archive,
        };
        let mut on_step = |step| context.printer.detail(sentence_of(step));
        let report =
            restore(&store, &archive, &request, &mut on_step).await.map_err(|error| failed(&error))?;
        let record = record_of(args, report, safety_copy);
        for failed in &record.failed_workspaces {
            context.printer.warn(failed);
        }
        let exit = if record.failed_workspaces.is_empty() { Exit::Done } else { Exit::WorkFailed };
        context.printer.record(&record, &SHAPE)?;
        Ok(exit)
    })
}

/// With no agent active nothing is lost that a safety copy does not have: nobody is asked without a terminal.
fn ask(
    args: &StateRestoreArgs,
    archive: &VerifiedArchive,
    plan: &RestorePlan,
    context: &CommandContext,
) -> Result<(), Failure> {
    use std::io::IsTerminal;
    if plan.active.is_empty() && !std::io::stdin().is_terminal() {
        return Ok(());
    }
    let what = format!(
        "the cluster goes back to {}: {} added, {} changed, {} removed, {} replaced, {} of agents that work now given up",
        crate::output::moment::rfc3339(archive.manifest.taken_at_ms),
        counted(plan.added.len() as u32, "key"),
        plan.changed.len(),
        plan.removed.len(),
        counted(plan.folders.len() as u32, "workspace"),
        counted(plan.active.len() as u32, "task"),
    );
    Consent::of_flag(args.yes).require(&what, context)
}

/// A snapshot of what is there now. Should it fail, somebody has to say that it may be done without.
async fn copy_first(
    args: &StateRestoreArgs,
    settings: &Settings,
    store: &Store,
    by: &str,
    context: &CommandContext,
) -> Result<Option<String>, Failure> {
    // What an interrupted restore has left is no state to come back to.
    let journal = store.restore_journal().await?;
    let is_interrupted = journal.is_some_and(|journal| journal.stage.is_unfinished());
    if args.no_safety_copy || is_interrupted {
        return Ok(None);
    }
    let copied = async {
        let folder = SnapshotFolder::open(&settings.snapshot_dir())?;
        let request = SnapshotRequest {
            output: folder.safety_copy("restore", &stamp(now_ms()))?,
            label: Some("before a restore".to_owned()),
            include_logs: false,
            by: by.to_owned(),
            deadline: COPY_DEADLINE,
            failed_agents: Vec::new(),
        };
        take_snapshot(store, &request, &watch::Sender::new(SnapshotProgress::default())).await
    };
    match copied.await {
        Ok(taken) => Ok(Some(taken.path.display().to_string())),
        Err(error) => {
            let what = format!("there is no safety copy of what is there now ({error})");
            Consent::of_flag(args.yes).require(&what, context).map_err(|failure| {
                failure.hint("say `--yes`, or `--no-safety-copy`, to restore without one")
            })?;
            Ok(None)
        }
    }
}

fn record_of(args: &StateRestoreArgs, report: RestoreReport, safety_copy: Option<String>) -> RestoredRecord {
    let failed =
        report.misplaced.into_iter().map(|(workspace, why)| format!("workspace `{workspace}`: {why}"));
    RestoredRecord {
        file: args.file.display().to_string(),
        restored: true,
        finished_earlier: report.was_finished,
        epoch: report.epoch,
        queued_again: report.queued_again,
        workspaces: report.placed,
        failed_workspaces: failed.collect(),
        safety_copy,
    }
}

fn sentence_of(step: RestoreStep) -> &'static str {
    match step {
        RestoreStep::FinishingAnother => "finishing a restore that was interrupted",
        RestoreStep::Freezing => "holding the cluster still",
        RestoreStep::Loading => "loading keys beside those in force",
        RestoreStep::Staging => "sending workspaces to their workers",
        RestoreStep::Placing => "the snapshot is in force; workspaces go into their places",
    }
}

/// What a command says of a restore that did not take place, or is not over.
pub(super) fn restore_failure(path: &Path, error: &RestoreError) -> Failure {
    const UNTOUCHED: &str = "nothing was restored; the cluster is as it was";
    match error {
        RestoreError::Archive(error) => archive_failure(path, error),
        RestoreError::Active { .. } => {
            Failure::refused(UNTOUCHED).cause(error).hint("end them with `--stop-agents`")
        }
        RestoreError::Unplaced { folders } => {
            let failure = Failure::refused(UNTOUCHED).cause(error);
            let failure =
                folders.iter().filter_map(|folder| folder.obstacle.as_ref()).fold(failure, Failure::cause);
            failure.hint("start those workers again, or go on without these folders with `--skip-failed`")
        }
        RestoreError::LinksOut { .. } => Failure::refused(UNTOUCHED)
            .cause(error)
            .hint("`maestro state verify` names them; `--trust-archive` takes them as they are"),
        RestoreError::Load(LoadRefusal::ChecksRefused { .. }) => Failure::refused(UNTOUCHED)
            .caused_by(error)
            .hint("`--trust-archive` goes on without these checks"),
        RestoreError::Load(_) => Failure::refused(UNTOUCHED).caused_by(error),
        RestoreError::AnotherOne { .. } => {
            Failure::new(Exit::NothingToRunIt, UNTOUCHED).cause(error).hint("wait for it, and look again")
        }
        RestoreError::Unfinished { .. } => Failure::new(Exit::WorkFailed, error.to_string())
            .hint("run the same command again: it finishes what is left"),
        RestoreError::Store(_) | RestoreError::Hold(_) | RestoreError::BrokeDown { .. } => {
            Failure::new(Exit::NothingToRunIt, UNTOUCHED).caused_by(error)
        }
    }
}
