//! Ending workers without harm, and which workers serve what.

use std::time::Duration;

use rustix::process::Signal;

use super::calls::{PATIENCE, done, let_go, refused, set_to_work, wait_for_status};
use crate::support::{ClusterSetup, TestCluster};

#[test]
fn a_drain_waits_for_what_runs_and_ends_the_worker() {
    let mut cluster = TestCluster::start(ClusterSetup { concurrency: 1, ..ClusterSetup::default() });
    let gate = cluster.witness().join("gate");
    let script = format!("while ! test -e {}; do sleep 0.1; done", gate.display());
    let running = set_to_work(&cluster, "probe", &script);
    let waiting = done(&cluster, &["task", "dispatch", "true", "--to", "probe"]);
    let waiting = waiting["id"].as_str().expect("an id").to_owned();
    cluster.start_command("drainer", &["worker", "drain", "w0", "--deadline", "1h"]);
    let draining = |cluster: &TestCluster| {
        let list = done(cluster, &["worker", "list"]);
        let w0 = list.as_array().and_then(|list| list.iter().find(|one| one["name"] == "w0")).cloned();
        w0.map(|one| one["status"].as_str().unwrap_or_default().to_owned())
    };
    cluster.wait_until("it to drain", PATIENCE, |_| match draining(&cluster).as_deref() {
        Some("draining") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    std::fs::write(&gate, "").expect("written");
    assert_eq!(cluster.member("drainer").wait(PATIENCE), Ok(0));
    let said = cluster.member("drainer").log();
    assert!(said.contains(&format!("worker `w0` still runs 1 task: `{running}`")), "{said}");
    assert_eq!(cluster.member("w0").wait(PATIENCE), Ok(0));
    wait_for_status(&cluster, &running, "completed");
    assert_eq!(done(&cluster, &["task", "status", &waiting])["status"], "queued", "nothing new was begun");
    assert!(refused(&cluster, &["worker", "drain", "w0"], 66).contains("there is no worker `w0`"));
    cluster.start_worker("w1");
    wait_for_status(&cluster, &waiting, "completed");
}

#[test]
fn what_is_ended_by_force_goes_back_uncounted() {
    let mut cluster = TestCluster::start(ClusterSetup::default());
    let task = set_to_work(&cluster, "probe", "sleep 600");
    cluster.start_command("drainer", &["worker", "drain", "w0"]);
    cluster.wait_until("it to drain", PATIENCE, |_| {
        let list = done(&cluster, &["worker", "list"]);
        if list[0]["status"] == "draining" { Ok(()) } else { Err(list.to_string()) }
    });
    cluster.member("drainer").signal(Signal::INT);
    assert_eq!(cluster.member("drainer").wait(Duration::from_secs(5)), Ok(130));
    assert!(cluster.member("drainer").log().contains("goes on draining"));
    assert!(cluster.member("w0").is_running());
    assert_eq!(done(&cluster, &["task", "status", &task])["status"], "running");

    let gone = done(&cluster, &["worker", "drain", "w0", "--force"]);
    assert_eq!((gone["status"].as_str(), gone["held"].as_u64()), (Some("gone"), Some(1)));
    assert_eq!(cluster.member("w0").wait(PATIENCE), Ok(0));
    let back = done(&cluster, &["task", "status", &task]);
    assert_eq!(back["status"], "queued");
    assert_eq!((back["failures"].as_u64(), back["losses"].as_u64()), (Some(0), Some(0)));
    let_go(&cluster, &task);
}

#[test]
fn a_worker_is_found_by_its_host_if_it_is_the_only_one_there() {
    let mut cluster = TestCluster::start(ClusterSetup::default());
    cluster.start_worker("w1");
    cluster.wait_for_worker("w1");
    let said = refused(&cluster, &["worker", "drain", "--this-host"], 2);
    assert!(said.contains("has several workers: `w0`, `w1`"), "{said}");
    done(&cluster, &["worker", "drain", "w0", "--force"]);
    assert_eq!(done(&cluster, &["worker", "drain", "--this-host", "--force"])["name"], "w1");
    assert_eq!(cluster.member("w1").wait(PATIENCE), Ok(0));
    let said = refused(&cluster, &["worker", "drain", "--this-host"], 66);
    assert!(said.contains("has no live worker"), "{said}");
}

#[test]
fn labels_and_chosen_types_decide_who_serves() {
    let mut cluster = TestCluster::start(ClusterSetup { workers: 0, ..ClusterSetup::default() });
    cluster.write_agent("painter", "command: [sh, -c, \"true\"]\nworker_labels: {gpu: \"true\"}\n");
    let root = cluster.root().display().to_string();
    cluster.start_worker_with("w0", &root, &["--agents", "probe"]);
    cluster.wait_for_worker("w0");
    let said = refused(&cluster, &["task", "dispatch", "x", "--to", "noop"], 75);
    assert!(said.contains("no live worker serves"), "{said}");
    let file = cluster.write_workflow("painter", "x");
    let agent = file.parent().and_then(|work| work.parent()).expect("a folder").join("agents.d/painter.yaml");
    let registered = cluster.maestro(&["agent", "register", agent.to_str().expect("a plain path")]);
    assert_eq!(registered.code, 0, "{registered:?}");
    assert!(registered.err.contains("no worker can serve `painter`"), "{registered:?}");
    assert!(registered.err.contains("lacks the label `gpu=true`"), "{registered:?}");
    cluster.start_worker_with("w1", &root, &["--label", "gpu=true", "--agents", "painter,noop"]);
    cluster.wait_for_worker("w1");
    let task = done(&cluster, &["task", "dispatch", "x", "--to", "noop"]);
    let task = task["id"].as_str().expect("an id").to_owned();
    wait_for_status(&cluster, &task, "completed");
    assert_eq!(done(&cluster, &["task", "status", &task])["worker"], "w1");
    let answer = cluster.maestro(&["agent", "health", "painter"]);
    assert_eq!((answer.code, answer.out.as_str()), (0, "status: healthy\n"), "{answer:?}");
    let painted = done(&cluster, &["task", "dispatch", "x", "--to", "painter"]);
    wait_for_status(&cluster, painted["id"].as_str().expect("an id"), "completed");
}
