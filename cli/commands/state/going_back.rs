//! What `state restore` and `state rollback` share: asking, the safety copy, carrying it out, and telling how it went.

use std::path::{Path, PathBuf};

use maestro_coordinator::archive::VerifiedArchive;
use maestro_coordinator::restoring::{
    RestoreError, RestorePlan, RestoreProgress, RestoreReport, RestoreRequest, RestoreStep, plan_restore,
    restore,
};
use maestro_store::Store;
use maestro_store::restoring::LoadRefusal;
use serde::Serialize;
use tokio::sync::watch;

use super::archive::archive_failure;
use super::safety_copy::take_safety_copy;
use super::snapshot_progress::ShownProgress;
use crate::agents::who_asks;
use crate::commands::task::entry::counted;
use crate::commands::{CommandContext, Outcome};
use crate::config::settings::Settings;
use crate::consent::Consent;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::shape::{Column, Field, Shape};

/// Threads of such a command: the freeze is renewed while the disk is waited for.
pub(super) const THREADS: usize = 2;

/// How a cluster is to go back.
#[derive(Debug)]
pub(super) struct GoingBack {
    /// The archive, as it is named to people.
    pub(super) file: PathBuf,
    /// What it is called in the name of the safety copy.
    pub(super) cause: &'static str,
    pub(super) skip_failed: bool,
    pub(super) consent: Consent,
    pub(super) stop_agents: bool,
    pub(super) trust_archive: bool,
    pub(super) no_safety_copy: bool,
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

/// Works out what it means, asks, copies what is there, goes back, and says how it went.
///
/// # Errors
/// 65, 75 or 77 if nothing was done; 1 if something is left to be done.
pub(super) async fn go_back(
    store: &Store,
    settings: &Settings,
    archive: &VerifiedArchive,
    wish: GoingBack,
    context: &CommandContext,
) -> Outcome {
    let failed = |error: &RestoreError| restore_failure(&wish.file, error);
    let plan = plan_restore(store, archive).await.map_err(|error| failed(&error))?;
    ask(wish.consent, archive, &plan, context)?;
    let by = who_asks(&context.surroundings()?);
    let safety_copy = copy_first(&wish, settings, store, &by, context).await?;
    let request = RestoreRequest {
        by,
        stop_agents: wish.stop_agents,
        skip_failed: wish.skip_failed,
        trust_archive: wish.trust_archive,
    };
    let progress = watch::Sender::new(RestoreProgress::default());
    let shown = show_restore(&progress, context)?;
    let report = restore(store, archive, &request, &progress).await;
    shown.end().await;
    let report = report.map_err(|error| failed(&error))?;
    let record = record_of(&wish.file, report, safety_copy);
    for failed in &record.failed_workspaces {
        context.printer.warn(failed);
    }
    let exit = if record.failed_workspaces.is_empty() { Exit::Done } else { Exit::WorkFailed };
    context.printer.record(&record, &SHAPE)?;
    Ok(exit)
}

/// With no agent active nothing is lost that a safety copy does not have: nobody is asked without a terminal.
fn ask(
    consent: Consent,
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
    consent.require(&what, context)
}

/// A snapshot of what is there now. Should it fail, somebody has to say that it may be done without.
async fn copy_first(
    wish: &GoingBack,
    settings: &Settings,
    store: &Store,
    by: &str,
    context: &CommandContext,
) -> Result<Option<String>, Failure> {
    // What an interrupted restore has left is no state to come back to.
    let journal = store.restore_journal().await?;
    let is_interrupted = journal.is_some_and(|journal| journal.stage.is_unfinished());
    if wish.no_safety_copy || is_interrupted {
        return Ok(None);
    }
    match take_safety_copy(store, settings, wish.cause, by, context).await {
        Ok(path) => Ok(Some(path)),
        Err(error) => {
            let what = format!("there is no safety copy of what is there now ({error})");
            wish.consent.require(&what, context).map_err(|failure| {
                failure.hint("say `--yes`, or `--no-safety-copy`, to restore without one")
            })?;
            Ok(None)
        }
    }
}

fn record_of(file: &Path, report: RestoreReport, safety_copy: Option<String>) -> RestoredRecord {
    let failed =
        report.misplaced.into_iter().map(|(workspace, why)| format!("workspace `{workspace}`: {why}"));
    RestoredRecord {
        file: file.display().to_string(),
        restored: true,
        finished_earlier: report.was_finished,
        epoch: report.epoch,
        queued_again: report.queued_again,
        workspaces: report.placed,
        failed_workspaces: failed.collect(),
        safety_copy,
    }
}

/// Draws it, and with `--verbose` says each step.
fn show_restore(
    progress: &watch::Sender<RestoreProgress>,
    context: &CommandContext,
) -> Result<ShownProgress, Failure> {
    let (mut line, printer, mut said) = (context.progress()?, context.printer.clone(), None);
    Ok(ShownProgress::of(progress, move |now: RestoreProgress| {
        let Some(step) = now.step else { return };
        if said.replace(step) != Some(step) {
            printer.detail(sentence_of(step));
        }
        line.show(part_of(step), now.bytes, now.total);
    }))
}

fn part_of(step: RestoreStep) -> &'static str {
    match step {
        RestoreStep::FinishingAnother | RestoreStep::Placing => "placing workspaces",
        RestoreStep::Freezing => "holding the cluster",
        RestoreStep::Loading => "loading keys",
        RestoreStep::Staging => "sending workspaces",
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
