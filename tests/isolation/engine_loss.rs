//! An engine that goes away while its containers run, and comes back.

use std::time::{Duration, Instant};

use maestro_store::runs::RunStatus;

use crate::support::ClusterSetup;
use crate::support::engine::TestEngine;
use crate::{assert_nothing_left, cluster_with, starts, until, waiting_workflow};

/// The first probe of what is broken comes after five seconds, the second ten later, the third twenty later.
const SERVED_AGAIN_WITHIN: Duration = Duration::from_secs(100);

#[test]
fn faults_tasks_of_a_stopped_engine_fail_as_infra_and_run_again_when_it_is_back() {
    let Some(engine) = TestEngine::own("isolation::engine_loss") else { return };
    let cluster = cluster_with(&engine, ClusterSetup::default(), "network: none");
    let run = cluster.submit_text("waiting", &waiting_workflow(&cluster, 3));
    until("all tasks to run", || {
        let running = starts(&cluster).len();
        if running == 3 { Ok(()) } else { Err(format!("{running} of 3")) }
    });

    engine.go_down();
    let events = |cluster: &crate::support::TestCluster| {
        let answer = cluster.maestro(&["events", "--run", run.as_str(), "--format", "jsonl"]);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out
    };
    until("the tasks to be given back for want of an engine", || {
        let told = events(&cluster).lines().filter(|line| line.contains("\"returned\"")).count();
        if told >= 3 { Ok(()) } else { Err(format!("{told} of 3: {}", events(&cluster))) }
    });
    let list = cluster.maestro(&["worker", "list", "--format", "json"]);
    let words = "agent type `boxed`: the container engine went away while the agent ran";
    assert!(list.out.contains(words), "the worker says so: {}", list.out);

    // What needs no engine goes on.
    let begun = Instant::now();
    let words = ["task", "dispatch", "echo as a process", "--to", "shell", "--sync", "--timeout", "60"];
    let answer = cluster.maestro(&words);
    assert!(answer.code == 0 && answer.out.contains("as a process"), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());

    std::fs::write(cluster.witness().join("go"), "").expect("ours");
    engine.come_back();
    assert_eq!(cluster.wait_for_run(&run, SERVED_AGAIN_WITHIN).status, RunStatus::Completed);
    let again = starts(&cluster);
    assert!(again.iter().all(|starts| starts.len() >= 2), "each ran again: {again:?}");
    drop(cluster);
    assert_nothing_left(&engine);
}
