//! What workers, coordinators and monitors say of themselves at their `endpoint`.

use std::time::Duration;

use maestro_coordinator::gauges::GaugeDesk;
use maestro_store::Store;
use maestro_vitals::pulse::{Pulse, WorkerPulse};
use maestro_vitals::text::{cluster_text, worker_text};
use tokio::sync::watch;

use crate::endpoint::Watched;

/// A worker whose main loop has not turned for so long is deaf, though its lease lives.
const WORKER_TURN_MAX: Duration = Duration::from_secs(10);
/// A turn of a coordinator or monitor waits for Redis: its patience, one answer, and a little more.
const CLUSTER_TURN_MAX: Duration = Duration::from_secs(30);
/// Longest wait for Redis when it is asked whether it is there.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait for the numbers of the cluster: less than Prometheus waits.
const GAUGES_WITHIN: Duration = Duration::from_secs(8);

/// A worker.
pub(crate) struct WatchedWorker {
    /// What it tells.
    pub(crate) pulse: WorkerPulse,
    /// How long the cluster waits for a beat of it.
    pub(crate) lease: Duration,
}

impl Watched for WatchedWorker {
    fn alive(&self) -> Result<(), String> {
        turns(&self.pulse.turn, WORKER_TURN_MAX)
    }

    async fn ready(&self) -> Result<(), String> {
        let silence = self.pulse.heard.age();
        if silence >= self.lease {
            return Err(format!("no heartbeat was answered for {} s", silence.as_secs()));
        }
        if self.pulse.claims() { Ok(()) } else { Err("it takes no new tasks".to_owned()) }
    }

    async fn metrics(&self) -> String {
        worker_text()
    }
}

/// A coordinator or a monitor.
pub(crate) struct WatchedCluster {
    /// The cluster it serves.
    pub(crate) store: watch::Receiver<Store>,
    /// The last turn of its main loop.
    pub(crate) turn: Pulse,
    /// Reads the numbers.
    pub(crate) desk: GaugeDesk,
}

impl WatchedCluster {
    fn store(&self) -> Store {
        self.store.borrow().clone()
    }
}

impl Watched for WatchedCluster {
    fn alive(&self) -> Result<(), String> {
        turns(&self.turn, CLUSTER_TURN_MAX)
    }

    async fn ready(&self) -> Result<(), String> {
        match tokio::time::timeout(READY_WITHIN, self.store().moment()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("redis has not answered for {} s", READY_WITHIN.as_secs())),
        }
    }

    async fn metrics(&self) -> String {
        let store = self.store();
        match tokio::time::timeout(GAUGES_WITHIN, self.desk.gauges(&store)).await {
            Ok(Ok(gauges)) => cluster_text(Some(&gauges)),
            Ok(Err(error)) => {
                tracing::debug!("the numbers of the cluster cannot be read: {error}");
                cluster_text(None)
            }
            Err(_) => cluster_text(None),
        }
    }
}

fn turns(pulse: &Pulse, longest: Duration) -> Result<(), String> {
    let age = pulse.age();
    if age <= longest {
        return Ok(());
    }
    Err(format!(
        "the main loop has not turned for {} s, expected at least once in {} s",
        age.as_secs(),
        longest.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_is_ready_while_it_claims_and_is_heard() {
        let pulse = WorkerPulse::default();
        let watched = WatchedWorker { pulse: pulse.clone(), lease: Duration::from_secs(30) };
        assert_eq!(watched.alive(), Ok(()));
        assert_eq!(watched.ready().await, Err("it takes no new tasks".to_owned()), "it has not begun");
        pulse.set_claims(true);
        assert_eq!(watched.ready().await, Ok(()));
        let unheard = WatchedWorker { pulse, lease: Duration::ZERO };
        assert_eq!(unheard.ready().await, Err("no heartbeat was answered for 0 s".to_owned()));
    }
}
