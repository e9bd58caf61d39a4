//! `maestro task explain`: each reason a task may have for standing where it stands.

use maestro_model::task::Reason;
use maestro_store::step::Ending;
use maestro_store::worker::ProcessStatus;

use super::cluster::{COMPLETED, Cluster, LEASE, failed, message, picture};
use crate::support::PlanSketch;

fn explain(cluster: &Cluster, id: &str) -> String {
    let answer = cluster.ask_table(&["task", "explain", id]);
    assert_eq!(answer.code, 0, "{}", answer.picture());
    picture(&answer)
}

#[test]
fn a_blocked_task_names_the_steps_it_waits_for() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::new(4).needs(3, &[0, 1, 2]));
    let worker = cluster.worker("alpha", &["noop"], 4);
    cluster.work(&worker, COMPLETED, "");
    cluster.claim(&worker, 1);
    insta::assert_snapshot!(explain(&cluster, "last/step3"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.3` (step3) is blocked: it waits for 2 of 3 steps
      `step1` (0aaaaaaaaaa1.1) has to complete; it is running
      `step2` (0aaaaaaaaaa1.2) has to complete; it is queued

    hint: `maestro task explain 0aaaaaaaaaa1.2` says what `step2` does
    ");
    let record = cluster.ask_json(&["task", "explain", "last/step3"]);
    assert_eq!(
        (record["status"].as_str(), record["details"][0].is_string()),
        (Some("blocked"), true),
        "{record}"
    );
}

#[test]
fn a_step_is_found_among_many_that_wait_for_the_same() {
    let cluster = Cluster::new();
    let sketch = (1..200).fold(PlanSketch::new(200), |sketch, index| sketch.needs(index, &[0]));
    cluster.submit_sketch("0aaaaaaaaaa1", sketch);
    let told = explain(&cluster, "last/step199");
    assert!(
        told.contains("it waits for 1 step\n  `step0` (0aaaaaaaaaa1.0) has to complete; it is queued"),
        "{told}"
    );
}

#[test]
fn a_queued_task_says_who_is_missing() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::new(3));
    insta::assert_snapshot!(explain(&cluster, "last/step2"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.2` (step2) is queued: no worker is alive
      it stands at place 3 of 3 in its queue

    hint: start one with `maestro worker start`, or a whole cluster with `maestro up`
    ");
    let other = cluster.worker("other", &["shell", "claude"], 4);
    insta::assert_snapshot!(explain(&cluster, "last/step2"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.2` (step2) is queued: no worker serves `noop`
      worker `other` on host1: 0 of 4 slots taken, serves shell, claude
      it stands at place 3 of 3 in its queue

    hint: `maestro doctor`, on a worker's host, says what that host lacks for which type
    ");
    cluster.wait(cluster.store.detach(&other.incarnation)).expect("detached");
    let worker = cluster.worker("alpha", &["noop"], 1);
    insta::assert_snapshot!(explain(&cluster, "last/step0"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.0` (step0) is queued: it is about to start: a worker has room
      worker `alpha` on host1: 0 of 1 slots taken, serves noop
      it stands at place 1 of 3 in its queue
    ");
    cluster.claim(&worker, 1);
    insta::assert_snapshot!(explain(&cluster, "last/step2"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.2` (step2) is queued: the one worker that serves `noop` is full
      worker `alpha` on host1: 1 of 1 slots taken, serves noop
      it stands at place 2 of 2 in its queue

    hint: start another worker, or one with a higher `--concurrency`
    ");
    let status = ProcessStatus { draining: true, ..ProcessStatus::default() };
    let types = ["noop".to_owned()];
    let beat = cluster.store.beat(&worker.incarnation, LEASE, &types, &status, &[]);
    cluster.wait(beat).expect("answered");
    insta::assert_snapshot!(explain(&cluster, "last/step2"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.2` (step2) is queued: every worker that serves `noop` is draining
      worker `alpha` on host1: 1 of 1 slots taken, serves noop; draining
      it stands at place 2 of 2 in its queue

    hint: start another one with `maestro worker start`
    ");
}

#[test]
fn a_limit_of_its_type_is_named_with_its_holders() {
    let cluster = Cluster::new();
    let limits: String = format!("{}limits", cluster.store.keys().prefix());
    let _: u32 =
        redis::cmd("HSET").arg(limits).arg("noop").arg(1).query(&mut cluster.redis.raw()).expect("set");
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::new(2));
    let worker = cluster.worker("alpha", &["noop"], 4);
    cluster.claim(&worker, 2);
    insta::assert_snapshot!(explain(&cluster, "last/step1"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.1` (step1) is queued: `noop` is at its limit: 1 of 1 at a time across the cluster
      held by `0aaaaaaaaaa1.0`
      it stands at place 1 of 1 in its queue
    ");
}

#[test]
fn a_run_at_its_limit_is_named() {
    let cluster = Cluster::new();
    let mut sketch = PlanSketch::new(2);
    sketch.policy.concurrency = Some(1);
    cluster.submit_sketch("0aaaaaaaaaa1", sketch);
    insta::assert_snapshot!(explain(&cluster, "last/step1"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.1` (step1) is queued: its run is at its limit: `concurrency: 1`, and 1 of its tasks run or stand in queues

    hint: `maestro workflow status 0aaaaaaaaaa1` shows which
    ");
}

#[test]
fn an_item_waits_for_its_turn() {
    let cluster = Cluster::new();
    let mut sketch = PlanSketch::new(1);
    sketch.tasks[0].items = Some((3, Some(1)));
    cluster.submit_sketch("0aaaaaaaaaa1", sketch);
    insta::assert_snapshot!(explain(&cluster, "last/step0[2]"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.3` (step0[2]) is blocked: it waits for its turn: `step0` works on at most 1 item at a time
      1 item before it; 0 of 3 items have ended
    ");
    insta::assert_snapshot!(explain(&cluster, "last/step0"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.0` (step0) is running: 0 of its 3 items have ended

    hint: `maestro task list --run 0aaaaaaaaaa1` lists the items
    ");
}

#[test]
fn an_item_waits_for_its_step() {
    let cluster = Cluster::new();
    let mut sketch = PlanSketch::chain(2);
    sketch.tasks[1].items = Some((3, None));
    cluster.submit_sketch("0aaaaaaaaaa1", sketch);
    insta::assert_snapshot!(explain(&cluster, "last/step1[2]"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.4` (step1[2]) is blocked: its step `step1` has not started: it is blocked

    hint: `maestro task explain 0aaaaaaaaaa1.1` says why
    ");
}

#[test]
fn a_parked_task_says_why_and_until_when() {
    let cluster = Cluster::new();
    let mut plan = PlanSketch::new(2).plan();
    plan.shared[0].retry.max_attempts = 3;
    cluster.submit("0aaaaaaaaaa1", &plan);
    let worker = cluster.worker("alpha", &["noop"], 4);
    let retry = Ending::Failed { reason: Reason::Exit, exit_code: Some(3), retry_in_ms: Some(3_600_000) };
    cluster.work(&worker, retry, &message("try later"));
    cluster.work(&worker, Ending::ComeBack { delay_ms: 3_600_000 }, "");
    let until = |text: String| text.replace("1h [TOOK]", "[TOOK] [TOOK]");
    insta::assert_snapshot!(until(explain(&cluster, "last/step0")), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.0` (step0) is parked: its attempt 1 failed (exit 3: try later); it is tried again in [TOOK] [TOOK]
      1 failure so far; the 3rd is final
    ");
    insta::assert_snapshot!(until(explain(&cluster, "last/step1")), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.1` (step1) is parked: its agent asked to be called again (exit 75); it is tried again in [TOOK] [TOOK]
      it has asked once so far
    ");
}

#[test]
fn a_running_task_says_where_and_since_when() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::new(1));
    let worker = cluster.worker("alpha", &["noop"], 4);
    cluster.claim(&worker, 1);
    insta::assert_snapshot!(explain(&cluster, "last"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.0` (step0) is running: worker `alpha` has worked on it for [TOOK]
      attempt 1; it may take [TOOK] in all
      the worker was last heard of [TOOK] ago

    hint: `maestro task logs 0aaaaaaaaaa1.0 -f` shows what its agent prints
    ");
    cluster.ask(&["task", "cancel", "last"]);
    assert!(explain(&cluster, "last").contains("is running: it was told to end; worker `alpha`"));
}

#[test]
fn an_ended_task_says_how() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::new(4).needs(3, &[0, 1]));
    let worker = cluster.worker("alpha", &["noop"], 4);
    cluster.work(&worker, COMPLETED, "");
    cluster.work(&worker, failed(3), &message("no such file: \u{1b}[2Ja.txt"));
    cluster.work(&worker, Ending::Skipped, "");
    insta::assert_snapshot!(explain(&cluster, "last/step0"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.0` (step0) completed: it ended well on worker `alpha` after [TOOK]
    ");
    insta::assert_snapshot!(explain(&cluster, "last/step1"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.1` (step1) failed: exit 3: no such file: a.txt
      1 attempt on worker `alpha` after [TOOK]: 1 failed, 0 lost with their worker

    hint: `maestro task logs 0aaaaaaaaaa1.1` shows what its agent printed
    ");
    insta::assert_snapshot!(explain(&cluster, "last/step2"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.2` (step2) was skipped: its `when` was false
    ");
    insta::assert_snapshot!(explain(&cluster, "last/step3"), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.3` (step3) was skipped: what it waited for cannot happen any more
      `step1` (0aaaaaaaaaa1.1) had to complete; it failed
    ");
    cluster.submit_sketch("0bbbbbbbbbb1", PlanSketch::new(1));
    cluster.ask(&["workflow", "stop", "last", "--reason", "not needed"]);
    insta::assert_snapshot!(explain(&cluster, "last"), @r"
    exit 0
    --- stdout
    task `0bbbbbbbbbb1.0` (step0) was cancelled: somebody ended it: not needed
    ");
}
