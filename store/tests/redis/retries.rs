//! Another try for what has ended: what starts again, what waits again, and what stays.

use maestro_model::ids::{Attempt, RunId, TaskId};
use maestro_model::plan::TaskKind;
use maestro_model::task::TaskStatus;
use maestro_store::duties::Expansion;
use maestro_store::encode::expanded_item;
use maestro_store::rerun::{RERUN_TASKS_MAX, RetryAnswer};
use maestro_store::scripts::ScriptSet;
use maestro_store::step::{Ending, Grant};
use maestro_store::{Refusal, Store, StoreError};

use crate::simulation::world::SMALL_PORTIONS;
use crate::support::manual::{ManualWorker, letters, run_word, submit_plan};
use crate::support::{PlanSketch, TestRedis};

/// Calls after which a retry that finds ends still to be told has to have come through.
const CALLS_MAX: usize = 500;
/// Tasks that hang on one: several fields of edges.
const FAN: usize = 200;
/// Runs whose ends are told before those of the run that is retried.
const RUNS_BEFORE: usize = 12;

async fn retried(store: &Store, run: &RunId, tasks: &[u32], downstream: bool) -> Vec<u32> {
    let planned = store.retry_plan(run, tasks, downstream).await.expect("answered");
    let answer = store.retry(run, tasks, downstream).await.expect("answered");
    assert_eq!(planned, answer, "what is shown is what is done");
    match answer {
        RetryAnswer::Retried(tasks) => tasks.into_iter().map(|task| task.index).collect(),
        other => panic!("not retried: {other:?}"),
    }
}

async fn record_of(store: &Store, run: &RunId, index: u32) -> maestro_store::record::TaskRecord {
    let view = store.task(&TaskId { run: run.clone(), index }).await.expect("there");
    view.record.expect("it has one")
}

#[tokio::test]
async fn a_failed_task_gets_another_attempt_and_its_run_goes_on() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let run = submit_plan(&store, &PlanSketch::chain(3).plan()).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    worker.do_all(&[0]).await;
    assert_eq!((letters(&store, &run).await.as_str(), run_word(&store, &run).await), ("FKK", "failed"));
    assert_eq!(retried(&store, &run, &[0], false).await, [0]);
    assert_eq!((letters(&store, &run).await.as_str(), run_word(&store, &run).await), ("QKK", "running"));
    let grant = worker.claim().await.expect("it is queued");
    assert_eq!((grant.attempt, grant.failures), (Attempt(2), 0), "attempts go on, failures begin anew");
    worker.complete(&grant).await;
    assert_eq!((letters(&store, &run).await.as_str(), run_word(&store, &run).await), ("CKK", "completed"));
    assert!(store.collect_run(&run).await.expect("collected"));
}

#[tokio::test]
async fn with_downstream_all_that_ended_because_of_it_waits_for_it_again() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    // 0 ─► 2 ─► 3 ◄─ 1, 0 fails ─► 4 ─► 5.
    let mut sketch = PlanSketch::new(6).needs(2, &[0]).needs(3, &[2, 1]).needs(5, &[4]);
    sketch.tasks[0].on_failure.push(4);
    let run = submit_plan(&store, &sketch.plan()).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    worker.do_all(&[0]).await;
    assert_eq!((letters(&store, &run).await.as_str(), run_word(&store, &run).await), ("FCKKCC", "completed"));
    assert_eq!(retried(&store, &run, &[0], true).await, [0, 2, 3, 4, 5]);
    assert_eq!((letters(&store, &run).await.as_str(), run_word(&store, &run).await), ("QCBBBB", "running"));
    assert_eq!(worker.do_all(&[]).await, [0, 2, 3]);
    assert_eq!((letters(&store, &run).await.as_str(), run_word(&store, &run).await), ("CCCCKK", "completed"));
    let handler = record_of(&store, &run, 4).await;
    assert_eq!(handler.attempt, Attempt(1), "the number of its last attempt stays");
    assert_eq!(retried(&store, &run, &[0], true).await, [0, 2, 3, 4, 5], "what completed as well");
    worker.do_all(&[0]).await;
    assert_eq!(letters(&store, &run).await, "FCKKCC");
    assert_eq!(record_of(&store, &run, 4).await.attempt, Attempt(2));
}

#[tokio::test]
async fn what_something_else_keeps_from_running_stays_as_it_is() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let run =
        submit_plan(&store, &PlanSketch::new(5).needs(2, &[0, 1]).needs(3, &[2]).needs(4, &[0]).plan()).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    worker.do_all(&[0, 1]).await;
    assert_eq!(letters(&store, &run).await, "FFKKK");
    assert_eq!(retried(&store, &run, &[0], true).await, [0, 4], "1 keeps 2 and 3 from running");
    assert_eq!(worker.do_all(&[]).await, [0, 4]);
    assert_eq!(retried(&store, &run, &[1], true).await, [1, 2, 3]);
    assert_eq!(worker.do_all(&[]).await, [1, 2, 3]);
    assert_eq!((letters(&store, &run).await.as_str(), run_word(&store, &run).await), ("CCCCC", "completed"));
}

#[tokio::test]
async fn what_waits_for_others_too_waits_for_the_retried_one_again() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut sketch = PlanSketch::new(3).needs(2, &[0, 1]);
    sketch.tasks[0].continue_on.failed = true;
    let run = submit_plan(&store, &sketch.plan()).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    let (first, second) = (worker.claim().await.expect("a root"), worker.claim().await.expect("a root"));
    assert_eq!((first.task.index, second.task.index), (0, 1));
    worker.fail(&first).await;
    assert_eq!(retried(&store, &run, &[0], false).await, [0]);
    worker.complete(&second).await;
    assert_eq!(letters(&store, &run).await, "QCB", "it is not told twice of one task");
    worker.do_all(&[]).await;
    assert_eq!(letters(&store, &run).await, "CCC");
}

#[tokio::test]
async fn what_has_not_ended_or_would_not_fit_is_refused_in_words() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let run = submit_plan(&store, &PlanSketch::chain(3).plan()).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    let id = |index| TaskId { run: run.clone(), index };
    let first = worker.claim().await.expect("a root");
    let running = RetryAnswer::Running { task: id(0), status: TaskStatus::Running };
    assert_eq!(store.retry(&run, &[0], false).await.expect("answered"), running);
    worker.complete(&first).await;
    let alone = RetryAnswer::Completed { task: id(0) };
    assert_eq!(store.retry(&run, &[0], false).await.expect("answered"), alone);
    let second = worker.claim().await.expect("the second");
    let follows = RetryAnswer::Running { task: id(1), status: TaskStatus::Running };
    assert_eq!(store.retry(&run, &[0], true).await.expect("answered"), follows);
    store.stop_run(&run, "").await.expect("told");
    assert_eq!(store.retry(&run, &[0], true).await.expect("answered"), RetryAnswer::Stopping);
    worker.end(&second, Ending::Cancelled).await;
    assert_eq!((letters(&store, &run).await.as_str(), run_word(&store, &run).await), ("CNN", "cancelled"));
    let nothing = store.retry(&run, &[9], false).await;
    assert!(matches!(nothing, Err(StoreError::Refused(Refusal::NotFound { .. }))), "{nothing:?}");
    assert_eq!(retried(&store, &run, &[1], true).await, [1, 2], "a run that was stopped goes on");
    worker.do_all(&[]).await;
    assert_eq!(run_word(&store, &run).await, "completed");
    assert!(store.collect_run(&run).await.expect("collected"));
    let gone = store.retry(&run, &[1], false).await;
    assert!(matches!(gone, Err(StoreError::Refused(Refusal::NotFound { .. }))), "{gone:?}");
}

#[tokio::test]
async fn ends_that_are_still_to_be_told_are_told_before_anybody_waits_anew() {
    a_retry_comes_while_ends_are_told(&[]).await;
}

/// Panics unless what hangs on two tasks waits for both after one of them was tried anew; with `edits` to the
/// scripts.
pub(super) async fn a_retry_comes_while_ends_are_told(edits: &[(&str, &str)]) {
    let redis = TestRedis::start();
    let store = redis.store_with(ScriptSet::edited(&[&SMALL_PORTIONS, edits].concat())).await;
    let mut sketch = PlanSketch::new(FAN + 2);
    for index in 2..FAN + 2 {
        sketch = sketch.needs(index as u32, &[0, 1]);
    }
    let plan = sketch.plan();
    let mut worker = ManualWorker::attach(&store, "hand").await;
    // Ends of others come first, so that those of the last run are still to be told when it is retried.
    let mut last = None;
    for _ in 0..RUNS_BEFORE {
        let run = submit_plan(&store, &plan).await;
        let grants = worker.step(2, Vec::new()).await.grants;
        let first = grants.iter().find(|grant| grant.task.index == 0);
        worker.fail(first.expect("both are roots")).await;
        assert_eq!(grants.len(), 2);
        last = Some((run, grants));
    }
    let (run, grants) = last.expect("several runs");
    let other = grants.into_iter().find(|grant| grant.task.index == 1).expect("both are roots");
    let told = letters(&store, &run).await.matches('K').count();
    assert!(told < FAN, "the ends are told in portions: {told}");
    let mut answer = store.retry(&run, &[0], true).await;
    for _ in 0..CALLS_MAX {
        match answer {
            Err(StoreError::Refused(Refusal::Busy { .. })) => answer = store.retry(&run, &[0], true).await,
            _ => break,
        }
    }
    assert!(matches!(answer, Ok(RetryAnswer::Retried(_))), "{answer:?}");
    assert_eq!(worker.do_all(&[]).await, [0], "the rest waits for the other one");
    for _ in 0..CALLS_MAX {
        store.sweep(10).await.expect("swept");
    }
    assert!(worker.claim().await.is_none(), "the rest waits for the other one");
    worker.complete(&other).await;
    assert_eq!(worker.do_all(&[]).await.len(), FAN);
    assert_eq!(
        (letters(&store, &run).await, run_word(&store, &run).await),
        ("C".repeat(FAN + 2), "completed")
    );
}

#[tokio::test]
async fn a_retry_of_more_than_its_limit_is_refused() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let count = RERUN_TASKS_MAX;
    let mut sketch = PlanSketch::new(count + 1);
    for index in 1..=count {
        sketch.tasks[index].needs.push(0);
    }
    let run = submit_plan(&store, &sketch.plan()).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    worker.do_all(&[0]).await;
    for _ in 0..20 {
        store.sweep(50).await.expect("swept");
    }
    assert_eq!(run_word(&store, &run).await, "failed");
    let answer = store.retry(&run, &[0], true).await.expect("answered");
    assert_eq!(answer, RetryAnswer::TooMany { found: count + 1, most: count });
    assert_eq!(retried(&store, &run, &[0], false).await, [0]);
}

#[tokio::test]
async fn failed_items_are_tried_again_and_the_others_keep_their_results() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    for limit in [None, Some(2)] {
        let mut sketch = PlanSketch::new(2).needs(1, &[0]);
        sketch.tasks[0].items = Some((5, limit));
        let run = submit_plan(&store, &sketch.plan()).await;
        let mut worker = ManualWorker::attach(&store, "hand").await;
        worker.do_all(&[2, 4, 5]).await;
        assert_eq!(
            (letters(&store, &run).await.as_str(), run_word(&store, &run).await),
            ("FKFCFFC", "failed")
        );
        assert_eq!(retried(&store, &run, &[0], true).await, [0, 1]);
        let grants = worker.step(9, Vec::new()).await.grants;
        assert_eq!(grants.len(), limit.unwrap_or(3) as usize, "its limit holds");
        for grant in &grants {
            assert_eq!(grant.attempt, Attempt(2));
            worker.complete(grant).await;
        }
        worker.do_all(&[]).await;
        assert_eq!(
            (letters(&store, &run).await.as_str(), run_word(&store, &run).await),
            ("CCCCCCC", "completed")
        );
        store.detach(&worker.incarnation).await.expect("detached");
    }
}

#[tokio::test]
async fn one_item_alone_takes_its_foreach_along() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut sketch = PlanSketch::new(1);
    sketch.tasks[0].items = Some((3, None));
    let run = submit_plan(&store, &sketch.plan()).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    let first = worker.claim().await.expect("an item");
    worker.fail(&first).await;
    let running = store.retry(&run, &[first.task.index], false).await.expect("answered");
    let group = TaskId { run: run.clone(), index: 0 };
    assert_eq!(running, RetryAnswer::Running { task: group, status: TaskStatus::Running });
    worker.do_all(&[2]).await;
    assert_eq!(letters(&store, &run).await, "FFFC");
    assert_eq!(retried(&store, &run, &[1], false).await, [0, 1]);
    worker.do_all(&[]).await;
    assert_eq!((letters(&store, &run).await.as_str(), run_word(&store, &run).await), ("FCFC", "failed"));
    assert_eq!(retried(&store, &run, &[2], false).await, [0, 2]);
    worker.do_all(&[]).await;
    assert_eq!((letters(&store, &run).await.as_str(), run_word(&store, &run).await), ("CCCC", "completed"));
}

#[tokio::test]
async fn a_foreach_that_waits_again_runs_all_of_its_items_again() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut sketch = PlanSketch::chain(2);
    sketch.tasks[1].items = Some((3, Some(1)));
    let run = submit_plan(&store, &sketch.plan()).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    worker.do_all(&[]).await;
    assert_eq!(retried(&store, &run, &[0], true).await, [0, 1]);
    assert_eq!(letters(&store, &run).await, "QBBBB");
    assert_eq!(worker.do_all(&[]).await, [0, 2, 3, 4]);
    assert_eq!((letters(&store, &run).await.as_str(), run_word(&store, &run).await), ("CCCCC", "completed"));
    assert_eq!(record_of(&store, &run, 1).await.attempt, Attempt(2));
}

async fn expand(worker: &ManualWorker, grant: &Grant, items: usize) {
    let task = &grant.task;
    let items: Vec<String> = (0..items as u32)
        .map(|number| expanded_item(task.index, grant.shared, "", &grant.own.step, number, number.into()))
        .collect();
    let stored = worker
        .store
        .expand(&worker.incarnation, task, grant.attempt, items.len(), 0, None, &items)
        .await
        .expect("answered");
    assert_eq!(stored, Expansion::Stored);
}

#[tokio::test]
async fn a_list_that_was_worked_out_is_worked_out_anew() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut plan = PlanSketch::chain(3).plan();
    plan.tasks[1].kind = TaskKind::Expand { list: "steps.step0.outputs.list".to_owned(), max_parallel: None };
    let run = submit_plan(&store, &plan).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    let first = worker.claim().await.expect("a root");
    worker.complete(&first).await;
    let list = worker.claim().await.expect("to be expanded");
    expand(&worker, &list, 2).await;
    worker.do_all(&[]).await;
    assert_eq!(letters(&store, &run).await, "CCCCC");
    assert_eq!(retried(&store, &run, &[0], true).await, [0, 1, 2]);
    assert_eq!(letters(&store, &run).await, "QBB", "its items are forgotten");
    let first = worker.claim().await.expect("a root");
    worker.complete(&first).await;
    let list = worker.claim().await.expect("to be expanded");
    assert_eq!((list.task.index, list.attempt), (1, Attempt(2)));
    expand(&worker, &list, 3).await;
    assert_eq!(worker.do_all(&[]).await, [5, 6, 7, 2], "under numbers that nobody had");
    assert_eq!((letters(&store, &run).await.as_str(), run_word(&store, &run).await), ("CCCCCC", "completed"));
}

#[tokio::test]
async fn many_may_retry_one_task_and_it_is_retried_once() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let run = submit_plan(&store, &PlanSketch::new(1).plan()).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    worker.do_all(&[0]).await;
    let task = [0];
    let (one, two) = tokio::join!(store.retry(&run, &task, false), store.retry(&run, &task, false));
    let answers = [one.expect("answered"), two.expect("answered")];
    let retried = answers.iter().filter(|answer| matches!(answer, RetryAnswer::Retried(_))).count();
    let late = answers.iter().filter(|answer| matches!(answer, RetryAnswer::Running { .. })).count();
    assert_eq!((retried, late), (1, 1), "{answers:?}");
    assert_eq!(worker.do_all(&[]).await, [0]);
}

#[tokio::test]
async fn a_run_whose_folder_is_lost_is_not_retried_in_another() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut sketch = PlanSketch::new(1);
    sketch.bound = true;
    let run = submit_plan(&store, &sketch.plan()).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    worker.do_all(&[0]).await;
    store.detach(&worker.incarnation).await.expect("detached");
    let lost = RetryAnswer::FolderLost { worker: "hand".to_owned() };
    assert_eq!(store.retry(&run, &[0], false).await.expect("answered"), lost);
    let mut successor = ManualWorker::attach(&store, "hand").await;
    assert_eq!(retried(&store, &run, &[0], false).await, [0]);
    assert_eq!(successor.do_all(&[]).await, [0]);
    assert_eq!(run_word(&store, &run).await, "completed");
}

#[tokio::test]
async fn the_gate_and_the_time_limit_of_a_run_hold_for_a_retry() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut sketch = PlanSketch::new(4);
    sketch.policy.concurrency = Some(2);
    sketch.policy.timeout_ms = Some(60_000);
    let run = submit_plan(&store, &sketch.plan()).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    worker.do_all(&[0, 1, 2, 3]).await;
    assert_eq!(retried(&store, &run, &[0, 1, 2, 3], false).await, [0, 1, 2, 3]);
    assert_eq!(worker.step(9, Vec::new()).await.grants.len(), 2);
    let deadlines = format!("{}deadlines", store.keys().prefix());
    let limit: Option<f64> =
        redis::cmd("ZSCORE").arg(deadlines).arg(format!("r{run}")).query(&mut redis.raw()).expect("read");
    assert!(limit.is_some(), "its time begins anew");
}
