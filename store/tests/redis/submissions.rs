//! Submissions that know of others: by a key, by what they wait for, by what they take over; and a pause.

use std::time::Duration;

use maestro_model::ids::{Attempt, RunId, TaskId};
use maestro_model::plan::{ExternalNeed, NeedTarget, Plan, TaskKind, TaskSeed};
use maestro_model::task::TaskStatus;
use maestro_store::mode::ModeAnswer;
use maestro_store::scripts::ScriptSet;
use maestro_store::step::CellMode;
use maestro_store::{Refusal, Store, StoreError, StoreOptions};

use crate::support::manual::{ManualWorker, letters, run_word, status_of, submit_plan};
use crate::support::{PlanSketch, TestRedis};

/// One task that waits for something of other runs.
fn waiting(on: &[NeedTarget]) -> Plan {
    let mut plan = PlanSketch::new(1).plan();
    plan.roots.clear();
    plan.waits_for = on.iter().map(|on| ExternalNeed { task: 0, on: on.clone() }).collect();
    plan
}

fn task(run: &RunId, index: u32) -> NeedTarget {
    NeedTarget::Task(TaskId { run: run.clone(), index })
}

fn keyed(key: &str, prompt: &str) -> Plan {
    let mut sketch = PlanSketch::new(1);
    sketch.prompt = prompt.to_owned();
    Plan { key: Some(key.to_owned()), ..sketch.plan() }
}

#[tokio::test]
async fn one_key_means_one_run_until_it_is_collected() {
    one_key_is_used_twice(&[]).await;
}

/// Panics unless the second run is the first; with `edits` to the scripts.
pub(super) async fn one_key_is_used_twice(edits: &[(&str, &str)]) {
    let redis = TestRedis::start();
    let store = redis.store_with(ScriptSet::edited(edits)).await;
    let first = submit_plan(&store, &keyed("nightly", "x")).await;
    for (prompt, differs) in [("x", false), ("y", true)] {
        let answer = store.submit(&RunId::random(0), &keyed("nightly", prompt), 3).await.expect("answered");
        assert_eq!((&answer.run, answer.repeated, answer.differs), (&first, true, differs), "{prompt}");
    }
    let other = store.submit(&RunId::random(0), &keyed("daily", "x"), 3).await.expect("answered");
    assert!(!other.repeated);
    assert_eq!(store.run_ids(10).await.expect("readable").len(), 2, "nothing was stored of the others");
    let mut worker = ManualWorker::attach(&store, "hand").await;
    worker.do_all(&[]).await;
    let again = store.submit(&RunId::random(0), &keyed("nightly", "x"), 3).await.expect("answered");
    assert_eq!(again.run, first, "also after its end");
    assert!(store.collect_run(&first).await.expect("collected"));
    let fresh = store.submit(&RunId::random(0), &keyed("nightly", "x"), 3).await.expect("answered");
    assert!(!fresh.repeated, "the key went with its run");
}

#[tokio::test]
async fn of_two_large_submissions_with_one_key_the_first_to_be_whole_is_carried_out() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut sketch = PlanSketch::new(1500);
    sketch.prompt = "p".repeat(200);
    let plan = Plan { key: Some("k".to_owned()), ..sketch.plan() };
    let (one, two) = (RunId::random(0), RunId::random(0));
    let (first, second) = tokio::join!(store.submit(&one, &plan, 3), store.submit(&two, &plan, 3));
    let (first, second) = (first.expect("answered"), second.expect("answered"));
    assert_eq!(first.run, second.run);
    assert!(first.repeated != second.repeated);
    let again = store.submit(&first.run, &plan, 3).await.expect("answered");
    assert_eq!((again.run, again.repeated), (first.run.clone(), false), "the same submission again");
    let loser = if first.repeated { one } else { two };
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis.raw()).expect("keys");
    assert!(!keys.iter().any(|key| key.contains(loser.as_str())), "{keys:?}");
}

#[tokio::test]
async fn a_task_waits_for_tasks_and_runs_of_others() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let before = submit_plan(&store, &PlanSketch::chain(2).plan()).await;
    let on_task = submit_plan(&store, &waiting(&[task(&before, 0)])).await;
    let on_run = submit_plan(&store, &waiting(&[NeedTarget::Run(before.clone())])).await;
    let on_both = submit_plan(&store, &waiting(&[task(&before, 1), NeedTarget::Run(on_task.clone())])).await;
    assert_eq!(status_of(&store, &on_task, 0).await, TaskStatus::Blocked);
    let needs = store.external_needs(&on_both, 0).await.expect("readable");
    let shown: Vec<(String, bool)> = needs.iter().map(|need| (need.on.to_string(), need.ended)).collect();
    assert_eq!(shown, [(format!("{before}.1"), false), (on_task.to_string(), false)]);
    let mut worker = ManualWorker::attach(&store, "hand").await;
    let first = worker.claim().await.expect("a root");
    assert!(worker.claim().await.is_none(), "all others wait");
    worker.complete(&first).await;
    assert_eq!(status_of(&store, &on_task, 0).await, TaskStatus::Queued, "its task has ended");
    assert_eq!(status_of(&store, &on_run, 0).await, TaskStatus::Blocked, "the run has not");
    worker.do_all(&[]).await;
    for run in [&before, &on_task, &on_run, &on_both] {
        assert_eq!(run_word(&store, run).await, "completed");
    }
}

#[tokio::test]
async fn what_has_ended_counts_at_once_and_what_ended_badly_skips() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut sketch = PlanSketch::new(3);
    sketch.tasks[1].continue_on.failed = true;
    let before = submit_plan(&store, &sketch.plan()).await;
    let early = submit_plan(&store, &waiting(&[task(&before, 0)])).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    worker.do_all(&[0, 1]).await;
    assert_eq!(letters(&store, &early).await, "K", "its task failed");
    let cases = [
        (task(&before, 0), "K"),
        (task(&before, 1), "C"),
        (task(&before, 2), "C"),
        (NeedTarget::Run(before.clone()), "K"),
        (NeedTarget::Run(early.clone()), "C"),
    ];
    for (on, expected) in cases {
        let run = submit_plan(&store, &waiting(std::slice::from_ref(&on))).await;
        worker.do_all(&[]).await;
        assert_eq!(letters(&store, &run).await, expected, "{on}");
        assert_eq!(run_word(&store, &run).await, "completed");
    }
}

#[tokio::test]
async fn what_is_not_there_is_named_before_anything_is_stored() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let before = submit_plan(&store, &PlanSketch::new(1).plan()).await;
    let nobody = RunId::random(0);
    for on in [task(&before, 7), task(&nobody, 0), NeedTarget::Run(nobody.clone())] {
        let refused = store.submit(&RunId::random(0), &waiting(std::slice::from_ref(&on)), 3).await;
        let Err(StoreError::Refused(Refusal::NotFound { what })) = refused else {
            panic!("{on}: {refused:?}")
        };
        assert!(what.ends_with(&format!("`{on}`")), "{what}");
    }
    ManualWorker::attach(&store, "hand").await.do_all(&[]).await;
    assert!(store.collect_run(&before).await.expect("collected"));
    let refused = store.submit(&RunId::random(0), &waiting(&[task(&before, 0)]), 3).await;
    assert!(matches!(refused, Err(StoreError::Refused(Refusal::NotFound { .. }))), "{refused:?}");
    assert!(store.run_ids(10).await.expect("readable").is_empty());
}

#[tokio::test]
async fn a_run_that_many_wait_for_tells_all_of_them_before_it_is_collected() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let before = submit_plan(&store, &PlanSketch::new(1).plan()).await;
    let mut runs = Vec::new();
    for _ in 0..700 {
        runs.push(submit_plan(&store, &waiting(&[task(&before, 0)])).await);
    }
    store.cancel_task(&TaskId { run: runs[5].clone(), index: 0 }, "").await.expect("cancelled");
    assert!(store.collect_run(&runs[5]).await.expect("collected"), "who waits may go at any time");
    let mut worker = ManualWorker::attach(&store, "hand").await;
    let first = worker.claim().await.expect("a root");
    worker.complete(&first).await;
    assert!(!store.collect_run(&before).await.expect("answered"), "some are still to be told");
    let done = worker.do_all(&[]).await;
    assert_eq!(done.len(), 699);
    assert!(store.collect_run(&before).await.expect("collected"));
}

#[tokio::test]
async fn whoever_waits_for_an_item_that_never_begins_is_skipped_with_its_run() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut sketch = PlanSketch::chain(2);
    sketch.tasks[1].items = Some((2, None));
    let before = submit_plan(&store, &sketch.plan()).await;
    let waits = submit_plan(&store, &waiting(&[task(&before, 3)])).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    worker.do_all(&[0]).await;
    assert_eq!(run_word(&store, &before).await, "failed");
    assert_eq!(letters(&store, &waits).await, "K");
    assert!(store.collect_run(&before).await.expect("collected"));
}

fn seed(status: TaskStatus, attempt: u32, output: Option<&str>) -> TaskSeed {
    TaskSeed {
        status,
        attempt: Attempt(attempt),
        owner: None,
        failures: 0,
        losses: 0,
        queued_at_ms: None,
        started_at_ms: None,
        finished_at_ms: None,
        exit_code: None,
        reason: None,
        output: output.map(str::to_owned),
        origin: "0aaaaaaaaaaa.0".parse().expect("a lawful id"),
    }
}

async fn seeded(store: &Store, sketch: &PlanSketch, ends: &[(u32, TaskStatus)]) -> RunId {
    let mut plan = sketch.plan();
    for (index, status) in ends {
        plan.seeds.insert(*index, seed(*status, 2, Some("{\"result\":\"r\",\"outputs\":{}}")));
    }
    submit_plan(store, &plan).await
}

#[tokio::test]
async fn what_was_taken_over_is_over_and_what_hangs_on_it_goes_on() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    use TaskStatus::{Completed, Failed};
    // 0 ─► 2 ─► 4, 1 ─► 3, 1 fails ─► 5; 0 and 1 are taken over.
    let mut sketch = PlanSketch::new(6).needs(2, &[0]).needs(3, &[1]).needs(4, &[2]);
    sketch.tasks[1].on_failure.push(5);
    let run = seeded(&store, &sketch, &[(0, Completed), (1, Failed)]).await;
    assert_eq!(letters(&store, &run).await, "CFQKBQ");
    let view = store.task(&TaskId { run: run.clone(), index: 0 }).await.expect("there");
    assert_eq!(view.own.origin.map(|origin| origin.to_string()).as_deref(), Some("0aaaaaaaaaaa.0"));
    let record = view.record.expect("it has one");
    assert_eq!((record.attempt, record.flags.contains('o')), (Attempt(2), true));
    let output = store.outputs(&run, &[0]).await.expect("readable").pop().flatten();
    assert!(output.is_some_and(|output| output.outputs.is_some()));
    let mut worker = ManualWorker::attach(&store, "hand").await;
    let mut done = worker.do_all(&[]).await;
    done.sort_unstable();
    assert_eq!(done, [2, 4, 5]);
    assert_eq!(run_word(&store, &run).await, "completed", "the failure is handled");
    let unhandled = seeded(&store, &PlanSketch::new(2), &[(0, Failed)]).await;
    worker.do_all(&[]).await;
    assert_eq!(run_word(&store, &unhandled).await, "failed");
}

#[tokio::test]
async fn items_that_were_taken_over_are_read_as_if_they_had_run_here() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    use TaskStatus::Completed;
    let mut sketch = PlanSketch::new(2).needs(1, &[0]);
    sketch.tasks[0].items = Some((3, Some(1)));
    for was_expanded in [false, true] {
        let mut plan = sketch.plan();
        let TaskKind::Group { first, .. } = plan.tasks[0].kind else { panic!("a group") };
        for index in [0, first, first + 1, first + 2] {
            plan.seeds.insert(index, seed(Completed, 1, Some("{\"result\":\"r\",\"outputs\":{}}")));
        }
        if was_expanded {
            plan.tasks[0].kind = TaskKind::Expand { list: "vars.list".to_owned(), max_parallel: Some(1) };
        }
        let run = submit_plan(&store, &plan).await;
        assert_eq!(letters(&store, &run).await, "CQCCC");
        let group = store.groups(&run).await.expect("readable").remove(&0).expect("its range");
        assert_eq!((group.released, group.open, group.failed), (3, 0, 0));
        let view = store.task(&TaskId { run: run.clone(), index: 0 }).await.expect("there");
        assert!(!view.record.expect("it has one").flags.contains('x'), "it is not expanded again");
        let mut worker = ManualWorker::attach(&store, if was_expanded { "second" } else { "first" }).await;
        assert_eq!(worker.do_all(&[]).await, [1]);
        assert_eq!(run_word(&store, &run).await, "completed");
        assert!(store.collect_run(&run).await.expect("collected"));
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis.raw()).expect("keys");
        assert!(!keys.iter().any(|key| key.contains(run.as_str())), "{keys:?}");
    }
}

#[tokio::test]
async fn a_thousand_tasks_that_were_taken_over_let_their_dependents_go_in_portions() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let count = 1000;
    let mut sketch = PlanSketch::new(2 * count);
    for index in 0..count {
        sketch.tasks[count + index].needs.push(index as u32);
    }
    let ends: Vec<(u32, TaskStatus)> =
        (0..count as u32).map(|index| (index, TaskStatus::Completed)).collect();
    let run = seeded(&store, &sketch, &ends).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    let mut done = worker.do_all(&[]).await;
    done.sort_unstable();
    assert_eq!(done, (count as u32..2 * count as u32).collect::<Vec<_>>());
    assert_eq!(run_word(&store, &run).await, "completed");
}

#[tokio::test]
async fn while_the_cluster_is_paused_all_but_claims_goes_on() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let run = submit_plan(&store, &PlanSketch::chain(2).plan()).await;
    let mut worker = ManualWorker::attach(&store, "hand").await;
    let first = worker.claim().await.expect("a root");
    assert_eq!(store.pause("a look at the logs", "ada").await.expect("paused"), ModeAnswer::Changed);
    assert_eq!(store.pause("again", "bob").await.expect("paused"), ModeAnswer::Unchanged);
    let view = store.mode().await.expect("readable");
    assert_eq!((view.mode, view.word.as_str()), (CellMode::Paused, "paused"));
    assert_eq!((view.note.as_str(), view.by.as_str()), ("a look at the logs", "ada"));
    assert!(view.at_ms.is_some());
    worker.complete(&first).await;
    assert_eq!(letters(&store, &run).await, "CQ", "its report was taken");
    let later = submit_plan(&store, &PlanSketch::new(1).plan()).await;
    let reply = worker.step(4, Vec::new()).await;
    assert!(reply.grants.is_empty() && !reply.more && reply.mode == CellMode::Paused);
    store.sweep(10).await.expect("swept");
    let bell = store.keys().bell(&format!("w:{}", worker.incarnation));
    redis::cmd("DEL").arg(&bell).exec(&mut redis.raw()).expect("deleted");
    assert_eq!(store.resume("ada").await.expect("resumed"), ModeAnswer::Changed);
    assert_eq!(store.resume("ada").await.expect("resumed"), ModeAnswer::Unchanged);
    let tokens: usize = redis::cmd("LLEN").arg(&bell).query(&mut redis.raw()).expect("counted");
    assert_eq!(tokens, 1, "every process is called");
    worker.do_all(&[]).await;
    assert_eq!((run_word(&store, &run).await, run_word(&store, &later).await), ("completed", "completed"));
}

#[tokio::test]
async fn a_freeze_is_not_ended_by_whoever_resumes() {
    let redis = TestRedis::start();
    // Requests wait for the end of a freeze for ten times as long.
    let patience = Duration::from_millis(20);
    let options = StoreOptions { patience, ..redis.options() };
    let store = Store::connect(&options).await.expect("redis is there");
    for (mode, pause, resume) in [("frozen", false, false), ("stopped", false, true), ("drain", true, true)] {
        for (goes, wanted) in [("pause", pause), ("resume", resume)] {
            redis::cmd("HSET")
                .arg(store.keys().ctl())
                .arg("mode")
                .arg(mode)
                .exec(&mut redis.raw())
                .expect("set");
            let answer = if goes == "pause" { store.pause("", "").await } else { store.resume("").await };
            match answer {
                Ok(ModeAnswer::Changed) => assert!(wanted, "{goes} from {mode}"),
                Err(StoreError::Refused(Refusal::WrongMode { mode: found })) => {
                    assert!(!wanted && found == mode, "{goes} from {mode}");
                }
                Err(StoreError::Refused(Refusal::Frozen { .. })) => assert!(!wanted && mode == "frozen"),
                other => panic!("{goes} from {mode}: {other:?}"),
            }
        }
    }
}
