//! What the heartbeat says beside that the worker lives: what its tasks use and how their processes are, what
//! hinders its agents (their folder, or something that their type needs of this host), and the room on its disk.
//!
//! Looked at once in a heartbeat, on a thread that may wait for the disk; the beat carries what was found last.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use maestro_model::assignment::Assignment;
use maestro_model::ids::{AgentId, WorkerName};
use maestro_store::worker::{DiskRoom, ProcessCondition, TASKS_SAMPLED_MAX, TaskUsage};
use maestro_store::{Store, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::beats::SharedStatus;
use crate::held::AttemptKey;
use crate::host_checks::obstacle;
use crate::killed::KilledAgents;
use crate::mailbox::folder::folder_problems;
use crate::running::{LiveAttempt, LiveAttempts};
use crate::serving::known_types;
use crate::settings::WorkerSettings;
use crate::standstill::Standstill;
use crate::usage::{ProcessTable, TreeUsage};

/// How often the assignments are read, however seldom the registry changes.
const READ_EVERY: Duration = Duration::from_secs(60);
/// Most agents looked at.
const AGENTS_MAX: usize = 1_000;

/// An agent that is assigned to this worker.
#[derive(Debug, Clone)]
struct SampledAgent {
    id: AgentId,
    path: String,
    /// Why its type cannot be launched here.
    hindrance: Option<String>,
}

/// The loop.
pub struct Sampler {
    /// How the worker is set up; it looks once in a heartbeat.
    pub settings: Arc<WorkerSettings>,
    /// The worker's name.
    pub name: WorkerName,
    /// What runs.
    pub live: LiveAttempts,
    /// Whether all of it is stopped on purpose.
    pub standstill: Standstill,
    /// Agents that somebody killed.
    pub killed: KilledAgents,
    /// Where what was found is kept for the beat.
    pub status: SharedStatus,
}

/// How processes were that did not simply run. An end takes a moment until it is noticed, and a freeze until it is
/// over: only what is found twice in a row is told.
type OddProcesses = HashMap<AttemptKey, ProcessCondition>;

impl Sampler {
    /// Looks again and again, until dropped.
    pub async fn run(self, store: watch::Receiver<Store>, mut registry: watch::Receiver<u64>) {
        let mut assigned: Vec<SampledAgent> = Vec::new();
        let mut read: Option<Instant> = None;
        let mut odd = OddProcesses::new();
        loop {
            let is_due = read.is_none_or(|read| read.elapsed() >= READ_EVERY);
            if is_due || registry.has_changed().unwrap_or(false) {
                registry.borrow_and_update();
                let store = store.borrow().clone();
                match self.read(&store).await {
                    Ok(agents) => {
                        assigned = agents;
                        read = Some(Instant::now());
                    }
                    // What was read before is looked at meanwhile.
                    Err(error) => tracing::debug!("the agents cannot be read: {error}"),
                }
            }
            odd = self.look(&assigned, odd).await;
            tokio::select! {
                () = tokio::time::sleep(self.settings.heartbeat.mul_f64(rand::random_range(0.8..1.0))) => {}
                changed = registry.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // Looked at above.
                    registry.mark_changed();
                }
            }
        }
    }

    async fn read(&self, store: &Store) -> Result<Vec<SampledAgent>, StoreError> {
        let all = store.assignments().await?;
        let here: Vec<Assignment> =
            all.into_values().filter(|one| one.worker == self.name).take(AGENTS_MAX).collect();
        if here.is_empty() {
            return Ok(Vec::new());
        }
        let known = known_types(&self.settings, store).await?;
        let sampled = here.into_iter().map(|agent| SampledAgent {
            hindrance: known.get(&agent.agent_type).and_then(|known| obstacle(&self.settings, known)),
            id: agent.id,
            path: agent.path,
        });
        Ok(sampled.collect())
    }

    async fn look(&self, assigned: &[SampledAgent], odd: OddProcesses) -> OddProcesses {
        let live: Vec<(AttemptKey, LiveAttempt)> = {
            let live = self.live.lock().expect("no holder panics");
            live.iter().take(TASKS_SAMPLED_MAX).map(|(key, one)| (key.clone(), one.clone())).collect()
        };
        let (agents, root) = (assigned.to_vec(), self.settings.workspace_root.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let (tasks, found) = usage_of(&live, &odd);
            (tasks, found, problems_of(&agents), room_on_disk(&root))
        });
        // A look that broke down is made again.
        let Ok((mut tasks, found, folders, disk)) = looked.await else { return OddProcesses::new() };
        let stopped_on_purpose = self.standstill.is_paused();
        if stopped_on_purpose {
            tasks.iter_mut().for_each(|task| task.condition = ProcessCondition::Runs);
        }
        let killed = self.killed.told();
        let mut status = self.status.lock().expect("no holder panics");
        (status.tasks, status.folders, status.disk, status.killed) = (tasks, folders, disk, killed);
        if stopped_on_purpose { OddProcesses::new() } else { found }
    }
}

fn usage_of(live: &[(AttemptKey, LiveAttempt)], before: &OddProcesses) -> (Vec<TaskUsage>, OddProcesses) {
    let mut odd = OddProcesses::new();
    if live.is_empty() {
        return (Vec::new(), odd);
    }
    let table = ProcessTable::read();
    let used = live.iter().filter_map(|(key, one)| {
        let view = one.handle.live();
        let pid = view.pid?;
        let found = table.condition_of(pid);
        if found != ProcessCondition::Runs {
            odd.insert(key.clone(), found);
        }
        let condition = if before.get(key) == Some(&found) { found } else { ProcessCondition::Runs };
        let usage = match table.usage_of(pid) {
            None if condition == ProcessCondition::Gone => TreeUsage::default(),
            usage => usage?,
        };
        Some(TaskUsage {
            task: key.0.clone(),
            attempt: key.1,
            agent: one.agent.clone(),
            assigned: one.assigned.clone(),
            pid,
            memory_bytes: usage.memory_bytes,
            cpu_ms: usage.cpu_ms,
            processes: usage.processes,
            silent_ms: view.last_output.elapsed().as_millis() as u64,
            condition,
            stall_ms: one.stall_timeout.map(|limit| limit.as_millis() as u64),
        })
    });
    let mut used: Vec<TaskUsage> = used.collect();
    used.sort_by(|a, b| (&a.task, a.attempt).cmp(&(&b.task, b.attempt)));
    (used, odd)
}

fn room_on_disk(root: &Path) -> Option<DiskRoom> {
    let found = rustix::fs::statvfs(root).ok()?;
    Some(DiskRoom {
        free_bytes: found.f_bavail * found.f_frsize,
        total_bytes: found.f_blocks * found.f_frsize,
        free_files: found.f_favail,
        total_files: found.f_files,
    })
}

fn problems_of(agents: &[SampledAgent]) -> BTreeMap<AgentId, String> {
    let problem = |agent: &SampledAgent| {
        let (_, problems) = folder_problems(Path::new(&agent.path));
        let first = problems.into_iter().next().or_else(|| agent.hindrance.clone());
        first.map(|problem| (agent.id.clone(), problem))
    };
    agents.iter().filter_map(problem).collect()
}
