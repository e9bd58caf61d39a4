//! Which agent types this host can serve, and whether what broke works again.
//!
//! Looked at when the worker starts, when types are registered, and every minute: a binary that is
//! installed later is found without a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use maestro_model::agent_type::{AgentType, Isolation, Resources};
use maestro_model::ids::AgentSlug;
use maestro_model::template::is_plain_text;
use maestro_store::{Store, StoreError};
use tokio::sync::{mpsc, watch};

use crate::attempt::HostEnvironment;
use crate::events::{Breakage, WorkerEvent};
use crate::launch::{Launcher, find_program};
use crate::launch_order::{KILO, find_template, kilo_program};
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

/// Why this host cannot serve a type.
fn obstacle(settings: &WorkerSettings, agent: &AgentType) -> Option<String> {
    if agent.isolate_with == Isolation::Docker {
        return Some("containers are not supported by this version".to_owned());
    }
    let missing = agent.worker_labels.iter().find(|(name, value)| settings.labels.get(*name) != Some(value));
    if let Some((name, value)) = missing {
        return Some(format!("this worker lacks the label `{name}={value}`"));
    }
    unlimited(&agent.resources)
        .or_else(|| missing_program(settings, agent))
        .or_else(|| missing_template(settings, agent))
}

/// Limits that the type insists on. None is enforced by this version.
fn unlimited(resources: &Resources) -> Option<String> {
    let wanted = [
        ("memory", resources.memory_bytes.is_some()),
        ("cpus", resources.cpus.is_some()),
        ("pids", resources.pids.is_some()),
    ];
    let wanted: Vec<&str> =
        wanted.iter().filter(|(_, is_wanted)| *is_wanted).map(|(name, _)| *name).collect();
    let is_obstacle = resources.required && !wanted.is_empty();
    is_obstacle.then(|| {
        format!(
            "`resources.required` is set, and this worker cannot limit {} (leave it out to do without)",
            wanted.join(", ")
        )
    })
}

fn missing_program(settings: &WorkerSettings, agent: &AgentType) -> Option<String> {
    let host = HostEnvironment::of_this_process();
    let is_found = |program: &str| find_program(program.as_ref(), host.path(), Path::new("/")).is_some();
    let kilo = kilo_program(settings);
    let program = match agent.command.as_deref() {
        // What launches nothing.
        Some([]) => return None,
        Some([program, ..]) if program == KILO => {
            let is_there = is_found(&kilo) || (settings.kilo_program.is_none() && is_found(KILO));
            return (!is_there).then(|| {
                format!(
                    "binary not found: `kilo` (install it, or set MAESTRO_KILOCODE_BIN; looked at {kilo})"
                )
            });
        }
        Some([program, ..]) => program.clone(),
        None => kilo,
    };
    // A program named by a template is only known when a task starts.
    let is_known = is_plain_text(&program);
    (is_known && !is_found(&program))
        .then(|| format!("binary not found: `{program}` (install it, or put it on PATH)"))
}

fn missing_template(settings: &WorkerSettings, agent: &AgentType) -> Option<String> {
    let text = agent.workspace_template.as_deref().filter(|text| is_plain_text(text))?;
    if find_template(settings, Path::new(text)).is_some() {
        return None;
    }
    let looked: Vec<String> =
        settings.agents_folders.iter().map(|folder| folder.display().to_string()).collect();
    let place =
        if Path::new(text).is_absolute() { String::new() } else { format!(" below {}", looked.join(", ")) };
    Some(format!("template not found: no folder `{text}`{place}"))
}

/// Tells whenever other types can be served than before.
pub async fn watch_served(
    settings: Arc<WorkerSettings>,
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
        match known_types(&settings, &store).await {
            Ok(known) => {
                let served = Served::find(&settings, &known);
                let _ = events.send(WorkerEvent::TypesServed(served.types));
            }
            // The next look is not far.
            Err(error) => tracing::debug!("the registered agent types cannot be read: {error}"),
        }
    }
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
