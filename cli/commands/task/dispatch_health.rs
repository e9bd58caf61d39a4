//! Whether the targets of a dispatch could be worked on: refused before anything is made, if not.
//!
//! With no worker alive at all everything is accepted: workers may be started for what waits.

use maestro_model::assignment::Assignment;
use maestro_model::catalogue::AgentCatalogue;
use maestro_store::Store;
use maestro_store::worker::{AttachedProcess, ProcessRole};

use crate::exit::Exit;
use crate::failure::Failure;

/// Whether somebody is there to take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Each target is served.
    Served,
    /// No worker is alive.
    NobodyThere,
}

/// Looks at each target.
///
/// # Errors
/// 75 with the reason if one is not healthy: its agent is stopped or its worker gone, or no live worker
/// serves its type.
pub(super) async fn check_targets(
    store: &Store,
    catalogue: &AgentCatalogue,
    targets: &[String],
) -> Result<Readiness, Failure> {
    let mut workers = store.processes().await?;
    workers.retain(|one| one.alive && one.about.role == ProcessRole::Worker);
    let registered = store.agent_types().await?;
    for target in targets {
        let Ok(named) = catalogue.find(target) else { continue };
        match named.assigned {
            Some(assignment) => check_agent(assignment, &workers)?,
            // Of a type that nobody has registered no worker could know yet: it is with this dispatch.
            None if !workers.is_empty() && registered.contains_key(&named.agent_type.slug) => {
                check_type(named.agent_type.slug.as_str(), &workers)?;
            }
            None => {}
        }
    }
    Ok(if workers.is_empty() { Readiness::NobodyThere } else { Readiness::Served })
}

fn check_agent(assignment: &Assignment, workers: &[AttachedProcess]) -> Result<(), Failure> {
    let id = &assignment.id;
    if let Some(held) = &assignment.held {
        let by = if held.by.is_empty() { String::new() } else { format!(" by {}", held.by) };
        return Err(Failure::new(Exit::NothingToRunIt, format!("agent `{id}` is stopped{by}"))
            .hint(format!("start it again with `maestro agent restart {id}`")));
    }
    if workers.is_empty() {
        return Ok(());
    }
    let name = &assignment.worker;
    let Some(worker) = workers.iter().find(|one| one.name == name.as_str()) else {
        return Err(Failure::new(
            Exit::NothingToRunIt,
            format!("agent `{id}` works on worker `{name}`, which is not there"),
        )
        .hint(format!(
            "start it again with `maestro worker start --name {name}`, or give the agent to another one with \
             `maestro agent assign {} --to-workspace PATH --name {id} --worker W`",
            assignment.agent_type
        )));
    };
    match worker.status.folders.get(id) {
        Some(trouble) => Err(Failure::new(
            Exit::NothingToRunIt,
            format!("agent `{id}` cannot work in `{}`: {trouble}", assignment.path),
        )
        .hint(format!("`maestro agent health {id}` says more"))),
        None => check_type(assignment.agent_type.as_str(), std::slice::from_ref(worker)),
    }
}

fn check_type(slug: &str, workers: &[AttachedProcess]) -> Result<(), Failure> {
    if workers.iter().any(|worker| worker.types.iter().any(|one| one == slug)) {
        return Ok(());
    }
    let names: Vec<&str> = workers.iter().take(8).map(|worker| worker.name.as_str()).collect();
    Err(Failure::new(
        Exit::NothingToRunIt,
        format!("no live worker serves agent type `{slug}` (alive: {})", names.join(", ")),
    )
    .hint(format!(
        "`maestro agent health {slug}` says why; `maestro doctor`, on a worker's host, how to mend it"
    )))
}
