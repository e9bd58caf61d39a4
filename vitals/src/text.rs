//! OpenMetrics: names, units and help of everything that is served.
//!
//! The table in `docs/operating.md`, the alert rules and the dashboard name what is registered here; tests
//! compare them with what processes serve.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::gauges::ClusterGauges;
use crate::tally::{Labels, ProcessTally, tally};

/// What the answer to `/metrics` says of itself.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A gauge of a fraction.
type RealGauge = Gauge<f64, AtomicU64>;

/// What a worker serves.
pub fn worker_text() -> String {
    let mut registry = Registry::with_prefix("maestro");
    add_redis(&mut registry, tally());
    add_work(&mut registry, tally());
    written(&registry)
}

/// What a coordinator or monitor serves; without gauges if Redis does not answer.
pub fn cluster_text(gauges: Option<&ClusterGauges>) -> String {
    let mut registry = Registry::with_prefix("maestro");
    add_redis(&mut registry, tally());
    let up = Gauge::<i64>::default();
    up.set(i64::from(gauges.is_some()));
    registry.register("redis_up", "Whether Redis answered when this was asked for", up);
    if let Some(gauges) = gauges {
        add_queues(&mut registry, gauges);
        add_workers(&mut registry, gauges);
        add_upkeep(&mut registry, gauges);
    }
    written(&registry)
}

fn written(registry: &Registry) -> String {
    let mut text = String::new();
    encode_registry(&mut text, registry).expect("a string takes whatever is written");
    encode_eof(&mut text).expect("a string takes whatever is written");
    text
}

fn add_redis(registry: &mut Registry, tally: &ProcessTally) {
    let help = "Time of a request of this process to Redis and back";
    registry.register_with_unit("redis_roundtrip", help, Unit::Seconds, tally.roundtrips.clone());
}

fn add_work(registry: &mut Registry, tally: &ProcessTally) {
    let help = "Ends of attempts that this worker recorded, by the state the task has since and the reason";
    registry.register("tasks", help, tally.tasks.clone());
    let help = "Time from launch to end of an agent on this worker";
    registry.register_with_unit("task_duration", help, Unit::Seconds, tally.durations.clone());
    let help = "Time from ready to claimed of the tasks that this worker claimed";
    registry.register_with_unit("queue_wait", help, Unit::Seconds, tally.waits.clone());
    let help = "Late reports of this worker that were refused";
    registry.register("fenced_writes", help, tally.fenced.clone());
    if let Some(bytes) = tally.workspace_bytes() {
        let help = "Disk taken by the workspaces on this worker, measured every few minutes";
        add_count(registry, "workspace", help, Some(Unit::Bytes), bytes);
    }
}

fn add_queues(registry: &mut Registry, gauges: &ClusterGauges) {
    let depth: Family<Labels, Gauge> = Family::default();
    let demand: Family<Labels, Gauge> = Family::default();
    for one in &gauges.agents {
        let states = [
            ("blocked", one.blocked),
            ("queued", one.queued),
            ("parked", one.parked),
            ("running", one.running),
        ];
        for (state, count) in states {
            let labels = vec![("agent", one.agent.clone()), ("state", state.to_owned())];
            depth.get_or_create(&labels).set(count as i64);
        }
        let labels = vec![("agent", one.agent.clone())];
        demand.get_or_create(&labels).set((one.queued + one.running) as i64);
    }
    registry.register("queue_depth", "Tasks that have not ended, by agent or agent type and state", depth);
    registry.register("queue_demand", "Tasks that are ready or at work: what an autoscaler reads", demand);
    let help = "Since the task was ready that has waited for longest; 0 if none waits";
    add_seconds(registry, "queue_oldest", help, gauges.oldest.as_secs_f64());
    let lost = Counter::<u64>::default();
    lost.inc_by(gauges.attempts_lost);
    registry.register("attempts_lost", "Attempts lost with their worker, in the whole cluster", lost);
}

fn add_workers(registry: &mut Registry, gauges: &ClusterGauges) {
    let by_state = |counts: &[(&str, u64)]| {
        let family: Family<Labels, Gauge> = Family::default();
        for (state, count) in counts {
            family.get_or_create(&vec![("state", (*state).to_owned())]).set(*count as i64);
        }
        family
    };
    let workers = by_state(&[
        ("up", gauges.workers_up),
        ("draining", gauges.workers_draining),
        ("lost", gauges.workers_lost),
    ]);
    registry.register("workers", "Workers by state", workers);
    let slots = by_state(&[("used", gauges.slots_used), ("free", gauges.slots_free)]);
    registry.register("worker_slots", "Slots of live workers, used and free", slots);
    let help = "Since the worker was heard that has been silent for longest; 0 if there is none";
    add_seconds(registry, "worker_heartbeat_age", help, gauges.heartbeat_age.as_secs_f64());
    let problems: Family<Labels, Gauge> = Family::default();
    for (rule, count) in &gauges.problems {
        problems.get_or_create(&vec![("rule", (*rule).to_owned())]).set(*count as i64);
    }
    registry.register("problems", "What is wrong at present, by health rule", problems);
}

fn add_upkeep(registry: &mut Registry, gauges: &ClusterGauges) {
    let bytes = Some(Unit::Bytes);
    add_count(registry, "redis_used", "Memory that Redis uses", bytes.clone(), gauges.redis_used_bytes);
    let help = "Memory that Redis may use (maxmemory); 0 if there is no limit";
    add_count(registry, "redis_limit", help, bytes.clone(), gauges.redis_limit_bytes);
    if let Some(snapshot) = gauges.snapshot {
        let help = "Since the newest whole snapshot was taken";
        add_seconds(registry, "snapshot_age", help, snapshot.age.as_secs_f64());
        add_count(registry, "snapshot", "Size of the newest whole snapshot", bytes, snapshot.bytes);
    }
}

fn add_seconds(registry: &mut Registry, name: &str, help: &str, seconds: f64) {
    let gauge = RealGauge::default();
    gauge.set(seconds);
    registry.register_with_unit(name, help, Unit::Seconds, gauge);
}

fn add_count(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>, count: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, gauge),
        None => registry.register(name, help, gauge),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gauges::{AgentDepth, SnapshotGauge};

    #[test]
    fn names_end_with_their_units_and_counters_with_total() {
        let gauges = ClusterGauges {
            agents: vec![AgentDepth {
                agent: "shell".to_owned(),
                queued: 2,
                running: 1,
                ..AgentDepth::default()
            }],
            oldest: Duration::from_millis(1500),
            attempts_lost: 3,
            snapshot: Some(SnapshotGauge { age: Duration::from_secs(60), bytes: 1024 }),
            problems: vec![("disk", 1)],
            ..ClusterGauges::default()
        };
        let text = cluster_text(Some(&gauges));
        for line in [
            "# UNIT maestro_queue_oldest_seconds seconds",
            "maestro_queue_oldest_seconds 1.5",
            "# TYPE maestro_attempts_lost counter",
            "maestro_attempts_lost_total 3",
            r#"maestro_queue_demand{agent="shell"} 3"#,
            r#"maestro_queue_depth{agent="shell",state="blocked"} 0"#,
            "maestro_snapshot_bytes 1024",
            r#"maestro_problems{rule="disk"} 1"#,
            "maestro_redis_up 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(!text.contains(".. "), "help ends with one full stop:\n{text}");
    }

    #[test]
    fn without_redis_only_what_the_process_knows_is_served() {
        let text = cluster_text(None);
        assert!(text.contains("maestro_redis_up 0\n"), "{text}");
        assert!(!text.contains("maestro_queue_depth"), "{text}");
    }

    #[test]
    fn what_a_worker_counts_is_served() {
        tally().attempt_recorded("shell", "failed", "exit");
        tally().task_waited(Duration::from_millis(3));
        let text = worker_text();
        let line = r#"maestro_tasks_total{agent="shell",status="failed",reason="exit"} 1"#;
        assert!(text.contains(line), "{text}");
        assert!(text.contains("maestro_queue_wait_seconds_bucket{le=\"0.005\"} 1\n"), "{text}");
        assert!(text.contains("maestro_fenced_writes_total 0\n"), "{text}");
    }
}
