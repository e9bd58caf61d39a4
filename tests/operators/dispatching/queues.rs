//! Pausing, the audit stream, and emptying Redis.

use std::time::Duration;

use serde_json::Value;

use crate::support::{ClusterSetup, TestCluster, wait_until};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_paused_cluster_starts_nothing_until_it_is_resumed() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let paused = cluster.maestro(&["queue", "pause", "--reason", "deploy freeze", "--format", "json"]);
    assert_eq!(paused.code, 0, "{paused:?}");
    let paused = json(&paused.out);
    assert_eq!((&paused["mode"], &paused["changed"]), (&"paused".into(), &true.into()));
    let again = json(&cluster.maestro(&["queue", "pause", "--format", "json"]).out);
    assert_eq!(again["changed"], false);

    let id = json(&cluster.maestro(&["task", "dispatch", "true", "--to", "probe"]).out)["id"].clone();
    let id = id.as_str().expect("an id");
    let explained = cluster.maestro(&["task", "explain", id, "--format", "table"]);
    assert!(explained.out.contains("the cluster is paused by "), "{explained:?}");
    assert!(explained.out.contains("(deploy freeze)"), "{explained:?}");
    let status = cluster.maestro(&["queue", "status"]);
    assert!(status.err.contains("deploy freeze"), "{status:?}");
    let waited = cluster.maestro(&["task", "wait", id, "--timeout", "1"]);
    assert_eq!(waited.code, 124, "{waited:?}");

    assert_eq!(cluster.maestro(&["queue", "resume"]).code, 0);
    let twice = cluster.maestro(&["queue", "resume"]);
    assert_eq!(twice.code, 0, "{twice:?}");
    let waited = cluster.maestro(&["task", "wait", id, "--timeout", "30"]);
    assert_eq!(waited.code, 0, "{waited:?}");
}

#[test]
fn the_audit_stream_tells_a_task_from_its_queue_to_its_end() {
    let mut cluster = TestCluster::start(ClusterSetup::default());
    // From before it began: on a busy machine the task may have ended by the time the watcher looks.
    cluster.start_command("watcher", &["events", "-f", "--since", "10m", "--format", "jsonl"]);
    let answer = cluster.maestro(&["task", "dispatch", "exit 3", "--to", "probe", "--sync"]);
    assert_eq!(answer.code, 3, "{answer:?}");
    let words = |words: &[&str]| {
        let answer = cluster.maestro(&[&["events", "--format", "json"], words].concat());
        assert_eq!(answer.code, 0, "{answer:?}");
        json(&answer.out).as_array().cloned().expect("a list")
    };
    let of_task = words(&["--task", "last"]);
    let kinds: Vec<&str> = of_task.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(kinds, ["queued", "started", "failed"]);
    let end = &of_task[2];
    assert_eq!((&end["reason"], &end["exit_code"], &end["actor"]), (&"exit".into(), &3.into(), &"w0".into()));
    assert_eq!(end["step"], "probe");
    let of_run = words(&["--run", "last", "--since", "10m"]);
    assert_eq!(of_run.first().map(|event| &event["event"]), Some(&"run-submitted".into()));
    assert_eq!(of_run.last().map(|event| &event["event"]), Some(&"run-failed".into()));
    let watcher = cluster.member("watcher");
    let seen = wait_until("the watcher to see the end", Duration::from_secs(10), || {
        let log = watcher.log();
        if log.contains("run-failed") { Ok(()) } else { Err(log) }
    });
    assert_eq!(seen, Ok(()));
    watcher.signal(rustix::process::Signal::INT);
    let _ended_by_a_signal = watcher.wait(Duration::from_secs(5));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let answer = cluster.shell(
        r#"set -eu
        for n in 1 2 3; do maestro task dispatch "true" --to probe --sync > /dev/null; done
        for words in "events" "task list" "workflow runs" "queue status" "worker list" "doctor"; do
          { maestro $words --format jsonl; echo $? > code; } | head -1 > /dev/null
          echo "$words: $(cat code)"
        done"#,
    );
    for line in answer.out.lines() {
        assert!(line.ends_with(": 0"), "{answer:?}");
    }
    assert_eq!((answer.code, answer.out.lines().count()), (0, 6), "{answer:?}");
}

#[test]
fn a_flush_takes_this_namespace_and_nothing_else() {
    let cluster = TestCluster::start(ClusterSetup::default());
    assert_eq!(cluster.maestro(&["state", "set", "mine", "1"]).code, 0);
    let mut raw = cluster.redis.connection().expect("redis is there");
    for key in ["other", "trialx:{1.0}:ctl", "trial2:ctl"] {
        redis::cmd("SET").arg(key).arg("kept").exec(&mut raw).expect("set");
    }
    let refused = cluster.maestro(&["redis", "flush"]);
    assert_eq!(refused.code, 77, "{refused:?}");
    assert!(refused.err.contains("--yes"), "{refused:?}");
    let dry = json(&cluster.maestro(&["redis", "flush", "--dry-run", "--format", "json"]).out);
    assert_eq!(dry["flushed"], false);
    assert!(dry["keys"].as_u64().expect("a number") > 5, "{dry}");
    let flushed = cluster.maestro(&["redis", "flush", "--yes", "--format", "json"]);
    assert_eq!(flushed.code, 0, "{flushed:?}");
    assert_eq!(json(&flushed.out)["flushed"], true);
    for key in ["other", "trialx:{1.0}:ctl", "trial2:ctl"] {
        let kept: Option<String> = redis::cmd("GET").arg(key).query(&mut raw).expect("an answer");
        assert_eq!(kept.as_deref(), Some("kept"), "{key}");
        redis::cmd("DEL").arg(key).exec(&mut raw).expect("deleted");
    }
    let gone = cluster.maestro(&["state", "get", "mine"]);
    assert_eq!(gone.code, 66, "{gone:?}");
    let twice = cluster.maestro(&["redis", "flush", "--yes"]);
    assert_eq!(twice.code, 0, "{twice:?}");
    // The processes begin anew.
    let answer = cluster.maestro(&["task", "dispatch", "true", "--to", "probe"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let waited = cluster.maestro(&["task", "wait", "last", "--timeout", "40"]);
    assert_eq!(waited.code, 0, "{waited:?}");
}
