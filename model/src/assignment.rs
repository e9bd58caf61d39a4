//! An agent: an instance of an agent type, assigned to a folder on one worker.
//!
//! What stands in Redis of it, and nothing of what it does at present: whether it runs is known by its
//! attempts. Whether a path may be assigned is for the worker that has it to say.

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, AgentSlug, WorkerName};

/// The version of a stored assignment.
pub const ASSIGNMENT_VERSION: u32 = 1;

/// Where an agent works, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The version of what is stored: `ASSIGNMENT_VERSION`.
    pub v: u32,
    /// The agent's id.
    pub id: AgentId,
    /// What it is an instance of.
    pub agent_type: AgentSlug,
    /// The folder it works in, absolute, on its worker's host.
    pub path: String,
    /// The role it plays, unless a step says another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// 1 (first) to 5 (last), unless a step says another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The only worker that runs its tasks.
    pub worker: WorkerName,
    /// When it came to this folder and worker, ms since 1970 by Redis' clock; whoever assigns leaves it 0.
    #[serde(default)]
    pub assigned_at_ms: u64,
    /// Set while it is stopped: its tasks wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HoldNote>,
}

/// Since when, and by whom, an agent is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldNote {
    /// When, ms since 1970 by Redis' clock.
    #[serde(rename = "at")]
    pub at_ms: u64,
    /// Who said so, for people.
    pub by: String,
}
