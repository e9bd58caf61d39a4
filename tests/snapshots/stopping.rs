//! A cluster that is shut down: agents end, their tasks wait, and nothing begins before somebody says so.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::restoring::scene::{SOON, json, text, wait_for_go};
use crate::support::{ClusterSetup, TestCluster};

fn mode(cluster: &TestCluster) -> String {
    cluster.observer().ask(async |store| store.mode().await).expect("redis is there").word
}

#[test]
fn what_ran_goes_back_unburned_and_nothing_begins_before_somebody_says_so() {
    // One lost attempt would be the end of the task.
    let env = vec![("MAESTRO_MAX_ATTEMPTS", "1".to_owned())];
    let mut cluster = TestCluster::start(ClusterSetup { env, ..ClusterSetup::default() });
    let task = wait_for_go(&cluster);
    let record = json(&cluster.maestro(&["shutdown", "--grace-period", "5", "--format", "json"]));
    assert_eq!((&record["mode"], &record["changed"]), (&"stopped".into(), &true.into()));
    assert_eq!(record["given_back"].as_array().map(Vec::len), Some(1), "{record}");
    let copy = record["safety_copy"].as_str().expect("there is one");
    assert!(copy.contains("/auto/pre-shutdown-"), "{copy}");
    assert_eq!(cluster.maestro(&["state", "verify", copy]).code, 0);
    let status = json(&cluster.maestro(&["task", "status", &task]));
    assert_eq!(status["status"], "queued", "{status}");

    let refused = cluster.maestro(&["task", "dispatch", "true", "--to", "probe"]);
    assert_eq!(refused.code, 75, "{refused:?}");
    let refused = cluster.maestro(&["queue", "pause"]);
    assert_eq!(refused.code, 77, "a stop is not made a pause: {refused:?}");
    for member in ["w0", "c0"] {
        cluster.member(member).terminate();
        assert_eq!(cluster.member(member).wait(SOON), Ok(0));
    }
    cluster.start_coordinator("c0");
    cluster.start_worker("w0");
    cluster.wait_for_worker("w0");
    assert_eq!(mode(&cluster), "stopped");
    let explained = cluster.maestro(&["task", "explain", &task, "--format", "table"]);
    assert!(explained.out.contains("shut down"), "{explained:?}");
    let again = json(&cluster.maestro(&["shutdown", "--no-safety-copy", "--format", "json"]));
    assert_eq!((&again["changed"], &again["given_back"]), (&false.into(), &Value::Array(Vec::new())));

    assert_eq!(cluster.maestro(&["queue", "resume"]).code, 0);
    fs::write(cluster.witness().join("go"), "").expect("ours");
    let ended = cluster.maestro(&["task", "wait", &task, "--timeout", "30"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(cluster.witnessed("attempts"), ["1", "2"], "a higher attempt, once");
}

#[test]
fn its_own_grace_period_holds_in_place_of_the_workers() {
    let cluster = TestCluster::start(ClusterSetup::default());
    // Longer than the grace of the worker: see `ClusterSetup::GRACE`.
    let witness = cluster.witness();
    let script = format!(
        "trap 'sleep 2; touch {0}/tidied; exit 1' TERM; touch {0}/ready; while :; do sleep 0.05; done",
        text(&witness)
    );
    let dispatched = json(&cluster.maestro(&["task", "dispatch", &script, "--to", "probe"]));
    let task = dispatched["id"].as_str().expect("an id");
    let has = |name: &str| if witness.join(name).exists() { Ok(()) } else { Err("not yet".to_owned()) };
    cluster.wait_until("the agent to work", SOON, |_| has("ready"));
    let words = ["shutdown", "--grace-period", "20", "--no-safety-copy", "--keep", "--format", "json"];
    let record = json(&cluster.maestro(&words));
    assert_eq!(record["given_back"].as_array().map(Vec::len), Some(1), "{record}");
    assert_eq!(has("tidied"), Ok(()), "it had the time: {}", cluster.tails());
    assert_eq!(record["safety_copy"], Value::Null);

    assert_eq!(cluster.maestro(&["task", "cancel", task]).code, 0);
    assert_eq!(cluster.maestro(&["queue", "resume"]).code, 0);
}

#[test]
fn with_workers_every_process_ends() {
    let mut cluster =
        TestCluster::start(ClusterSetup { coordinators: 2, workers: 2, ..ClusterSetup::default() });
    let words = ["shutdown", "--workers", "--no-safety-copy", "--format", "json"];
    let record = json(&cluster.maestro(&words));
    assert_eq!(record["ended"].as_array().map(Vec::len), Some(4), "{record}");
    for member in ["w0", "w1", "c0", "c1"] {
        assert_eq!(cluster.member(member).wait(Duration::from_secs(10)), Ok(0), "{}", cluster.tails());
    }
}
