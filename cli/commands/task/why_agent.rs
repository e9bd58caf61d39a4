//! Why a ready task for an assigned agent has not started: the agent is stopped, at work, or its worker
//! is gone, draining, full or unable to launch it.

use maestro_model::assignment::Assignment;
use maestro_model::ids::AgentId;
use maestro_model::plan::SharedSpec;
use maestro_store::Store;
use maestro_store::worker::AttachedProcess;

use super::why::Because;
use super::why_queued::{is_full, worker_line};
use crate::failure::Failure;
use crate::ids::id_list;
use crate::output::moment::{duration, now_ms};

/// Finds out why the agent has not taken it.
///
/// # Errors
/// What the store says.
pub(super) async fn for_agent(
    store: &Store,
    id: &str,
    shared: &SharedSpec,
    processes: &[AttachedProcess],
) -> Result<Because, Failure> {
    let known: Option<AgentId> = id.parse().ok();
    let agent = match &known {
        Some(id) => store.assignment(id).await?,
        None => None,
    };
    let Some(agent) = agent else {
        return Ok(Because::of(format!("agent `{id}` is not assigned any more")).hint(format!(
            "`maestro agent assign {} --name {id} --to-workspace PATH` gives it a folder again",
            shared.agent
        )));
    };
    if let Some(held) = &agent.held {
        return Ok(Because::of(format!("agent `{id}` is stopped"))
            .detail(format!("by {}, {} ago", held.by, duration(now_ms().saturating_sub(held.at_ms))))
            .hint(format!("`maestro agent restart {id}` lets it go on")));
    }
    if let Some(task) = store.agent_running(&agent.id).await? {
        return Ok(Because::of(format!("agent `{id}` works on {task}"))
            .detail("an agent does one task at a time")
            .hint(format!("`maestro task explain {task}` says how far that is")));
    }
    if let Some(because) = at_limit(store, shared).await? {
        return Ok(because);
    }
    Ok(of_worker(&agent, processes))
}

/// An agent counts towards the limit of its type.
async fn at_limit(store: &Store, shared: &SharedSpec) -> Result<Option<Because>, Failure> {
    let slug = shared.agent.as_str();
    let limits = store.type_limits().await?;
    let Some(limit) = limits.get(slug) else { return Ok(None) };
    let holders = store.slots_taken(slug).await?;
    Ok((holders.len() >= *limit as usize).then(|| {
        let count = holders.len();
        Because::of(format!("`{slug}` is at its limit: {count} of {limit} at a time across the cluster"))
            .detail(format!("held by {}", id_list(&holders)))
    }))
}

fn of_worker(agent: &Assignment, processes: &[AttachedProcess]) -> Because {
    let Assignment { id, worker: name, path, .. } = agent;
    let Some(worker) = processes.iter().find(|one| one.alive && one.name == name.as_str()) else {
        return Because::of(format!("the worker `{name}` that holds agent `{id}` is gone"))
            .detail(format!("its folder is `{path}` there"))
            .hint(format!(
                "start that worker again with `maestro worker start --name {name}`, or move the agent with `maestro agent assign --worker`"
            ));
    };
    let why = if worker.status.draining {
        format!("the worker `{name}` that holds agent `{id}` is draining")
    } else if is_full(worker) {
        format!("the worker `{name}` that holds agent `{id}` is full")
    } else if worker.status.trouble.is_some() {
        format!("the worker `{name}` that holds agent `{id}` is in trouble")
    } else {
        format!("it is about to start: worker `{name}`, which holds agent `{id}`, has room")
    };
    Because::of(why).detail(worker_line(worker))
}
