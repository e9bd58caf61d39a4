//! Numbers of a cluster at one moment: plain data, which whoever can reach Redis fills in.

use std::time::Duration;

/// How many tasks of one agent, or of one agent type, are where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentDepth {
    /// The agent's id, else the type's slug.
    pub agent: String,
    /// Waiting for others.
    pub blocked: u64,
    /// Ready.
    pub queued: u64,
    /// Waiting for a time.
    pub parked: u64,
    /// At work, or being ended.
    pub running: u64,
}

/// The newest snapshot that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotGauge {
    /// Since it was taken.
    pub age: Duration,
    /// Size of its archive.
    pub bytes: u64,
}

/// What a cluster comes to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterGauges {
    /// One for each registered type, and each assigned agent.
    pub agents: Vec<AgentDepth>,
    /// How long the task has waited that has been ready for longest.
    pub oldest: Duration,
    /// Attempts lost with their worker, since the cluster was made.
    pub attempts_lost: u64,
    /// Workers that take tasks.
    pub workers_up: u64,
    /// Workers that take no new ones.
    pub workers_draining: u64,
    /// Workers that went silent.
    pub workers_lost: u64,
    /// Slots of live workers in which something runs.
    pub slots_used: u64,
    /// The others.
    pub slots_free: u64,
    /// Since the worker was heard that has been silent for longest.
    pub heartbeat_age: Duration,
    /// Memory of Redis.
    pub redis_used_bytes: u64,
    /// `maxmemory`; 0 = no limit.
    pub redis_limit_bytes: u64,
    /// None if no snapshot was ever taken.
    pub snapshot: Option<SnapshotGauge>,
    /// How many problems there are, for each rule.
    pub problems: Vec<(&'static str, u64)>,
}
