//! The code with which a followed dispatch ends, and who may be dispatched to at all.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{ClusterSetup, TestCluster};

fn cluster() -> TestCluster {
    TestCluster::start(ClusterSetup::default())
}

#[test]
fn each_end_has_its_code() {
    let cluster = cluster();
    let table: [(&[&str], i32); 6] = [
        (&["true"], 0),
        (&["exit 3"], 3),
        (&["kill -9 $$"], 137),
        (&["kill -15 $$"], 143),
        (&["sleep 60", "--timeout", "1"], 124),
        (&["<< state.missing >>"], 1),
    ];
    for (words, code) in table {
        let all = [&["task", "dispatch", "--to", "probe", "--sync"], words].concat();
        let answer = cluster.maestro(&all);
        assert_eq!(answer.code, code, "{words:?}: {answer:?}");
    }
}

#[test]
fn the_first_target_that_failed_says_the_code_whichever_ended_first() {
    let cluster = cluster();
    cluster.write_agent("late", "command: [sh, -c, \"sleep 1; exit 5\", \"<< prompt >>\"]\n");
    cluster.write_agent("early", "command: [sh, -c, \"exit 6\", \"<< prompt >>\"]\n");
    for (targets, code) in [("late,early", 5), ("early,late", 6), ("noop,late", 5)] {
        let answer = cluster.maestro(&["task", "dispatch", "go", "--to", targets, "--sync"]);
        assert_eq!(answer.code, code, "{targets}: {answer:?}");
    }
}

#[test]
fn ctrl_c_leaves_a_followed_dispatch_going_and_cancel_ends_it() {
    let mut cluster = cluster();
    cluster.start_command("follower", &["task", "dispatch", "sleep 60", "--to", "probe", "--sync"]);
    let status = || {
        let answer = cluster.maestro(&["task", "status", "--last", "probe", "--format", "json"]);
        serde_json::from_str::<serde_json::Value>(&answer.out).unwrap_or_default()
    };
    let task = cluster.wait_until("it to run", Duration::from_secs(20), |_| {
        let task = status();
        if task["status"] == "running" { Ok(task) } else { Err(format!("{task}")) }
    });
    let id = task["id"].as_str().expect("an id").to_owned();
    cluster.member("follower").signal(Signal::INT);
    assert_eq!(cluster.member("follower").wait(Duration::from_secs(5)), Ok(130));
    let said = cluster.member("follower").log();
    assert!(said.contains(&format!("maestro task wait {id}")), "{said}");

    cluster.start_command("waiter", &["task", "wait", &id]);
    let limited = cluster.maestro(&["task", "wait", &id, "--timeout", "200ms"]);
    assert_eq!(limited.code, 124, "{limited:?}");
    assert_eq!(cluster.maestro(&["task", "cancel", &id]).code, 0);
    assert_eq!(cluster.member("waiter").wait(Duration::from_secs(20)), Ok(130));
    let again = cluster.maestro(&["task", "cancel", &id]);
    assert_eq!(again.code, 0, "twice in a row: {again:?}");
}

#[test]
fn what_cannot_be_dispatched_says_why_and_makes_nothing() {
    let cluster = cluster();
    let table: [(&[&str], i32, &str); 8] = [
        (&["go", "--to", "prob"], 66, "did you mean `probe`?"),
        (&["go", "--to", "probe,probe"], 2, "named twice"),
        (&["go", "--to", "probe", "--priority", "6"], 2, "6"),
        (&["go", "--to", "probe", "--env", "=x"], 2, "NAME=VALUE"),
        (&["go", "--to", "probe", "--depends-on", "0zzz"], 66, "there is no run `0zzz`"),
        (&["<< steps.a.result >>", "--to", "probe"], 2, "cannot be read in a dispatch"),
        (&["go", "--to", "probe", "--key", ""], 2, "key"),
        (&["go", "--to", "gone"], 75, "no live worker serves"),
    ];
    cluster.write_agent("gone", "command: [/no/such/program, \"<< prompt >>\"]\n");
    let registered = cluster.maestro(&["agent", "register", "../agents.d/gone.yaml"]);
    assert_eq!(registered.code, 0, "{registered:?}");
    for (words, code, message) in table {
        let answer = cluster.maestro(&[&["task", "dispatch"], words].concat());
        assert_eq!(answer.code, code, "{words:?}: {answer:?}");
        assert!(answer.err.contains(message), "{words:?}: expected `{message}` in {answer:?}");
    }
    let runs = cluster.maestro(&["workflow", "runs", "--format", "json"]);
    assert_eq!(runs.out.trim(), "[]");
}

#[test]
fn with_no_worker_alive_a_dispatch_waits_and_says_so() {
    let mut cluster = TestCluster::start(ClusterSetup { workers: 0, ..ClusterSetup::default() });
    let answer = cluster.maestro(&["task", "dispatch", "echo hello", "--to", "probe", "--format", "json"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.err.contains("no worker is alive"), "{answer:?}");
    cluster.start_worker("w0");
    let waited = cluster.maestro(&["task", "wait", "last", "--timeout", "30"]);
    assert_eq!(waited.code, 0, "{waited:?}");
}
