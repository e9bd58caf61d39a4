//! `maestro workspace clean`: removes what an agent, or the tasks of a type, have left on disk.

use clap::Args;
use maestro_model::assignment::Assignment;
use maestro_model::mailbox::{SafetyCopy, UncleanTrees, WorkerAnswer, WorkerQuestion};
use maestro_store::Store;
use maestro_store::assignments::HoldOrder;
use maestro_store::worker::AttachedProcess;
use serde::Serialize;

use super::entry::WorkspaceEntry;
use crate::agents::{AgentOverview, FoundAgent};
use crate::cluster::open_store;
use crate::commands::agent::{end_agent, release};
use crate::commands::{CommandContext, Outcome};
use crate::consent::Consent;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::letters::{WORK_WITHIN, ask_worker, find_worker, live_workers, misunderstood, no_worker};
use crate::output::shape::{Column, Field, Shape};

/// Portions asked for of one worker: each is at most some thousands of folders.
const PORTIONS_MAX: usize = 1_000;

/// Flags of `workspace clean`.
#[derive(Debug, Args)]
#[command(
    after_help = "Of an agent: ends what it does, removes the folders of its ended tasks and empties its own folder, \
                  after asking; there is no safety copy, `maestro agent reset` makes one. Of a type: removes the folders \
                  of tasks whose run has ended. Git trees with uncommitted work are kept and named, unless `--force`.\n\n\
                  Example:\n  maestro workspace clean shell --dry-run"
)]
pub(crate) struct WorkspaceCleanArgs {
    /// The agent or agent type
    agent: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Remove git trees with uncommitted work as well
    #[arg(long)]
    force: bool,
}

/// What became of one folder.
#[derive(Debug, Serialize)]
struct CleanedEntry {
    /// `removed`, `emptied`, `kept`, or with `--dry-run` `would be removed`, `would be emptied`.
    change: &'static str,
    path: String,
    worker: String,
    /// Why it was kept.
    reason: Option<String>,
}

const SHAPE: Shape<CleanedEntry> = Shape {
    columns: &[
        Column::new("CHANGE", |one| one.change.into()),
        Column::new("WORKER", |one| one.worker.clone().into()),
        Column::new("PATH", |one| one.path.clone().into()),
        Column::new("WHY", |one| Field::or_none(one.reason.clone())),
    ],
    name: |one| one.path.clone(),
    none: "nothing to remove",
};

/// Asks for an assigned folder, stops its agent, cleans, and lets it go on.
pub(crate) fn run(args: &WorkspaceCleanArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let overview = AgentOverview::read(&store).await?;
        let mut entries = Vec::new();
        match overview.find(&args.agent)? {
            FoundAgent::Assigned(agent) => clean_agent(&store, agent, args, context, &mut entries).await?,
            FoundAgent::Type(agent) => {
                let workers = live_workers(&store).await?;
                if workers.is_empty() {
                    return Err(no_worker());
                }
                for worker in &workers {
                    clean_tasks(&store, worker, agent.slug.as_str(), args, &mut entries).await?;
                }
                // Workers of one host see the same folders; each is removed once, and kept once.
                let mut seen = std::collections::BTreeSet::new();
                entries.retain(|entry| seen.insert((entry.change, entry.path.clone())));
            }
        }
        if args.dry_run {
            context.printer.note("nothing was done: this is what a cleaning would do");
        }
        context.printer.list(&entries, &SHAPE)?;
        Ok(Exit::Done)
    })
}

async fn clean_agent(
    store: &Store,
    agent: &Assignment,
    args: &WorkspaceCleanArgs,
    context: &CommandContext,
    entries: &mut Vec<CleanedEntry>,
) -> Result<(), Failure> {
    let worker = find_worker(store, agent.worker.as_str()).await?;
    if args.dry_run {
        clean_tasks(store, &worker, agent.id.as_str(), args, entries).await?;
        entries.push(empty_folder(store, &worker, agent, args).await?);
        return Ok(());
    }
    let (id, path) = (&agent.id, &agent.path);
    let what = format!(
        "this removes all that is in `{path}` on worker `{}`, without a copy, and ends what agent `{id}` does",
        worker.name
    );
    Consent::of_flag(args.yes).require(&what, context)?;
    let order = HoldOrder { kill: false, then_restart: false };
    let ended = end_agent(store, agent, order, context).await?;
    let cleaned = async {
        clean_tasks(store, &worker, agent.id.as_str(), args, entries).await?;
        entries.push(empty_folder(store, &worker, agent, args).await?);
        Ok(())
    };
    let cleaned: Result<(), Failure> = cleaned.await;
    // Also after a failure: the agent is as it was before.
    if !ended.was_held {
        release(store, agent, context).await?;
    }
    cleaned
}

async fn empty_folder(
    store: &Store,
    worker: &AttachedProcess,
    agent: &Assignment,
    args: &WorkspaceCleanArgs,
) -> Result<CleanedEntry, Failure> {
    let question = WorkerQuestion::ResetFolder {
        agent: agent.id.clone(),
        path: agent.path.clone(),
        template: None,
        copy: SafetyCopy::None,
        unclean: unclean(args),
        rehearsal: args.dry_run,
    };
    let answer = ask_worker(store, worker, &question, WORK_WITHIN).await?;
    let WorkerAnswer::Emptied { kept, removed, .. } = answer else { return Err(misunderstood(worker)) };
    let trees: Vec<String> = kept.iter().map(|tree| format!("`{tree}`")).collect();
    let reason = (!kept.is_empty()).then(|| {
        format!("git trees with uncommitted work stay: {} (`--force` removes them)", trees.join(", "))
    });
    let change = match (removed, kept.is_empty()) {
        (0, false) => "kept",
        _ if args.dry_run => "would be emptied",
        _ => "emptied",
    };
    Ok(CleanedEntry { change, path: agent.path.clone(), worker: worker.name.clone(), reason })
}

async fn clean_tasks(
    store: &Store,
    worker: &AttachedProcess,
    of: &str,
    args: &WorkspaceCleanArgs,
    entries: &mut Vec<CleanedEntry>,
) -> Result<(), Failure> {
    for _ in 0..PORTIONS_MAX {
        let question = WorkerQuestion::CleanWorkspaces {
            of: of.to_owned(),
            unclean: unclean(args),
            rehearsal: args.dry_run,
        };
        let answer = ask_worker(store, worker, &question, WORK_WITHIN).await?;
        let WorkerAnswer::Cleaned { removed, kept, more } = answer else { return Err(misunderstood(worker)) };
        let progress = !removed.is_empty();
        let change = if args.dry_run { "would be removed" } else { "removed" };
        let entry = |change, facts| {
            let WorkspaceEntry { path, worker, note, .. } = WorkspaceEntry::of(facts, worker);
            CleanedEntry { change, path, worker, reason: note }
        };
        entries.extend(removed.into_iter().map(|facts| entry(change, facts)));
        let is_last = !more || !progress || args.dry_run;
        if is_last {
            entries.extend(kept.into_iter().map(|facts| entry("kept", facts)));
            return Ok(());
        }
    }
    Ok(())
}

fn unclean(args: &WorkspaceCleanArgs) -> UncleanTrees {
    if args.force { UncleanTrees::Remove } else { UncleanTrees::Keep }
}
