//! What an operator does with agents, workers and folders day by day, against real processes.
//!
//! - `assigning`: making agents and moving them; `standing`: what is said of them
//! - `resetting`: starting over; `draining`: ending workers; `folders`: what lies on disk
//! - `trouble`: each command where nothing can be done

#[path = "housekeeping/assigning.rs"]
mod assigning;
#[path = "housekeeping/draining.rs"]
mod draining;
#[path = "housekeeping/folders.rs"]
mod folders;
#[path = "housekeeping/resetting.rs"]
mod resetting;
#[path = "housekeeping/standing.rs"]
mod standing;
mod support;
#[path = "housekeeping/trouble.rs"]
mod trouble;

use std::time::Duration;

use support::{Answer, TestCluster};

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a call printed, as JSON.
fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// A call that has to end with 0; what it printed as JSON.
fn done(cluster: &TestCluster, words: &[&str]) -> serde_json::Value {
    let answer = cluster.maestro(words);
    assert_eq!(answer.code, 0, "{words:?}: {answer:?}");
    json(&answer)
}

/// A call that has to end otherwise; what it said.
fn refused(cluster: &TestCluster, words: &[&str], code: i32) -> String {
    let answer = cluster.maestro(words);
    assert_eq!(answer.code, code, "{words:?}: {answer:?}");
    assert!(answer.err.contains("hint: "), "it says what to do: {answer:?}");
    answer.err
}

/// Gives an agent or type something to do, and waits until it does; the task's id.
fn set_to_work(cluster: &TestCluster, target: &str, script: &str) -> String {
    let task = done(cluster, &["task", "dispatch", script, "--to", target]);
    let id = task["id"].as_str().expect("an id").to_owned();
    wait_for_status(cluster, &id, "running");
    id
}

/// Cancels a task that a test has left running, so that nothing is left at its end.
fn let_go(cluster: &TestCluster, task: &str) {
    done(cluster, &["task", "cancel", task]);
    wait_for_status(cluster, task, "cancelled");
}

fn wait_for_status(cluster: &TestCluster, task: &str, status: &str) {
    cluster.wait_until(&format!("task {task} to be {status}"), PATIENCE, |_| {
        let now = done(cluster, &["task", "status", task]);
        if now["status"] == status { Ok(()) } else { Err(format!("{now}")) }
    });
}
