//! Which agent types this host can serve, and whether what broke works again.
//!
//! Looked at when the worker starts, when types are registered, and every minute: a binary that is
//! installed later is found without a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::ids::{AgentSlug, WorkerName};
use maestro_store::{Store, StoreError};
use tokio::sync::{mpsc, watch};

use crate::assigned::AgentsHere;
use crate::events::{Breakage, WorkerEvent};
use crate::host_checks::obstacle;
use crate::launch::Launcher;
use crate::settings::WorkerSettings;
use crate::workspace::WorkspaceRoot;

/// Between two looks at what is installed.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// First and longest wait between two probes of a broken part.
const PROBE_WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// First wait where a new start is all it takes: a launcher that was lost.
const LAUNCHER_PROBE_WAIT: Duration = Duration::from_millis(200);
/// Written to the workspace root to see whether it takes anything.
const PROBE_BYTES: usize = 64 * 1024;

/// Types that a host can serve, and those it cannot, with the reason.
pub fn servable(
    settings: &WorkerSettings,
    known: &IndexMap<AgentSlug, AgentType>,
) -> (Vec<String>, Vec<(String, String)>) {
    let Served { types, unserved } = Served::find(settings, known);
    (types.iter().map(AgentSlug::to_string).collect(), unserved)
}

/// What a host can serve of the types it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// It can.
    pub types: Vec<AgentSlug>,
    /// It cannot, and why.
    pub unserved: Vec<(String, String)>,
}

impl Served {
    /// Looks at this host.
    pub fn find(settings: &WorkerSettings, known: &IndexMap<AgentSlug, AgentType>) -> Served {
        let mut served = Served::default();
        for (slug, agent) in known {
            if !settings.only_agents.is_empty() && !settings.only_agents.contains(slug) {
                continue;
            }
            match obstacle(settings, agent) {
                None => served.types.push(slug.clone()),
                Some(reason) => served.unserved.push((slug.to_string(), reason)),
            }
        }
        served
    }
}

/// Types that are registered, and those of this host's own files that are not.
///
/// # Errors
/// `Unreachable`, `Refused`, `Unreadable`.
pub async fn known_types(
    settings: &WorkerSettings,
    store: &Store,
) -> Result<IndexMap<AgentSlug, AgentType>, StoreError> {
    let mut known = store.agent_types().await?;
    for (slug, agent) in &settings.local_agents {
        known.entry(slug.clone()).or_insert_with(|| agent.clone());
    }
    Ok(known)
}

/// Tells now and again, and whenever the registry changes, which types can be served and which agents are here.
pub async fn watch_served(
    settings: Arc<WorkerSettings>,
    name: WorkerName,
    store: watch::Receiver<Store>,
    mut registry: watch::Receiver<u64>,
    events: mpsc::UnboundedSender<WorkerEvent>,
) {
    loop {
        let pause = LOOK_EVERY.mul_f64(rand::random_range(0.7..1.3));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = registry.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        let store = store.borrow().clone();
        match look(&settings, &name, &store).await {
            Ok((types, agents)) => {
                let _ = events.send(WorkerEvent::TypesServed(types));
                let _ = events.send(WorkerEvent::AgentsHere(agents));
            }
            // The next look is not far.
            Err(error) => tracing::debug!("the registered agent types cannot be read: {error}"),
        }
    }
}

async fn look(
    settings: &WorkerSettings,
    name: &WorkerName,
    store: &Store,
) -> Result<(Vec<AgentSlug>, AgentsHere), StoreError> {
    let known = known_types(settings, store).await?;
    let assignments = store.assignments().await?;
    let agents = AgentsHere::find(settings, name, &known, &assignments);
    Ok((Served::find(settings, &known).types, agents))
}

/// Looks at a broken part from time to time, and says when it works again.
pub async fn probe(
    part: Breakage,
    settings: Arc<WorkerSettings>,
    root: WorkspaceRoot,
    launcher: Launcher,
    store: watch::Receiver<Store>,
    events: mpsc::UnboundedSender<WorkerEvent>,
) {
    let mut wait = if part == Breakage::Launcher { LAUNCHER_PROBE_WAIT } else { PROBE_WAIT.0 };
    loop {
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.8..1.0))).await;
        wait = (wait * 2).min(PROBE_WAIT.1);
        let works = match &part {
            Breakage::Launcher => launcher.start().await.is_ok(),
            Breakage::Workspaces => {
                let root = root.path().to_owned();
                tokio::task::spawn_blocking(move || takes_files(&root)).await.is_ok_and(|taken| taken.is_ok())
            }
            Breakage::Agent(id) => {
                let store = store.borrow().clone();
                let Ok(assignment) = store.assignment(id).await else { continue };
                // Wherever it is now: one that has left is claimed elsewhere.
                let path = assignment.map(|agent| agent.path);
                let look = move || path.is_none_or(|path| std::fs::read_dir(path).is_ok());
                tokio::task::spawn_blocking(look).await.unwrap_or(false)
            }
            Breakage::Type(slug) => {
                let store = store.borrow().clone();
                let Ok(known) = known_types(&settings, &store).await else { continue };
                let served = Served::find(&settings, &known);
                // A type that is gone from the registry is not served anyway.
                let works = !known.contains_key(slug) || served.types.contains(slug);
                // A look at all types may have come in between and left this one out.
                let _ = events.send(WorkerEvent::TypesServed(served.types));
                works
            }
        };
        if works {
            tracing::info!("{part}: works again");
            let _ = events.send(WorkerEvent::ProbePassed(part));
            return;
        }
    }
}

/// Whether the root takes a folder with a file in it.
fn takes_files(root: &Path) -> std::io::Result<()> {
    let folder = root.join(format!(".probe-{:016x}", rand::random::<u64>()));
    std::fs::create_dir(&folder)?;
    let written = std::fs::write(folder.join("file"), vec![0; PROBE_BYTES]);
    let removed = std::fs::remove_dir_all(&folder);
    written.and(removed)
}

#[cfg(test)]
mod tests;
