//! How a worker is set up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::confinement::Confinement;
use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::ids::{AgentSlug, TaskId};
use maestro_vitals::pulse::WorkerPulse;

use crate::container::EngineAddress;
use crate::failsafe::FailsafeMode;

/// All a worker is told when it starts; nothing is read from the environment later.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The name asked for; none = the host's.
    pub name: Option<String>,
    /// Tasks at one time.
    pub concurrency: usize,
    /// Only these agent types, if any are named.
    pub only_agents: Vec<AgentSlug>,
    /// Agent types found in this host's folders, and those that come with the program.
    pub local_agents: IndexMap<AgentSlug, AgentType>,
    /// Folders of agent files, for template paths.
    pub agents_folders: Vec<PathBuf>,
    /// Labels of this worker.
    pub labels: BTreeMap<String, String>,
    /// The folder below which all workspaces lie.
    pub workspace_root: PathBuf,
    /// Short folders for sockets of side doors, for workspaces whose path is too long for one.
    pub short_folders: Vec<PathBuf>,
    /// Between two beats.
    pub heartbeat: Duration,
    /// How long the cluster waits for a beat.
    pub lease: Duration,
    /// Where a container engine is looked for.
    pub engine: EngineAddress,
    /// From SIGTERM to SIGKILL of an agent.
    pub grace: Duration,
    /// How long running tasks may go on after SIGTERM to the worker.
    pub drain_deadline: Duration,
    /// Time to live of published values.
    pub state_ttl: Duration,
    /// `MAESTRO_KILOCODE_BIN`, if it is set.
    pub kilo_program: Option<PathBuf>,
    /// Where safety copies of assigned folders go, below `auto/`.
    pub snapshot_folder: PathBuf,
    /// What happens to a folder in which a task has failed.
    pub failsafe: FailsafeMode,
    /// How long finished workspaces stay.
    pub workspace_retention: Duration,
    /// What confines agents here; none = not found out yet, which the worker does when it starts.
    pub confinement: Option<Confinement>,
    /// The version that is shown.
    pub version: String,
    /// Where it is said that the main loop turns, if anybody asks.
    pub pulse: Option<WorkerPulse>,
    /// Told of every claim, for whoever measures.
    pub probe: Option<tokio::sync::mpsc::UnboundedSender<GrantStamp>>,
}

/// A claim, as this worker saw it.
#[derive(Debug, Clone)]
pub struct GrantStamp {
    /// The task.
    pub task: TaskId,
    /// When the answer was read.
    pub at: Instant,
}

/// Time the cluster needs beside an agent's grace to notice and act, in a lease.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// A lease too short to end agents before it runs out.
#[derive(Debug, thiserror::Error)]
#[error(
    "a lease of {lease:.0?} is too short: with a grace period of {grace:.0?} and a beat every {heartbeat:.0?} it takes at least {least:.0?}"
)]
pub struct LeaseTooShort {
    lease: Duration,
    grace: Duration,
    heartbeat: Duration,
    least: Duration,
}

impl WorkerSettings {
    /// Refuses a lease that could run out before agents are ended.
    ///
    /// # Errors
    /// `LeaseTooShort` below grace + 3 beats + 5 s.
    pub fn check_lease(&self) -> Result<(), LeaseTooShort> {
        let least = self.grace + 3 * self.heartbeat + LEASE_MARGIN;
        if self.lease < least {
            return Err(LeaseTooShort {
                lease: self.lease,
                grace: self.grace,
                heartbeat: self.heartbeat,
                least,
            });
        }
        Ok(())
    }

    /// After how long without an answered beat agents are ended: early enough to be gone before the
    /// cluster gives their tasks to others.
    pub fn fence_after(&self) -> Duration {
        self.lease.saturating_sub(self.grace).saturating_sub(LEASE_MARGIN)
    }
}
