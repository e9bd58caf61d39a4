//! Calls of the command that have to end as expected, and waiting for what they ask for.

use std::time::Duration;

use crate::support::{Answer, TestCluster};

/// Longest wait for anything here.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What a call printed, as JSON.
pub(super) fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// A call that has to end with 0; what it printed as JSON.
pub(super) fn done(cluster: &TestCluster, words: &[&str]) -> serde_json::Value {
    let answer = cluster.maestro(words);
    assert_eq!(answer.code, 0, "{words:?}: {answer:?}");
    json(&answer)
}

/// A call that has to end otherwise; what it said.
pub(super) fn refused(cluster: &TestCluster, words: &[&str], code: i32) -> String {
    let answer = cluster.maestro(words);
    assert_eq!(answer.code, code, "{words:?}: {answer:?}");
    assert!(answer.err.contains("hint: "), "it says what to do: {answer:?}");
    answer.err
}

/// Gives an agent or type something to do, and waits until it does; the task's id.
pub(super) fn set_to_work(cluster: &TestCluster, target: &str, script: &str) -> String {
    let task = done(cluster, &["task", "dispatch", script, "--to", target]);
    let id = task["id"].as_str().expect("an id").to_owned();
    wait_for_status(cluster, &id, "running");
    id
}

/// Cancels a task that a test has left running, so that nothing is left at its end.
pub(super) fn let_go(cluster: &TestCluster, task: &str) {
    done(cluster, &["task", "cancel", task]);
    wait_for_status(cluster, task, "cancelled");
}

pub(super) fn wait_for_status(cluster: &TestCluster, task: &str, status: &str) {
    cluster.wait_until(&format!("task {task} to be {status}"), PATIENCE, |_| {
        let now = done(cluster, &["task", "status", task]);
        if now["status"] == status { Ok(()) } else { Err(format!("{now}")) }
    });
}
