//! Draining, cancelling, and names that are taken.

use std::time::{Duration, Instant};

use maestro_model::task::TaskStatus;
use maestro_store::runs::RunStatus;

use crate::graphs::{long_at_first, napping, noting, step, workflow};
use crate::records::{clean_audit, notes, record, wait_until_busy};
use crate::support::{ClusterSetup, TestCluster, processes_with};

/// What a loaded machine may add to a time that is measured.
const SLACK: Duration = Duration::from_secs(3);

#[test]
fn a_worker_told_to_end_lets_its_tasks_go_on_and_gives_back_the_rest_unburned() {
    let drain = Duration::from_secs(4);
    let env = vec![("MAESTRO_DRAIN_DEADLINE", "4s".to_owned())];
    let mut cluster = TestCluster::start(ClusterSetup { env, ..ClusterSetup::default() });
    let steps = vec![
        step("short", &[], &napping(2.0)),
        step("long", &[], &long_at_first()),
        step("after", &["short".to_owned()], &napping(0.1)),
    ];
    let run = cluster.submit_text("drain", &workflow("drain", &cluster.witness(), steps));
    wait_until_busy(&cluster, &run, "w0", 2);
    cluster.member("w0").terminate();
    let told_at = Instant::now();
    cluster.start_worker("w1");
    assert_eq!(cluster.member("w0").wait(drain + ClusterSetup::GRACE + SLACK), Ok(0));
    assert!(
        told_at.elapsed() >= Duration::from_secs(3),
        "the long one had its time: {:?}",
        told_at.elapsed()
    );
    let end = cluster.wait_for_run(&run, Duration::from_secs(20));
    assert_eq!(end.status, RunStatus::Completed);
    let story = cluster.story(&run);
    let counters = |name: &str| {
        let record = record(&story, name);
        (record.attempt.0, record.failures, record.losses)
    };
    assert_eq!(counters("short"), (1, 0, 0), "it ended by itself");
    assert_eq!(counters("long"), (2, 0, 0), "it was given back unburned");
    let worker_of =
        |step: &str| notes(&cluster).iter().rfind(|note| note.step == step).map(|note| note.worker.clone());
    assert_eq!(worker_of("after").as_deref(), Some("w1"), "a worker that drains claims nothing");
    let report = clean_audit(&cluster);
    assert_eq!((report.lost, report.returned), (0, 1));
}

#[test]
fn told_twice_a_worker_ends_at_once() {
    let mut cluster = TestCluster::start(ClusterSetup::default());
    let steps = ["a", "b"].map(|id| step(id, &[], &long_at_first())).to_vec();
    let run = cluster.submit_text("twice", &workflow("twice", &cluster.witness(), steps));
    wait_until_busy(&cluster, &run, "w0", 2);
    let told_at = Instant::now();
    cluster.member("w0").terminate();
    // Two signals of one kind that come at the same time are one.
    std::thread::sleep(Duration::from_millis(300));
    cluster.member("w0").terminate();
    assert_eq!(cluster.member("w0").wait(ClusterSetup::GRACE + SLACK), Ok(0));
    let took = told_at.elapsed();
    cluster.start_worker("w1");
    assert_eq!(cluster.wait_for_run(&run, Duration::from_secs(20)).status, RunStatus::Completed, "{took:?}");
    let story = cluster.story(&run);
    for step in ["a", "b"] {
        let record = record(&story, step);
        assert_eq!((record.attempt.0, record.failures, record.losses), (2, 0, 0), "{step}");
    }
    assert_eq!(clean_audit(&cluster).returned, 2);
}

#[test]
fn a_cancelled_run_leaves_no_process_of_agents_that_will_not_go() {
    let cluster = TestCluster::start(ClusterSetup { workers: 2, ..ClusterSetup::default() });
    // A tree that ignores SIGTERM, with a part that has left the session.
    let stubborn = format!(
        "trap '' TERM\nsh -c \"trap '' TERM; while :; do sleep 1; done\" &\n\
         setsid sh -c \"trap '' TERM; while :; do sleep 1; done\" &\n{}\nwhile :; do sleep 1; done",
        noting("S")
    );
    let mut steps: Vec<_> = ["a", "b", "c"].iter().map(|id| step(id, &[], &stubborn)).collect();
    steps.push(step("after", &["a".to_owned()], &napping(0.1)));
    let run = cluster.submit_text("stubborn", &workflow("stubborn", &cluster.witness(), steps));
    cluster.wait_until("three agents", Duration::from_secs(20), |_| {
        let begun = notes(&cluster).len();
        if begun == 3 { Ok(()) } else { Err(format!("{begun} lines")) }
    });
    let agents = cluster.root().join("probe");
    assert!(processes_with(&agents).len() >= 9, "{:?}", processes_with(&agents));

    let stop = cluster.maestro(&["workflow", "stop", run.as_str(), "--reason", "the test"]);
    let told_at = Instant::now();
    assert_eq!(stop.code, 0, "{stop:?}");
    let longest = Duration::from_secs(1) + ClusterSetup::GRACE + SLACK;
    cluster.wait_until("the agents to go", longest, |_| {
        let left = processes_with(&agents);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let took = told_at.elapsed();
    assert_eq!(cluster.wait_for_run(&run, SLACK).status, RunStatus::Cancelled, "after {took:?}");
    let story = cluster.story(&run);
    for task in &story.tasks {
        let never_ran = matches!(task.status, TaskStatus::Cancelled | TaskStatus::Skipped);
        assert!(never_ran, "{}: {:?}", task.own.label(), task.status);
    }
    assert_eq!(notes(&cluster).len(), 3, "nothing starts after a cancel");
    clean_audit(&cluster);
}

#[test]
fn a_name_is_held_by_one_worker_at_a_time() {
    let mut cluster = TestCluster::start(ClusterSetup::default());
    let second = cluster.maestro(&["worker", "start", "--name", "w0"]);
    assert_eq!(second.code, 77, "{second:?}");
    assert!(second.err.contains("another worker on this host is named `w0`"), "{second:?}");
    // As on another host, where no lock of the first can be seen.
    let elsewhere = cluster.root().with_file_name("elsewhere");
    let asked = ["worker", "start", "--name", "w0"];
    let third = cluster
        .maestro_with(&[("MAESTRO_WORKSPACE_ROOT", elsewhere.to_str().expect("a plain path"))], &asked);
    assert_eq!(third.code, 77, "{third:?}");
    assert!(third.err.contains("`w0`"), "{third:?}");
    let text = workflow("after", &cluster.witness(), vec![step("a", &[], &napping(0.1))]);
    let run = cluster.submit_text("after", &text);
    assert_eq!(cluster.wait_for_run(&run, Duration::from_secs(20)).status, RunStatus::Completed);
    // Killed, its name is free for its successor on this host at once.
    cluster.member("w0").kill();
    let killed_at = Instant::now();
    cluster.start_worker("w0");
    cluster.wait_for_worker("w0");
    assert!(killed_at.elapsed() < ClusterSetup::LEASE / 2, "{:?}", killed_at.elapsed());
}
