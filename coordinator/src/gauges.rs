//! The numbers of the cluster, read from Redis for whoever asks.
//!
//! Every coordinator and every monitor reads all of them, so that it does not matter which one is asked; whoever
//! adds them up takes the greatest. Reading costs Redis something with many waiting tasks: what was read is
//! good for ten times as long as reading it took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use maestro_model::task::TaskStatus;
use maestro_store::worker::{AttachedProcess, ProcessRole};
use maestro_store::{Store, StoreError};
use maestro_vitals::gauges::{AgentDepth, ClusterGauges, SnapshotGauge};
use tokio::sync::Mutex;

use crate::counting::{CountedTask, counted_tasks};
use crate::health::{HealthFacts, HealthRule, problems};

/// What was read is good for so many times the time that reading it took.
const GOOD_FOR: u32 = 10;

/// Reads gauges, and remembers them for a moment.
#[derive(Debug, Default)]
pub struct GaugeDesk {
    last: Mutex<Option<ReadGauges>>,
}

#[derive(Debug)]
struct ReadGauges {
    at: Instant,
    took: Duration,
    gauges: ClusterGauges,
}

impl GaugeDesk {
    /// The numbers, as they are or were a moment ago. Who comes while somebody reads waits for what he gets.
    ///
    /// # Errors
    /// What the store says.
    pub async fn gauges(&self, store: &Store) -> Result<ClusterGauges, StoreError> {
        let mut last = self.last.lock().await;
        if let Some(read) = last.as_ref().filter(|read| read.at.elapsed() <= read.took * GOOD_FOR) {
            return Ok(read.gauges.clone());
        }
        let begun = Instant::now();
        let gauges = read_gauges(store).await?;
        *last = Some(ReadGauges { at: Instant::now(), took: begun.elapsed(), gauges: gauges.clone() });
        Ok(gauges)
    }
}

async fn read_gauges(store: &Store) -> Result<ClusterGauges, StoreError> {
    let facts = HealthFacts::read(store).await?;
    let mut gauges = ClusterGauges { attempts_lost: facts.losses, ..ClusterGauges::default() };
    gauges.problems = HealthRule::ALL.map(|rule| (rule.word(), 0)).to_vec();
    for problem in problems(&facts) {
        let count = gauges.problems.iter_mut().find(|(word, _)| *word == problem.rule.word());
        count.expect("all rules are counted").1 += 1;
    }
    add_workers(&mut gauges, &facts.workers, facts.now_ms);
    let names = facts.types.iter().map(ToString::to_string);
    let names = names.chain(facts.assigned.iter().map(|agent| agent.id.to_string()));
    let mut depths: BTreeMap<String, AgentDepth> = names.map(|name| (name, AgentDepth::default())).collect();
    for run in store.open_runs().await? {
        for task in counted_tasks(store, &run).await? {
            gauges.oldest = gauges.oldest.max(waited(&task, facts.now_ms));
            count(depths.entry(task.agent).or_default(), task.status);
        }
    }
    gauges.agents = depths.into_iter().map(|(agent, depth)| AgentDepth { agent, ..depth }).collect();
    let report = store.server_report().await?;
    (gauges.redis_used_bytes, gauges.redis_limit_bytes) = (report.used_bytes, report.limit_bytes);
    gauges.snapshot = store.noted_snapshot().await?.map(|note| SnapshotGauge {
        age: Duration::from_millis(facts.now_ms.saturating_sub(note.taken_at_ms)),
        bytes: note.bytes,
    });
    Ok(gauges)
}

fn waited(task: &CountedTask, now_ms: u64) -> Duration {
    let ready = task.ready_at_ms.filter(|_| task.status == TaskStatus::Queued);
    ready.map_or(Duration::ZERO, |ready| Duration::from_millis(now_ms.saturating_sub(ready)))
}

fn count(depth: &mut AgentDepth, status: TaskStatus) {
    let state = match status {
        TaskStatus::Blocked => &mut depth.blocked,
        TaskStatus::Queued => &mut depth.queued,
        TaskStatus::Parked => &mut depth.parked,
        TaskStatus::Running | TaskStatus::Cancelling => &mut depth.running,
        TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Skipped | TaskStatus::Cancelled => return,
    };
    *state += 1;
}

fn add_workers(gauges: &mut ClusterGauges, workers: &[AttachedProcess], now_ms: u64) {
    for worker in workers.iter().filter(|worker| worker.about.role == ProcessRole::Worker) {
        let age = Duration::from_millis(now_ms.saturating_sub(worker.beat_ms));
        gauges.heartbeat_age = gauges.heartbeat_age.max(age);
        if !worker.alive {
            gauges.workers_lost += 1;
            continue;
        }
        let used = worker.holds.max(worker.status.running);
        gauges.slots_used += u64::from(used);
        if worker.status.draining {
            gauges.workers_draining += 1;
        } else {
            gauges.workers_up += 1;
            gauges.slots_free += u64::from(worker.about.slots.saturating_sub(used));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_is_what_is_ready_and_what_runs() {
        let mut depth = AgentDepth::default();
        TaskStatus::ALL.into_iter().for_each(|status| count(&mut depth, status));
        let AgentDepth { blocked, queued, parked, running, .. } = depth;
        assert_eq!((blocked, queued, parked, running), (1, 1, 1, 2));
    }

    #[test]
    fn only_what_is_ready_waits() {
        let task = |status| CountedTask { agent: String::new(), status, ready_at_ms: Some(1_000) };
        assert_eq!(waited(&task(TaskStatus::Queued), 4_000), Duration::from_secs(3));
        assert_eq!(waited(&task(TaskStatus::Running), 4_000), Duration::ZERO);
        assert_eq!(waited(&task(TaskStatus::Queued), 900), Duration::ZERO, "clocks of two hosts differ");
    }
}
