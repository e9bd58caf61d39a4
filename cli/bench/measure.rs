//! One measurement: a run from its submission to its end, by this process' clock and Redis' counters.

use std::time::{Duration, Instant};

use maestro_model::ids::RunId;
use maestro_model::plan::Plan;
use maestro_store::Store;
use maestro_store::queues::ServerCounters;
use maestro_worker::settings::GrantStamp;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::cluster::store_failure;
use crate::failure::Failure;

/// Between two looks whether the run has ended.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Longest time of a measurement.
const MEASURE_MAX: Duration = Duration::from_secs(600);

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measurement {
    /// The shape of the graph.
    pub(crate) graph: String,
    /// The agent type.
    pub(crate) agent: String,
    /// Tasks of the run.
    pub(crate) tasks: u32,
    /// Tasks submitted in a second.
    pub(crate) submitted_per_second: f64,
    /// Tasks done in a second, from the first claim to the end of the run.
    pub(crate) tasks_per_second: f64,
    /// From one claim to the next one's, in a chain: end of a task to the start of its dependent, ms.
    pub(crate) edge_p50_ms: Option<f64>,
    /// See above.
    pub(crate) edge_p99_ms: Option<f64>,
    /// From the submission of a single task on an idle cluster to its claim, ms.
    pub(crate) start_p50_ms: Option<f64>,
    /// See above.
    pub(crate) start_p99_ms: Option<f64>,
    /// Requests to Redis per task.
    pub(crate) roundtrips_per_task: f64,
    /// Bytes on the wire per task, both ways.
    pub(crate) wire_bytes_per_task: f64,
    /// Memory of a task that waits, bytes; where nothing ran when it was submitted.
    pub(crate) waiting_bytes_per_task: Option<f64>,
    /// Processor time of Redis per task, microseconds.
    pub(crate) redis_cpu_us_per_task: f64,
    /// Processor time of this process per task, microseconds; where the worker is in it.
    pub(crate) worker_cpu_us_per_task: Option<f64>,
}

/// A run that was submitted, and what Redis had counted by then.
#[derive(Debug)]
pub(crate) struct Submitted {
    /// The run.
    pub(crate) run: RunId,
    /// How long submitting took.
    pub(crate) took: Duration,
    /// Counters before.
    pub(crate) before: ServerCounters,
    /// Counters after.
    pub(crate) after: ServerCounters,
}

/// Submits a plan.
pub(crate) async fn submit(store: &Store, plan: &Plan) -> Result<Submitted, Failure> {
    let before = store.server_counters().await.map_err(store_failure)?;
    let run = RunId::random(0);
    let begun = Instant::now();
    store.submit(&run, plan, 3).await.map_err(store_failure)?;
    let took = begun.elapsed();
    let after = store.server_counters().await.map_err(store_failure)?;
    Ok(Submitted { run, took, before, after })
}

/// Waits until a run has ended; when that was seen.
pub(crate) async fn wait_for_end(store: &Store, run: &RunId) -> Result<Instant, Failure> {
    let begun = Instant::now();
    while begun.elapsed() < MEASURE_MAX {
        let record = store.run(run).await.map_err(store_failure)?;
        let now = Instant::now();
        if record.is_none_or(|record| record.status.is_final()) {
            return Ok(now);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(Failure::new(
        crate::exit::Exit::TimedOut,
        format!("run `{run}` did not end within {} s", MEASURE_MAX.as_secs()),
    ))
}

/// Claims of the in-process worker, as they came in.
pub(crate) fn take_stamps(stamps: &mut mpsc::UnboundedReceiver<GrantStamp>) -> Vec<GrantStamp> {
    let mut taken = Vec::new();
    while let Ok(stamp) = stamps.try_recv() {
        taken.push(stamp);
    }
    taken
}

/// The value below which this share of the values lies.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * share).ceil() as usize;
    Some(values[place.clamp(1, values.len()) - 1])
}

/// Milliseconds from each claim to the next, in the order of tasks.
pub(crate) fn gaps_ms(stamps: &[GrantStamp], run: &RunId) -> Vec<f64> {
    let mut of_run: Vec<&GrantStamp> = stamps.iter().filter(|stamp| stamp.task.run == *run).collect();
    of_run.sort_by_key(|stamp| stamp.task.index);
    of_run
        .windows(2)
        .map(|pair| pair[1].at.saturating_duration_since(pair[0].at).as_secs_f64() * 1000.0)
        .collect()
}

/// Processor time of this process so far, user and system.
pub(crate) fn process_cpu() -> Duration {
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(usage.tv_sec.max(0) as u64, u32::try_from(usage.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(percentile(&mut values, 0.5), Some(3.0));
        assert_eq!(percentile(&mut values, 0.99), Some(5.0));
        assert_eq!(percentile(&mut [], 0.5), None);
    }
}
