//! What a worker says of itself and of what it runs with each beat.
//!
//! Fields are only ever added, each with a default: workers of several versions beat in one cluster, and whoever
//! reads passes over what it does not know.

use std::collections::BTreeMap;

use maestro_model::ids::{AgentId, AgentSlug, Attempt, TaskId};
use serde::{Deserialize, Serialize};

/// What a process says of itself with each beat.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Tasks running.
    #[serde(default)]
    pub running: u32,
    /// Whether it takes no new ones.
    #[serde(default)]
    pub draining: bool,
    /// Resident memory, bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// What is wrong with its host, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What its running tasks use, at most [`TASKS_SAMPLED_MAX`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskUsage>,
    /// What hinders agents that are assigned to it: their folder, or what their type needs of its host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub folders: BTreeMap<AgentId, String>,
    /// Between two beats, ms; 0 = it does not say.
    #[serde(default)]
    pub heartbeat_ms: u64,
    /// Room on the disk of its workspaces; none where that cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskRoom>,
    /// Agents whose process somebody killed while they worked, and that have not done well since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub killed: Vec<KilledAgent>,
}

/// How much of a disk is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRoom {
    /// Bytes that a user may still write.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Files that may still be made.
    pub free_files: u64,
    /// Files in all; 0 = they are not counted.
    pub total_files: u64,
}

/// An agent that was ended by a signal that its worker had not sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KilledAgent {
    /// Its type.
    pub agent: AgentSlug,
    /// The agent, if one is assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned: Option<AgentId>,
    /// What it worked on.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: Attempt,
    /// The signal's number.
    pub signal: i32,
}

/// How the first process of an attempt is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessCondition {
    /// It is there and takes signals.
    #[default]
    Runs,
    /// Somebody stopped it: signals wait until it goes on.
    Stopped,
    /// It is not there, or dead, and still counts as running.
    Gone,
}

impl ProcessCondition {
    fn runs(&self) -> bool {
        *self == ProcessCondition::Runs
    }
}

/// Most tasks whose use a process tells with each beat.
pub const TASKS_SAMPLED_MAX: usize = 256;

/// What one running attempt uses, all its processes together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskUsage {
    /// The task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: Attempt,
    /// The type of its agent.
    pub agent: AgentSlug,
    /// The agent, if one is assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned: Option<AgentId>,
    /// Its first process.
    pub pid: u32,
    /// Resident memory, bytes.
    pub memory_bytes: u64,
    /// Processor time since it started, ms; without that of processes whose parent is gone.
    pub cpu_ms: u64,
    /// Processes.
    pub processes: u32,
    /// Since it wrote something, ms.
    pub silent_ms: u64,
    /// How its first process is.
    #[serde(default, skip_serializing_if = "ProcessCondition::runs")]
    pub condition: ProcessCondition,
    /// Without output for so long it is ended, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_ms: Option<u64>,
}
