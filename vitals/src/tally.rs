//! What this process has counted since it started.
//!
//! One for the whole process, as `tracing` has one subscriber: what is counted happens in many places, and who
//! reads it (`/metrics`) asks the process and not one of them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// Labels of one series: names and values. Values are slugs, ids and words of ours, since the encoder escapes nothing.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// Bounds of how long tasks take, seconds: from a shell command to a long session.
const DURATION_BOUNDS: [f64; 14] =
    [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 14_400.0];
/// Bounds of how long tasks wait in a queue, seconds.
const WAIT_BOUNDS: [f64; 14] =
    [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 14_400.0];
/// Bounds of a request to Redis and back, seconds.
const ROUNDTRIP_BOUNDS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];
/// Stands for "not measured yet".
const UNKNOWN: u64 = u64::MAX;

/// Everything counted.
#[derive(Debug)]
pub struct ProcessTally {
    pub(crate) tasks: Family<Labels, Counter>,
    pub(crate) durations: Histogram,
    pub(crate) waits: Histogram,
    pub(crate) fenced: Counter,
    pub(crate) roundtrips: Histogram,
    workspace_bytes: AtomicU64,
}

/// Of this process.
static TALLY: LazyLock<ProcessTally> = LazyLock::new(ProcessTally::new);

/// What this process has counted.
pub fn tally() -> &'static ProcessTally {
    &TALLY
}

impl ProcessTally {
    fn new() -> ProcessTally {
        ProcessTally {
            tasks: Family::default(),
            durations: Histogram::new(DURATION_BOUNDS),
            waits: Histogram::new(WAIT_BOUNDS),
            fenced: Counter::default(),
            roundtrips: Histogram::new(ROUNDTRIP_BOUNDS),
            workspace_bytes: AtomicU64::new(UNKNOWN),
        }
    }

    /// The end of an attempt was recorded: whose, the state its task has now, and the reason or nothing.
    pub fn attempt_recorded(&self, agent: &str, status: &str, reason: &str) {
        let labels =
            vec![("agent", agent.to_owned()), ("status", status.to_owned()), ("reason", reason.to_owned())];
        self.tasks.get_or_create(&labels).inc();
    }

    /// An agent was at work for so long.
    pub fn agent_worked(&self, time: Duration) {
        self.durations.observe(time.as_secs_f64());
    }

    /// A claimed task had waited for so long since it was ready.
    pub fn task_waited(&self, time: Duration) {
        self.waits.observe(time.as_secs_f64());
    }

    /// A late report was refused.
    pub fn write_fenced(&self) {
        self.fenced.inc();
    }

    /// Redis answered a request.
    pub fn redis_answered(&self, time: Duration) {
        self.roundtrips.observe(time.as_secs_f64());
    }

    /// The workspaces on this host were measured.
    pub fn workspaces_measured(&self, bytes: u64) {
        self.workspace_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn workspace_bytes(&self) -> Option<u64> {
        let bytes = self.workspace_bytes.load(Ordering::Relaxed);
        (bytes != UNKNOWN).then_some(bytes)
    }
}
