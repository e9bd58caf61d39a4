//! Who starts when, read from the audit stream: priority, fairness between runs, limits of runs and of types,
//! and a run that stays on one of three workers.

use std::collections::BTreeSet;
use std::time::Duration;

use maestro_model::ids::RunId;
use maestro_store::events::{AuditEvent, EventKind, TaskHappening};
use maestro_store::runs::RunStatus;
use serde_json::json;

use crate::support::{ClusterSetup, TestCluster};

/// Until a run of a few hundred quick tasks must have ended.
const SOON: Duration = Duration::from_secs(60);

/// A workflow of `count` tasks of one kind that depend on nothing.
fn flat(name: &str, count: usize, step: &serde_json::Value) -> String {
    let steps: Vec<_> = (0..count)
        .map(|number| {
            let mut step = step.clone();
            step["id"] = json!(format!("s{number}"));
            step
        })
        .collect();
    json!({"name": name, "steps": steps}).to_string()
}

fn with_worker(concurrency: usize) -> TestCluster {
    TestCluster::start(ClusterSetup { concurrency, ..ClusterSetup::default() })
}

/// Nothing starts until `submitted` has been carried out: all of it competes from the first moment.
fn while_paused<T>(cluster: &TestCluster, submitted: impl FnOnce() -> T) -> T {
    let told = |words: &[&str]| assert_eq!(cluster.maestro(words).code, 0);
    told(&["queue", "pause", "--reason", "a test"]);
    let result = submitted();
    told(&["queue", "resume"]);
    result
}

/// The runs of tasks in the order in which they started.
fn starts(events: &[AuditEvent]) -> Vec<RunId> {
    let started = events.iter().filter_map(|event| match &event.kind {
        EventKind::Task { task, what: TaskHappening::Started { .. }, .. } => Some(task.run.clone()),
        _ => None,
    });
    started.collect()
}

/// Most tasks of these runs that ran at one time.
fn most_at_once(events: &[AuditEvent], of: &[&RunId]) -> usize {
    let mut running = BTreeSet::new();
    let mut most = 0;
    for event in events {
        let EventKind::Task { task, what, .. } = &event.kind else { continue };
        if !of.contains(&&task.run) {
            continue;
        }
        match what {
            TaskHappening::Started { .. } => {
                running.insert(task.clone());
                most = most.max(running.len());
            }
            TaskHappening::Completed => assert!(running.remove(task), "{task} ended without a start"),
            _ => {}
        }
    }
    most
}

#[test]
fn an_urgent_task_goes_before_two_hundred_that_are_not() {
    let cluster = with_worker(1);
    let (many, urgent) = while_paused(&cluster, || {
        let low = json!({"agent": "noop", "priority": 5});
        let many = cluster.submit_text("many", &flat("many", 200, &low));
        let high = json!({"agent": "noop", "priority": 1});
        (many, cluster.submit_text("urgent", &flat("urgent", 1, &high)))
    });
    for run in [&many, &urgent] {
        assert_eq!(cluster.wait_for_run(run, SOON).status, RunStatus::Completed);
    }
    let starts = starts(&cluster.observer().events());
    assert_eq!(starts.len(), 201);
    assert_eq!(starts.iter().position(|run| *run == urgent), Some(0));
}

#[test]
fn two_runs_share_a_worker_evenly_however_large_one_is() {
    let cluster = with_worker(1);
    let step = json!({"agent": "noop"});
    let (large, small) = while_paused(&cluster, || {
        let large = cluster.submit_text("large", &flat("large", 600, &step));
        (large, cluster.submit_text("small", &flat("small", 60, &step)))
    });
    for run in [&large, &small] {
        assert_eq!(cluster.wait_for_run(run, SOON).status, RunStatus::Completed);
    }
    let starts = starts(&cluster.observer().events());
    let of_small = |among: &[RunId]| among.iter().filter(|run| **run == small).count();
    for taken in [20, 60, 120] {
        let count = of_small(&starts[..taken]);
        assert!(count.abs_diff(taken / 2) <= 2, "{count} of the first {taken} were the small run's");
    }
}

#[test]
fn a_run_keeps_to_its_limit_beside_one_that_has_none() {
    let cluster = with_worker(6);
    let nap = json!({"agent": "probe", "prompt": "sleep 0.2"});
    let limited = flat("limited", 12, &nap).replace("\"name\":", "\"concurrency\":2,\"name\":");
    let (limited, free) = while_paused(&cluster, || {
        let limited = cluster.submit_text("limited", &limited);
        (limited, cluster.submit_text("free", &flat("free", 12, &nap)))
    });
    for run in [&limited, &free] {
        assert_eq!(cluster.wait_for_run(run, SOON).status, RunStatus::Completed);
    }
    let events = cluster.observer().events();
    assert_eq!(most_at_once(&events, &[&limited]), 2);
    assert_eq!(most_at_once(&events, &[&limited, &free]), 6, "and no slot was left empty for it");
}

#[test]
fn a_type_keeps_to_its_limit_across_workers_and_runs() {
    let cluster = TestCluster::start(ClusterSetup { workers: 2, concurrency: 4, ..ClusterSetup::default() });
    let command = "command: [sh, -c, 'sleep 0.2']\nlimits: {max_concurrent: 3}\n";
    cluster.write_agent("scarce", command);
    assert_eq!(cluster.maestro(&["agent", "register", "../agents.d/scarce.yaml"]).code, 0);
    let step = json!({"agent": "scarce", "prompt": "x"});
    let (one, two) = while_paused(&cluster, || {
        let one = cluster.submit_text("one", &flat("one", 9, &step));
        (one, cluster.submit_text("two", &flat("two", 9, &step)))
    });
    for run in [&one, &two] {
        assert_eq!(cluster.wait_for_run(run, SOON).status, RunStatus::Completed);
    }
    assert_eq!(most_at_once(&cluster.observer().events(), &[&one, &two]), 3);
}

#[test]
fn a_run_in_one_folder_stays_on_one_of_three_workers() {
    let cluster = TestCluster::start(ClusterSetup { workers: 3, ..ClusterSetup::default() });
    let text = json!({"name": "deploy", "defaults": {"workspace": "run"}, "steps": [
        {"id": "git-pull", "agent": "probe", "prompt": "echo main > branch; echo pulled", "on_success": "build"},
        {"id": "build", "agent": "probe", "prompt": "cat branch; echo built > artefact", "on_success": "health-check"},
        {"id": "health-check", "agent": "probe", "prompt": "cat branch artefact"},
    ]});
    for _ in 0..3 {
        let run = cluster.submit_text("deploy", &text.to_string());
        assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Completed);
        let tasks = cluster.observer().tasks(&run);
        let owners: BTreeSet<_> =
            tasks.iter().map(|task| task.record.as_ref().and_then(|record| record.owner.clone())).collect();
        assert_eq!(owners.len(), 1, "{tasks:?}");
        let output = cluster.observer().ask(async |store| store.outputs(&run, &[2]).await).expect("outputs");
        let outputs = output.into_iter().next().flatten().and_then(|one| one.outputs).expect("a result");
        assert_eq!(outputs.result, "main\nbuilt");
    }
}
