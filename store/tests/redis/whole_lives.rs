//! The scripts against a real Redis: what each does, and what it refuses.

use std::time::Duration;

use maestro_model::ids::{Incarnation, RunId};
use maestro_model::plan::{ContinueOn, QueueName, TaskKind};
use maestro_model::task::{Reason, TaskStatus};
use maestro_store::Store;
use maestro_store::duties::Expansion;
use maestro_store::runs::RunStatus;
use maestro_store::step::{Ending, Grant, ReportAnswer, StepReply, StepReport, StepRequest};
use maestro_store::worker::{AboutProcess, ProcessRole};

use crate::support::{PlanSketch, TestRedis};

fn about() -> AboutProcess {
    AboutProcess {
        role: ProcessRole::Worker,
        host: "here".to_owned(),
        pid: 1,
        slots: 4,
        version: "1.2.0".to_owned(),
        labels: Default::default(),
        confinement: Vec::new(),
        isolation: None,
    }
}

/// A worker without a process: it claims and reports when the test says so.
struct HandWorker {
    store: Store,
    incarnation: Incarnation,
    next_request: u64,
}

impl HandWorker {
    async fn attach(store: &Store, name: &str) -> HandWorker {
        let incarnation = Incarnation::random();
        let types = ["noop".to_owned()];
        store
            .attach(&incarnation, name, &types, Duration::from_secs(30), false, &about())
            .await
            .expect("the name is free");
        HandWorker { store: store.clone(), incarnation, next_request: 1 }
    }

    fn request(&mut self, want: usize, reports: Vec<StepReport>) -> StepRequest {
        self.next_request += 1;
        StepRequest {
            lane: 0,
            request_id: self.next_request,
            want,
            queues: vec![QueueName::from_stored("w:hand"), QueueName::from_stored("a:noop")],
            reports,
            state_ttl_ms: 0,
        }
    }

    async fn step(&mut self, want: usize, reports: Vec<StepReport>) -> StepReply {
        let request = self.request(want, reports);
        self.store.step(&self.incarnation, &request).await.expect("the step is accepted")
    }

    async fn claim(&mut self, want: usize) -> Vec<Grant> {
        self.step(want, Vec::new()).await.grants
    }
}

fn report(grant: &Grant, ending: Ending) -> StepReport {
    StepReport {
        task: grant.task.clone(),
        attempt: grant.attempt,
        ending,
        output: String::new(),
        publish: Vec::new(),
    }
}

fn done(grant: &Grant) -> StepReport {
    report(grant, Ending::Completed { exit_code: Some(0) })
}

fn failed(grant: &Grant) -> StepReport {
    report(grant, Ending::Failed { reason: Reason::Exit, exit_code: Some(1), retry_in_ms: None })
}

async fn submit(store: &Store, sketch: &PlanSketch) -> RunId {
    let run = RunId::random(0);
    store.submit(&run, &sketch.plan(), 3).await.expect("the plan is lawful");
    run
}

async fn statuses(store: &Store, run: &RunId) -> Vec<TaskStatus> {
    let count = store.run(run).await.expect("readable").expect("there").tasks;
    store.tasks(run, 0..count).await.expect("readable").into_iter().map(|task| task.status).collect()
}

async fn run_status(store: &Store, run: &RunId) -> RunStatus {
    store.run(run).await.expect("readable").expect("there").status
}

#[tokio::test]
async fn a_chain_runs_in_order_with_one_request_a_task() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let run = submit(&store, &PlanSketch::chain(4)).await;
    let mut worker = HandWorker::attach(&store, "hand").await;
    let mut granted = worker.claim(4).await;
    let mut order = Vec::new();
    while let Some(grant) = granted.pop() {
        order.push(grant.task.index);
        let reply = worker.step(4, vec![done(&grant)]).await;
        assert_eq!(reply.answers, [ReportAnswer::Accepted]);
        granted = reply.grants;
    }
    assert_eq!(order, [0, 1, 2, 3]);
    assert_eq!(run_status(&store, &run).await, RunStatus::Completed);
}

#[tokio::test]
async fn a_lost_answer_is_given_again() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    submit(&store, &PlanSketch::new(3)).await;
    let mut worker = HandWorker::attach(&store, "hand").await;
    let request = worker.request(2, Vec::new());
    let first = store.step(&worker.incarnation, &request).await.expect("accepted");
    let again = store.step(&worker.incarnation, &request).await.expect("accepted");
    assert_eq!(first.grants, again.grants);
    assert_eq!(first.grants.len(), 2);
}

#[tokio::test]
async fn a_late_report_is_refused() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let run = submit(&store, &PlanSketch::new(1)).await;
    let mut slow = HandWorker::attach(&store, "slow").await;
    let first = slow.claim(1).await.pop().expect("a task");
    store.detach(&slow.incarnation).await.expect("detached");
    let mut fresh = HandWorker::attach(&store, "fresh").await;
    let second = fresh.claim(1).await.pop().expect("the task again");
    assert_eq!(second.attempt.0, first.attempt.0 + 1);
    assert_eq!(second.losses, 1);

    let late = slow.step(0, vec![done(&first)]).await;
    assert_eq!(late.answers, [ReportAnswer::Stale]);
    assert!(late.fenced);
    let right = fresh.step(0, vec![done(&second)]).await;
    assert_eq!(right.answers, [ReportAnswer::Accepted]);
    let again = fresh.step(0, vec![done(&second)]).await;
    assert_eq!(again.answers, [ReportAnswer::Repeated]);
    let otherwise = fresh.step(0, vec![failed(&second)]).await;
    assert_eq!(otherwise.answers, [ReportAnswer::Stale]);
    assert_eq!(run_status(&store, &run).await, RunStatus::Completed);
}

#[tokio::test]
async fn what_needs_a_failed_step_is_skipped_and_what_handles_it_runs() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut sketch = PlanSketch::new(4).needs(1, &[0]).needs(2, &[1]);
    sketch.tasks[0].on_failure.push(3);
    let run = submit(&store, &sketch).await;
    let mut worker = HandWorker::attach(&store, "hand").await;
    let first = worker.claim(4).await;
    assert_eq!(first.len(), 1);
    let reply = worker.step(4, vec![failed(&first[0])]).await;
    assert_eq!(reply.grants.iter().map(|grant| grant.task.index).collect::<Vec<_>>(), [3]);
    worker.step(0, vec![done(&reply.grants[0])]).await;
    use TaskStatus::{Completed, Failed, Skipped};
    assert_eq!(statuses(&store, &run).await, [Failed, Skipped, Skipped, Completed]);
    assert_eq!(run_status(&store, &run).await, RunStatus::Completed);
}

#[tokio::test]
async fn an_unhandled_failure_fails_the_run_and_continue_on_handles_it() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    for (continue_on, expected) in [(false, RunStatus::Failed), (true, RunStatus::Completed)] {
        let mut sketch = PlanSketch::chain(2);
        sketch.tasks[0].continue_on = ContinueOn { failed: continue_on, skipped: false };
        let run = submit(&store, &sketch).await;
        let mut worker = HandWorker::attach(&store, "hand").await;
        let first = worker.claim(4).await;
        let reply = worker.step(4, vec![failed(&first[0])]).await;
        assert_eq!(reply.grants.len(), usize::from(continue_on));
        for grant in &reply.grants {
            worker.step(0, vec![done(grant)]).await;
        }
        assert_eq!(run_status(&store, &run).await, expected);
        store.detach(&worker.incarnation).await.expect("detached");
    }
}

#[tokio::test]
async fn a_group_ends_with_its_items_and_never_runs_more_than_its_limit() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut sketch = PlanSketch::new(2).needs(1, &[0]);
    sketch.tasks[0].items = Some((5, Some(2)));
    let run = submit(&store, &sketch).await;
    let mut worker = HandWorker::attach(&store, "hand").await;
    let mut seen = 0;
    let mut grants = worker.claim(10).await;
    while let Some(grant) = grants.pop() {
        assert!(grants.len() < 2, "at most two items at one time");
        if grant.group == Some(0) {
            seen += 1;
        } else {
            assert_eq!((grant.task.index, seen), (1, 5), "the dependent comes after all items");
        }
        grants.extend(worker.step(10, vec![done(&grant)]).await.grants);
    }
    assert_eq!(run_status(&store, &run).await, RunStatus::Completed);
    assert!(statuses(&store, &run).await.iter().all(|status| *status == TaskStatus::Completed));
}

#[tokio::test]
async fn a_large_fan_out_and_fan_in_completes() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let middle: Vec<u32> = (1..=1000).collect();
    let mut sketch = PlanSketch::new(1002).needs(1001, &middle);
    for task in &middle {
        sketch.tasks[*task as usize].needs.push(0);
    }
    let run = submit(&store, &sketch).await;
    let mut worker = HandWorker::attach(&store, "hand").await;
    let mut grants = worker.claim(64).await;
    let mut finished = 0;
    let mut idle = 0;
    while finished < 1002 && idle < 50 {
        let reports: Vec<StepReport> = grants.drain(..).map(|grant| done(&grant)).collect();
        finished += reports.len();
        idle = if reports.is_empty() { idle + 1 } else { 0 };
        grants = worker.step(64, reports).await.grants;
    }
    assert_eq!(finished, 1002);
    assert_eq!(run_status(&store, &run).await, RunStatus::Completed);
}

#[tokio::test]
async fn a_stopped_run_cancels_what_waits_and_tells_what_runs() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let run = submit(&store, &PlanSketch::new(4).needs(3, &[0])).await;
    let mut worker = HandWorker::attach(&store, "hand").await;
    let grants = worker.claim(1).await;
    store.stop_run(&run, "enough").await.expect("stopped");
    let running = grants[0].task.index as usize;
    let mut expected = vec![TaskStatus::Cancelled; 4];
    expected[running] = TaskStatus::Cancelling;
    assert_eq!(statuses(&store, &run).await, expected);
    assert!(worker.claim(4).await.is_empty());
    let reply = worker.step(4, vec![done(&grants[0])]).await;
    assert_eq!(reply.answers, [ReportAnswer::Cancelled]);
    assert_eq!(run_status(&store, &run).await, RunStatus::Cancelled);
}

#[tokio::test]
async fn a_foreach_that_is_stopped_while_it_is_expanded_ends_with_the_next_word() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut plan = PlanSketch::new(1).plan();
    plan.tasks[0].kind = TaskKind::Expand { list: "state.list".to_owned(), max_parallel: None };
    plan.roots[0].queue = Some(QueueName::expand());
    let run = RunId::random(0);
    store.submit(&run, &plan, 3).await.expect("submitted");
    let coordinator = HandWorker::attach(&store, "hand").await;
    let request = StepRequest {
        lane: 0,
        request_id: 1,
        want: 1,
        queues: vec![QueueName::expand()],
        reports: Vec::new(),
        state_ttl_ms: 0,
    };
    let reply = store.step(&coordinator.incarnation, &request).await.expect("the step is accepted");
    store.stop_run(&run, "enough").await.expect("stopped");
    assert_eq!(statuses(&store, &run).await, [TaskStatus::Cancelling]);
    let grant = &reply.grants[0];
    let answer = store.expand(&coordinator.incarnation, &grant.task, grant.attempt, 0, 0, None, &[]).await;
    assert_eq!(answer.expect("it is answered"), Expansion::Stale);
    assert_eq!(statuses(&store, &run).await, [TaskStatus::Cancelled]);
    assert_eq!(run_status(&store, &run).await, RunStatus::Cancelled);
}

#[tokio::test]
async fn a_finished_run_leaves_no_key_once_collected() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let run = submit(&store, &PlanSketch::chain(3)).await;
    let mut worker = HandWorker::attach(&store, "hand").await;
    let mut grants = worker.claim(1).await;
    while let Some(grant) = grants.pop() {
        grants = worker.step(1, vec![done(&grant)]).await.grants;
    }
    assert!(store.collect_run(&run).await.expect("collected"));
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis.raw()).expect("keys");
    assert!(!keys.iter().any(|key| key.contains(run.as_str())), "{keys:?}");
}

#[tokio::test]
async fn at_most_the_run_s_concurrency_is_in_flight() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut sketch = PlanSketch::new(10);
    sketch.policy.concurrency = Some(3);
    let run = submit(&store, &sketch).await;
    let mut worker = HandWorker::attach(&store, "hand").await;
    let mut grants = worker.claim(64).await;
    assert_eq!(grants.len(), 3);
    let mut finished = 0;
    while let Some(grant) = grants.pop() {
        grants.extend(worker.step(64, vec![done(&grant)]).await.grants);
        finished += 1;
        assert!(grants.len() <= 3);
    }
    assert_eq!(finished, 10);
    assert_eq!(run_status(&store, &run).await, RunStatus::Completed);
}
