//! New versions come in while pods work, a snapshot is taken, and nodes go without a word.

use std::time::Duration;

use serde_json::json;

use crate::checks::python;
use crate::pods::until;
use crate::stage::{
    COORDINATOR, DESK, WORKER, Wishes, count, events, sleeping, start_cluster, submit, told, until_begun,
    until_ready, wait_for_run, witness_folder,
};
use crate::support::engine::TestEngine;

/// A lease as short as the grace period of agents allows, so that what is lost is noticed soon.
const LEASE_SECONDS: u64 = 12;
const RUN_WITHIN: Duration = Duration::from_secs(90);

#[test]
fn new_versions_come_in_and_nodes_go_without_a_task_lost_or_run_twice() {
    let test = "chart::losing";
    let (Some(python), Some(engine)) = (python(test), TestEngine::shared(test)) else { return };
    let witness = witness_folder();
    let settings = json!({"lease": LEASE_SECONDS, "heartbeat": 1, "grace_period": 2});
    let wishes = Wishes { grace_seconds: 35, settings, scaling: json!({}) };
    let mut pods = start_cluster(engine, &python, witness.path(), &wishes);
    for name in ["worker-0", "worker-1"] {
        pods.start(WORKER, name);
    }
    until_ready(&pods, WORKER, &["worker-0", "worker-1"]);

    // A rollout: new pods beside old ones, which then drain; coordinators one by one, and the desk stays.
    let many = |count: usize, seconds: u32| {
        let items: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        format!(
            "  - {{id: each, foreach: [{}], agent: shell, prompt: '{}'}}",
            items.join(","),
            sleeping(seconds)
        )
    };
    let during = submit(&pods, &many(8, 2));
    until_begun(witness.path(), 4);
    pods.start(COORDINATOR, "coordinator-2");
    assert_eq!(pods.end(COORDINATOR, "coordinator-1").exit_code, 0);
    for (old, new) in [("worker-0", "worker-2"), ("worker-1", "worker-3")] {
        pods.start(WORKER, new);
        until_ready(&pods, WORKER, &[new]);
        assert_eq!(pods.end(WORKER, old).exit_code, 0, "{}", pods.logs(old));
    }
    wait_for_run(&pods, &during, RUN_WITHIN);
    let seen = events(&pods, &during);
    for word in ["lost", "returned", "retried", "failed", "fenced"] {
        assert_eq!(count(&seen, word), 0, "{word}: {seen:#?}");
    }
    assert_eq!((count(&seen, "started"), count(&seen, "completed")), (8, 8));

    // What `helm test` starts, and what the CronJob starts each night.
    pods.start("Pod/demo-maestro-test", "test");
    assert_eq!(pods.finish("test"), 0, "{}", pods.logs("test"));
    pods.start("CronJob/demo-maestro-snapshot", "snapshot");
    assert_eq!(pods.finish("snapshot"), 0, "{}", pods.logs("snapshot"));
    let made = pods.files("snapshot", "snapshots");
    assert!(
        made.iter().any(|name| name.ends_with(".tar.gz")) && made.iter().any(|name| name == "latest"),
        "{made:?}"
    );

    // Two nodes go at once: one dies, one is cut off and comes back.
    let hit = submit(&pods, &many(4, 60));
    until_begun(witness.path(), 12);
    pods.lose("worker-2");
    pods.cut_off("worker-3");
    pods.start(WORKER, "worker-4");
    until_ready(&pods, WORKER, &["worker-4"]);
    wait_for_run(&pods, &hit, RUN_WITHIN);
    pods.reconnect("worker-3");
    until("the worker that was cut off to serve again", || {
        let list = pods.maestro(DESK, &["worker", "list", "--format", "json"]);
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        let back = list.as_array().into_iter().flatten().find(|one| one["name"] == "worker-3");
        let serves = back.is_some_and(|one| one["status"] != "lost");
        if serves { Ok(()) } else { Err(list.to_string()) }
    });
    assert_eq!(pods.end(WORKER, "worker-3").exit_code, 0, "{}", pods.logs("worker-3"));

    let seen = events(&pods, &hit);
    assert_eq!(count(&seen, "lost"), 4, "both nodes held two: {seen:#?}");
    assert_eq!((count(&seen, "failed"), count(&seen, "completed")), (0, 4));
    let told = told(witness.path());
    assert_eq!(told.len(), 12);
    assert!(told.iter().all(|(_, ended)| *ended == 1), "each task has run to its end once: {told:?}");
}
