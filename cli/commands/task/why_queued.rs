//! Why a ready task has not started: gates, limits, and workers that are not there or full.

use maestro_model::plan::SharedSpec;
use maestro_store::Store;
use maestro_store::inspect::QueuePlace;
use maestro_store::runs::{RunRecord, TaskView};
use maestro_store::step::CellMode;
use maestro_store::worker::{AttachedProcess, ProcessRole};

use super::why::Because;
use super::why_agent::for_agent;
use crate::commands::queue::{pause_hint, pause_note};
use crate::failure::Failure;
use crate::ids::id_list;

/// Workers that are listed one by one.
const WORKERS_SHOWN_MAX: usize = 10;
/// The queue of steps that coordinators carry out.
const EXPAND_QUEUE: &str = "c:expand";
/// Where a task stands while its run is at its limit.
const HELD: &str = "held";

/// Finds out why it has not started.
///
/// # Errors
/// What the store says.
pub(crate) async fn queued(
    store: &Store,
    run: &RunRecord,
    task: &TaskView,
    shared: &SharedSpec,
) -> Result<Because, Failure> {
    let mode = store.mode().await?;
    if mode.mode != CellMode::Run {
        return Ok(
            Because::of(format!("{}: nothing new is started", pause_note(&mode))).hint(pause_hint(&mode))
        );
    }
    let place = task.record.as_ref().and_then(|record| record.place.as_deref());
    if place == Some(HELD) {
        return Ok(Because::of(format!(
            "its run is at its limit: `concurrency: {}`, and {} of its tasks run or stand in queues",
            run.concurrency, run.inflight
        ))
        .hint(format!("`maestro workflow status {}` shows which", run.id)));
    }
    let processes = store.processes().await?;
    let queue = place.unwrap_or(shared.queue.as_str());
    let because = if queue == EXPAND_QUEUE || (place.is_none() && task.kind == 'x') {
        expansion(&processes)
    } else if let Some(name) = queue.strip_prefix("w:") {
        bound(name, &processes)
    } else if let Some(id) = queue.strip_prefix("i:") {
        for_agent(store, id, shared, &processes).await?
    } else {
        for_types(store, queue, &processes).await?
    };
    let Some(record) = &task.record else {
        return Ok(because.detail(
            "it stands behind the first tasks of its run, which are put into the queue a few at a time",
        ));
    };
    Ok(match store.queue_place(&task.id, record).await? {
        Some(QueuePlace { before, depth }) => {
            because.detail(format!("it stands at place {} of {depth} in its queue", before + 1))
        }
        None => because.detail("it has left its queue a moment ago"),
    })
}

fn expansion(processes: &[AttachedProcess]) -> Because {
    let there = processes.iter().any(|one| one.alive && one.about.role == ProcessRole::Coordinator);
    if there {
        return Because::of("a coordinator is about to make its items");
    }
    Because::of("no coordinator is alive to make its items")
        .hint("start one with `maestro coordinator start`")
}

/// A run with `workspace: run` stays on one worker.
fn bound(name: &str, processes: &[AttachedProcess]) -> Because {
    match processes.iter().find(|one| one.name == name && one.alive) {
        None => Because::of(format!("its run is bound to worker `{name}`, which is not there"))
            .hint(format!("start that worker again with `maestro worker start --name {name}`")),
        Some(worker) if is_full(worker) => {
            Because::of(format!("its run is bound to worker `{name}`, which is full"))
                .detail(worker_line(worker))
        }
        Some(worker) => {
            Because::of(format!("worker `{name}` is about to take it")).detail(worker_line(worker))
        }
    }
}

async fn for_types(store: &Store, queue: &str, processes: &[AttachedProcess]) -> Result<Because, Failure> {
    let types: Vec<&str> = queue.split_once(':').map_or(queue, |(_, types)| types).split('+').collect();
    let shown = types.iter().map(|slug| format!("`{slug}`")).collect::<Vec<_>>().join(" and ");
    let workers: Vec<&AttachedProcess> =
        processes.iter().filter(|one| one.alive && one.about.role == ProcessRole::Worker).collect();
    if workers.is_empty() {
        return Ok(Because::of("no worker is alive")
            .hint("start one with `maestro worker start`, or a whole cluster with `maestro up`"));
    }
    let serves =
        |worker: &&AttachedProcess| types.iter().all(|slug| worker.types.iter().any(|one| one == slug));
    let serving: Vec<&AttachedProcess> = workers.iter().copied().filter(serves).collect();
    if serving.is_empty() {
        return Ok(listed(Because::of(format!("no worker serves {shown}")), &workers)
            .hint("`maestro doctor`, on a worker's host, says what that host lacks for which type"));
    }
    let taking: Vec<&AttachedProcess> =
        serving.iter().copied().filter(|worker| !worker.status.draining).collect();
    if taking.is_empty() {
        return Ok(listed(Because::of(format!("every worker that serves {shown} is draining")), &serving)
            .hint("start another one with `maestro worker start`"));
    }
    let limits = store.type_limits().await?;
    for slug in &types {
        let Some(limit) = limits.get(*slug) else { continue };
        let holders = store.slots_taken(slug).await?;
        if holders.len() >= *limit as usize {
            return Ok(Because::of(format!(
                "`{slug}` is at its limit: {} of {limit} at a time across the cluster",
                holders.len()
            ))
            .detail(format!("held by {}", id_list(&holders))));
        }
    }
    if taking.iter().all(|worker| is_full(worker)) {
        let full = match taking.len() {
            1 => format!("the one worker that serves {shown} is full"),
            count => format!("all {count} workers that serve {shown} are full"),
        };
        return Ok(listed(Because::of(full), &taking)
            .hint("start another worker, or one with a higher `--concurrency`"));
    }
    let free: Vec<&AttachedProcess> = taking.into_iter().filter(|worker| !is_full(worker)).collect();
    Ok(listed(Because::of("it is about to start: a worker has room"), &free))
}

pub(super) fn is_full(worker: &AttachedProcess) -> bool {
    worker.holds.max(worker.status.running) >= worker.about.slots
}

fn listed(mut because: Because, workers: &[&AttachedProcess]) -> Because {
    for worker in workers.iter().take(WORKERS_SHOWN_MAX) {
        because = because.detail(worker_line(worker));
    }
    match workers.len().saturating_sub(WORKERS_SHOWN_MAX) {
        0 => because,
        more => because.detail(format!("and {more} more workers")),
    }
}

/// `worker a on host1: 4 of 4 slots, serves noop, shell`.
pub(super) fn worker_line(worker: &AttachedProcess) -> String {
    let trouble = worker.status.trouble.as_ref().map(|trouble| format!("; {trouble}")).unwrap_or_default();
    let draining = if worker.status.draining { "; draining" } else { "" };
    let types = if worker.types.is_empty() { "nothing".to_owned() } else { worker.types.join(", ") };
    format!(
        "worker `{}` on {}: {} of {} slots taken, serves {types}{draining}{trouble}",
        worker.name,
        worker.about.host,
        worker.holds.max(worker.status.running),
        worker.about.slots,
    )
}
