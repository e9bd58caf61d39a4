//! `maestro events`, `task wait`, `task retry --dry-run` and `workflow stop --dry-run`, as people see them.

use super::cluster::{Cluster, failed};
use crate::support::PlanSketch;

/// A run of two steps of which the first failed.
fn after_a_failure() -> Cluster {
    let cluster = Cluster::new();
    let worker = cluster.worker("alpha", &["noop"], 4);
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::chain(2));
    cluster.work(&worker, failed(1), "");
    cluster
}

fn table(cluster: &Cluster, words: &[&str]) -> (i32, Vec<String>) {
    let answer = cluster.ask_table(words);
    (answer.code, answer.out.lines().map(|line| line.trim_end().to_owned()).collect())
}

#[test]
fn events_are_a_line_each() {
    let cluster = after_a_failure();
    let (code, lines) = table(&cluster, &["events", "--run", "0aaaaaaaaaa1"]);
    assert_eq!(code, 0);
    // A line begins with the time of day.
    let told: Vec<&str> = lines.iter().map(|line| &line[9..]).collect();
    for line in [
        "run-submitted 0aaaaaaaaaa1",
        "queued 0aaaaaaaaaa1.0 (step0): a:noop",
        "started 0aaaaaaaaaa1.0 (step0) attempt 1 by alpha",
        "failed 0aaaaaaaaaa1.0 (step0) attempt 1 by alpha: exit 1",
        "skipped 0aaaaaaaaaa1.1 (step1)",
        "run-failed 0aaaaaaaaaa1",
    ] {
        assert!(told.contains(&line), "expected `{line}` in {told:?}");
    }
    let (_, of_task) = table(&cluster, &["events", "--task", "0aaaaaaaaaa1.1"]);
    assert_eq!(of_task.len(), 1, "{of_task:?}");
}

#[test]
fn what_was_waited_for_is_a_table_with_its_codes() {
    let cluster = after_a_failure();
    let (code, lines) = table(&cluster, &["task", "wait", "0aaaaaaaaaa1.1", "0aaaaaaaaaa1.0"]);
    assert_eq!(code, 1);
    assert_eq!(
        lines,
        ["ID               STATUS    EXIT", "0aaaaaaaaaa1.1   skipped   1", "0aaaaaaaaaa1.0   failed    1",]
    );
}

#[test]
fn a_retry_is_shown_before_it_is_done() {
    let cluster = after_a_failure();
    let words = ["task", "retry", "0aaaaaaaaaa1.0", "--downstream"];
    let (code, planned) = table(&cluster, &[&words[..], &["--dry-run"]].concat());
    assert_eq!((code, planned.len()), (0, 3), "{planned:?}");
    assert!(planned[1].contains("step0") && planned[1].contains("failed"), "{planned:?}");
    let (code, retried) = table(&cluster, &words);
    assert_eq!((code, retried.len()), (0, 3), "{retried:?}");
    assert!(retried[1].contains("queued") && retried[2].contains("blocked"), "{retried:?}");
    let again = cluster.ask(&words);
    assert_eq!(again.code, 77, "{}", again.picture());
    assert!(again.err.contains("has not ended: it is queued"), "{}", again.picture());
}

#[test]
fn stopping_can_be_tried_dry() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0bbbbbbbbbb1", PlanSketch::chain(2));
    let (code, lines) = table(&cluster, &["workflow", "stop", "sketch", "--dry-run"]);
    assert_eq!((code, lines.len()), (0, 2), "{lines:?}");
    assert!(lines[1].contains("running"), "{lines:?}");
    let status = cluster.ask_json(&["workflow", "status", "0bbbbbbbbbb1"]);
    assert_eq!(status["status"], "running");
}
