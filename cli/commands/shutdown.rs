//! `maestro shutdown`: stops intake and ends every agent; with `--workers` every process of the cluster as well.
//!
//! It never asks: nothing is lost by it. What ran is queued again and waits until the cluster goes on. The agents come
//! first and the safety copy after them: whoever shuts down wants an end to what they do.

mod agents;
mod processes;

use std::time::Duration;

use clap::Args;
use maestro_model::duration::parse_duration;
use maestro_model::mailbox::{WorkerAnswer, WorkerQuestion};
use maestro_store::Store;
use maestro_store::mode::ModeAnswer;
use maestro_store::worker::ProcessRole;
use serde::Serialize;

use self::agents::{EndedAgents, end_agents};
use self::processes::end_processes;
use super::state::take_safety_copy;
use super::{CommandContext, Outcome};
use crate::agents::who_asks;
use crate::cluster::open_store;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::letters::{WORK_WITHIN, ask_worker, live_workers, misunderstood};
use crate::output::shape::{Column, Field, Shape};

/// Threads of the command: the freeze of the safety copy is renewed while the disk is waited for.
const THREADS: usize = 2;

/// Flags of `shutdown`.
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing is claimed and nothing is submitted until `maestro queue resume` or `maestro state restore`, \
                  also after processes were started again. Agents get SIGTERM, and SIGKILL after the grace period; \
                  their tasks go back to their queues, no attempt counted. Workers, coordinators and redis stay, \
                  unless `--workers`.\n\n\
                  Example:\n  maestro shutdown --grace-period 10"
)]
pub(crate) struct ShutdownArgs {
    /// From SIGTERM to SIGKILL (default: MAESTRO_GRACE_PERIOD)
    #[arg(long, value_name = "TIME")]
    grace_period: Option<String>,
    /// Leave workspaces of finished tasks that are older than the retention time
    #[arg(long)]
    keep: bool,
    /// End workers and coordinators as well, and a private redis with them
    #[arg(long)]
    workers: bool,
    /// Do not take a snapshot of what is there now
    #[arg(long)]
    no_safety_copy: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
struct ShutdownRecord {
    /// `stopped`.
    mode: &'static str,
    /// Whether it was not so before.
    changed: bool,
    /// Tasks whose agents were ended; they are queued again.
    given_back: Vec<String>,
    /// Workers that held tasks and went silent.
    silent_workers: Vec<String>,
    workspaces_removed: u64,
    /// Workspaces that were due, and stay for a git tree with uncommitted work.
    workspaces_kept: u64,
    /// Workers and coordinators that have gone.
    ended: Vec<String>,
    safety_copy: Option<String>,
}

const SHAPE: Shape<ShutdownRecord> = Shape {
    columns: &[
        Column::new("MODE", |one| one.mode.into()),
        Column::new("GIVEN BACK", |one| listed(&one.given_back)),
        Column::new("SILENT WORKERS", |one| listed(&one.silent_workers)),
        Column::new("WORKSPACES REMOVED", |one| Field::number(one.workspaces_removed)),
        Column::new("WORKSPACES KEPT", |one| Field::number(one.workspaces_kept)),
        Column::new("ENDED", |one| listed(&one.ended)),
        Column::new("SAFETY COPY", |one| Field::or_none(one.safety_copy.clone())),
    ],
    name: |one| one.mode.to_owned(),
    none: "nothing",
};

fn listed(names: &[String]) -> Field {
    Field::or_none((!names.is_empty()).then(|| names.join(", ")))
}

/// Shuts down. Given again it finishes what is left.
pub(crate) fn run(args: &ShutdownArgs, context: &CommandContext) -> Outcome {
    let grace = args.grace_period.as_deref().map(parse_duration).transpose().map_err(|error| {
        Failure::usage(format!("cannot use the value of `--grace-period`: {error}")).hint(error.hint())
    })?;
    context.block_on(THREADS, shut_down(args, grace, context))
}

async fn shut_down(args: &ShutdownArgs, grace: Option<Duration>, context: &CommandContext) -> Outcome {
    let settings = context.settings()?;
    let store = open_store(&settings).await?;
    let by = who_asks(&context.surroundings()?);
    let changed = store.stop_intake("", &by).await? == ModeAnswer::Changed;
    let grace = grace.unwrap_or_else(|| settings.grace_period());
    let EndedAgents { tasks, silent } = end_agents(&store, grace, settings.lease(), context).await?;
    let safety_copy = if args.no_safety_copy {
        None
    } else {
        match take_safety_copy(&store, &settings, "shutdown", &by, context).await {
            Ok(path) => Some(path),
            Err(error) => {
                context.printer.warn(&format!("there is no safety copy of what is there now: {error}"));
                None
            }
        }
    };
    let (workspaces_removed, workspaces_kept) =
        if args.keep { (0, 0) } else { remove_old_workspaces(&store, context).await? };
    let mut ended = Vec::new();
    if args.workers {
        // Workers first: what they still have to say is swept by whoever is there.
        for role in [ProcessRole::Worker, ProcessRole::Coordinator] {
            ended.extend(end_processes(&store, role, context).await?);
        }
    }
    for worker in &silent {
        context.printer.warn(&format!(
            "worker `{worker}` went silent: its agents end by themselves, and its tasks go back when its lease is over"
        ));
    }
    let record = ShutdownRecord {
        mode: "stopped",
        changed,
        given_back: tasks.iter().map(ToString::to_string).collect(),
        silent_workers: silent,
        workspaces_removed,
        workspaces_kept,
        ended,
        safety_copy,
    };
    context.printer.record(&record, &SHAPE)?;
    if !args.workers {
        context
            .printer
            .note("`maestro queue resume` lets the cluster go on, and so does `maestro state restore`");
    }
    Ok(if record.silent_workers.is_empty() { Exit::Done } else { Exit::WorkFailed })
}

/// How many went, and how many stay for unclean git trees. Workers of one host share a root; each sees what the one
/// before it has left.
async fn remove_old_workspaces(store: &Store, context: &CommandContext) -> Result<(u64, u64), Failure> {
    let (mut all, mut most_kept) = (0, 0);
    for worker in live_workers(store).await? {
        match ask_worker(store, &worker, &WorkerQuestion::RemoveOldWorkspaces, WORK_WITHIN).await {
            Ok(WorkerAnswer::RemovedOld { removed, kept }) => {
                all += removed;
                most_kept = most_kept.max(kept);
            }
            Ok(_) => return Err(misunderstood(&worker)),
            // The agents have ended, and that is what was asked for; these folders go by themselves later.
            Err(failure) => {
                context.printer.warn(&format!(
                    "old workspaces on `{}` stay for now: {}",
                    worker.name,
                    failure.one_line()
                ));
            }
        }
    }
    Ok((all, most_kept))
}
