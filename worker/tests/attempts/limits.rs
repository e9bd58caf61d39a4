//! Ending an agent from outside: limits, cancel, return, grace.

use std::fs;
use std::time::{Duration, Instant};

use maestro_model::attempt::{AttemptOutcome, AttemptReport};
use maestro_model::task::Reason;
use maestro_worker::attempt::{AttemptEnd, AttemptHandle, AttemptOrder, StopKind};
use maestro_worker::launch::MainEnd;
use tokio::task::JoinHandle;

use crate::support::{DEADLINE, Site, failed, file_appears};

/// Starts an attempt and waits until its script has made the file `ready`.
async fn start(site: &Site, order: AttemptOrder) -> (AttemptHandle, JoinHandle<AttemptEnd>) {
    let ready = site.paths(&order).folder.join("ready");
    let attempt = site.runner.attempt(order, None);
    let handle = attempt.handle();
    let running = tokio::spawn(attempt.run());
    file_appears(&ready).await;
    (handle, running)
}

async fn ended(running: JoinHandle<AttemptEnd>) -> AttemptEnd {
    tokio::time::timeout(DEADLINE, running).await.expect("it ends").expect("no panic")
}

#[tokio::test]
async fn a_timeout_ends_the_tree() {
    let site = Site::new();
    let mut order = site.script("sleep 1000 & sleep 1000");
    order.timeout = Duration::from_millis(300);
    let started = Instant::now();
    let end = site.run(order).await;
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(failed(&end), (Reason::Timeout, None, "ran longer than its timeout of 0.3s"));
    assert_eq!(end.tree.expect("it ran").main, MainEnd::Signaled(15));
}

#[tokio::test]
async fn silence_is_a_stall_and_output_is_not() {
    let site = Site::new();
    let mut order = site.script("echo begin; sleep 1000");
    order.stall_timeout = Some(Duration::from_millis(300));
    let end = site.run(order).await;
    assert_eq!(failed(&end), (Reason::Stalled, None, "made no output for 0.3s"));

    let mut order = site.script("for i in 1 2 3 4 5 6 7 8; do printf . >&2; sleep 0.2; done");
    order.stall_timeout = Some(Duration::from_millis(800));
    let end = site.run(order).await;
    assert_eq!(end.report.outcome, AttemptOutcome::Completed);
    assert!(end.ran_for > Duration::from_millis(1500));
}

#[tokio::test]
async fn cancel_and_return_end_an_agent_with_sigterm() {
    let site = Site::new();
    for (kind, outcome) in
        [(StopKind::Cancel, AttemptOutcome::Cancelled), (StopKind::Return, AttemptOutcome::Returned)]
    {
        let order = site.script("trap 'echo bye; exit 0' TERM; touch ready; while :; do sleep 0.05; done");
        let log = site.paths(&order).log();
        let (handle, running) = start(&site, order).await;
        handle.stop(kind);
        handle.stop(StopKind::Return);
        let end = ended(running).await;
        // What it did on its way out is in its log, and does not make it a success.
        assert_eq!(end.report, AttemptReport::plain(outcome));
        let log = fs::read_to_string(log).expect("there");
        assert!(log.contains("bye\n"), "{log}");
        site.assert_no_survivors();
    }
}

#[tokio::test]
async fn an_agent_that_ignores_sigterm_is_killed_after_its_grace() {
    let site = Site::new();
    let mut order = site.script("trap '' TERM; touch ready; while :; do sleep 0.05; done");
    order.grace = Duration::from_millis(500);
    let (handle, running) = start(&site, order).await;
    let asked = Instant::now();
    handle.stop(StopKind::Cancel);
    let end = ended(running).await;
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(10), "{took:?}");
    assert_eq!(end.report.outcome, AttemptOutcome::Cancelled);
    assert_eq!(end.tree.expect("it ran").main, MainEnd::Signaled(9));
    site.assert_no_survivors();
}

#[tokio::test]
async fn a_second_thought_needs_no_grace() {
    let site = Site::new();
    let mut order = site.script("trap '' TERM; touch ready; while :; do sleep 0.05; done");
    order.grace = Duration::from_secs(1000);
    let (handle, running) = start(&site, order).await;
    handle.stop(StopKind::Return);
    handle.stop_now(StopKind::Return);
    assert_eq!(ended(running).await.report.outcome, AttemptOutcome::Returned);
    site.assert_no_survivors();
}

#[tokio::test]
async fn the_shorter_of_two_graces_counts_and_a_longer_one_only_at_first() {
    let site = Site::new();
    let ignoring = "trap '' TERM; touch ready; while :; do sleep 0.05; done";
    let mut order = site.script(ignoring);
    order.grace = Duration::from_secs(1000);
    let (handle, running) = start(&site, order).await;
    handle.stop(StopKind::Return);
    handle.stop_within(StopKind::Return, Duration::from_millis(300));
    assert_eq!(ended(running).await.report.outcome, AttemptOutcome::Returned);

    let mut order =
        site.script("trap 'sleep 1; touch saved; exit' TERM; touch ready; while :; do sleep 0.05; done");
    order.grace = Duration::ZERO;
    let saved = site.paths(&order).folder.join("saved");
    let (handle, running) = start(&site, order).await;
    handle.stop_within(StopKind::Return, Duration::from_secs(100));
    handle.stop(StopKind::Return);
    assert_eq!(ended(running).await.report.outcome, AttemptOutcome::Returned);
    assert!(saved.exists(), "it had the time that was given, not its own");
    site.assert_no_survivors();
}

#[tokio::test]
async fn everything_below_an_agent_has_the_grace_too() {
    let site = Site::new();
    let order = site.script(
        "(trap 'sleep 0.3; echo saved > saved; exit' TERM; touch ready; while :; do sleep 0.05; done) & sleep 1000",
    );
    let saved = site.paths(&order).folder.join("saved");
    let (handle, running) = start(&site, order).await;
    handle.stop(StopKind::Cancel);
    assert_eq!(ended(running).await.report.outcome, AttemptOutcome::Cancelled);
    assert_eq!(fs::read_to_string(saved).expect("it had the time"), "saved\n");
    site.assert_no_survivors();
}

#[tokio::test]
async fn a_cancel_during_the_grace_of_a_timeout_counts() {
    let site = Site::new();
    let mut order = site.script("trap 'touch ready' TERM; while :; do sleep 0.05; done");
    order.timeout = Duration::from_millis(200);
    let (handle, running) = start(&site, order).await;
    handle.stop_now(StopKind::Cancel);
    assert_eq!(ended(running).await.report.outcome, AttemptOutcome::Cancelled);
    site.assert_no_survivors();
}

#[tokio::test]
async fn an_attempt_that_is_stopped_before_it_runs_never_starts() {
    let site = Site::new();
    let order = site.script("touch started");
    let folder = site.paths(&order).folder;
    let attempt = site.runner.attempt(order, None);
    attempt.handle().stop(StopKind::Return);
    let end = attempt.run().await;
    assert_eq!(end.report.outcome, AttemptOutcome::Returned);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_dropped_attempt_is_killed() {
    let site = Site::new();
    let order = site.script("touch ready; sleep 1000 & sleep 1000");
    let (_handle, running) = start(&site, order).await;
    running.abort();
    crate::support::eventually("its processes to go", || {
        crate::support::marked(&site.mark).is_empty().then_some(())
    })
    .await;
}
