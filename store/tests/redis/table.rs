//! Every script against every state of a task, compared with the table in `model`.
//!
//! Where the table knows a next state, the script must lead there; where it knows none, the script must
//! refuse and change nothing at all.

use std::time::Duration;

use maestro_model::ids::{Attempt, Incarnation, RunId};
use maestro_model::plan::QueueName;
use maestro_model::task::{TaskStatus, next_status};
use maestro_store::step::{Ending, ReportAnswer, StepReport, StepRequest};
use maestro_store::worker::ProcessStatus;
use maestro_store::{Refusal, StoreError};

use crate::simulation::dump::{Depth, Dump};
use crate::simulation::stage::{Deed, FIRST_WALL_MS, Setting, Stage, about, deeds, endings};
use crate::support::{PlanSketch, TestRedis};

/// Whether a deed does to a task what the table says. The complaint, if not.
async fn try_deed(redis: &TestRedis, setting: Setting, deed: &Deed) -> Option<String> {
    let mut stage = Stage::set(redis, setting, deed).await;
    let before = stage.work();
    let answer = stage.act(deed).await;
    let status = stage.status().await;
    let next = deed.event(setting).map(|event| (event, next_status(setting.status(), event)));
    let changed = stage.work() != before;
    let complaint = match (&next, answer) {
        (Some((event, Ok(next))), _) if status != *next => {
            format!("{event:?} leads to {next:?}, not {status:?}")
        }
        (
            Some((_, Ok(_))),
            Some(answer @ (ReportAnswer::Stale | ReportAnswer::Gone | ReportAnswer::Repeated)),
        ) => {
            format!("a lawful report is answered {answer:?}")
        }
        (Some((_, Ok(TaskStatus::Cancelled))), Some(answer)) if answer != ReportAnswer::Cancelled => {
            format!("the end of a cancelled attempt is answered {answer:?}")
        }
        (Some((_, Ok(_))), _) => return None,
        (_, Some(ReportAnswer::Accepted)) => "a report that the table refuses is accepted".to_owned(),
        // A worker may learn late that its task was cancelled: the answer says so, nothing is changed.
        (_, Some(ReportAnswer::Cancelled)) if setting != Setting::Cancelled => {
            "it was not cancelled".to_owned()
        }
        _ if *deed == Deed::Claim
            && matches!(setting, Setting::Blocked | Setting::Held | Setting::GroupRunning) =>
        {
            // The claim takes another task of the run.
            if status == setting.status() { return None } else { format!("it is {status:?} after the claim") }
        }
        _ if changed => format!("it is refused and changes something: now {status:?}"),
        _ => return None,
    };
    Some(format!("{setting:?}, {deed:?}: {complaint}"))
}

#[tokio::test]
async fn every_script_does_to_every_state_what_the_table_says() {
    let redis = TestRedis::start();
    let mut complaints = Vec::new();
    let mut tried = 0;
    for setting in Setting::ALL {
        for deed in deeds() {
            complaints.extend(try_deed(&redis, setting, &deed).await);
            tried += 1;
        }
    }
    assert_eq!(tried, 15 * 34);
    assert!(complaints.is_empty(), "{} of {tried}:\n{}", complaints.len(), complaints.join("\n"));
}

#[tokio::test]
async fn the_second_report_is_known_only_if_it_says_the_same() {
    let redis = TestRedis::start();
    for (place, first) in endings().into_iter().enumerate() {
        for (other, second) in endings().into_iter().enumerate() {
            let mut stage = Stage::set(&redis, Setting::Running, &Deed::Beat).await;
            let owner = stage.owner.clone();
            assert_eq!(stage.report(&owner, Attempt(1), first.clone()).await, ReportAnswer::Accepted);
            let before = stage.work();
            let answer = stage.report(&owner, Attempt(1), second.clone()).await;
            assert!(stage.work() == before, "{first:?} then {second:?} changes something");
            let back = |ending: &Ending| matches!(ending, Ending::Returned { .. } | Ending::Cancelled);
            // A task that waits for a time is the same whichever way it was asked for.
            let waits = |ending: &Ending| {
                matches!(ending, Ending::ComeBack { .. } | Ending::Failed { retry_in_ms: Some(_), .. })
            };
            // A retry that comes too late for its run is recorded as a failure, and known as one.
            let late =
                matches!((&first, &second), (Ending::Failed { .. }, Ending::Failed { .. })) && place < other;
            let alike = (back(&first) && back(&second)) || (waits(&first) && waits(&second)) || late;
            if place == other {
                assert_eq!(answer, ReportAnswer::Repeated, "{first:?} twice");
            } else if !alike {
                assert_eq!(answer, ReportAnswer::Stale, "{first:?} then {second:?}");
            }
        }
    }
}

type Answers = Vec<(&'static str, Result<(), StoreError>)>;

/// Every way to carry work on, each with its name and what it answered.
async fn try_work(stage: &Stage) -> Answers {
    let (store, task, owner) = (&stage.store, &stage.task, &stage.owner);
    let request = StepRequest {
        lane: 0,
        request_id: 99,
        want: 4,
        queues: vec![QueueName::from_stored("a:noop")],
        reports: vec![StepReport {
            task: task.clone(),
            attempt: Attempt(1),
            ending: Ending::Completed { exit_code: Some(0) },
            output: String::new(),
            publish: Vec::new(),
        }],
        state_ttl_ms: 0,
    };
    let plan = PlanSketch::new(1).plan();
    vec![
        ("submit", store.submit(&RunId::random(0), &plan, 2).await.map(drop)),
        ("step", store.step(owner, &request).await.map(drop)),
        ("sweep", store.sweep(10).await.map(drop)),
        ("expand", store.expand(owner, task, Attempt(1), 0, 0, None, &[]).await.map(drop)),
    ]
}

/// Every way to change something.
async fn try_everything(stage: &Stage) -> Answers {
    let (store, task, owner) = (&stage.store, &stage.task, &stage.owner);
    let hour = Duration::from_secs(3600);
    let types = ["noop".to_owned()];
    let fresh = Incarnation::random();
    let status = ProcessStatus::default();
    let mut answers = try_work(stage).await;
    answers.extend([
        ("beat", store.beat(owner, hour, &types, &status, &[]).await.map(drop)),
        ("attach", store.attach(&fresh, "fresh", &types, hour, false, &about()).await),
        ("detach", store.detach(owner).await),
        ("cancel", store.cancel_task(task, "").await.map(drop)),
        ("stop", store.stop_run(&task.run, "").await.map(drop)),
        ("lead", store.lead(owner, hour).await.map(drop)),
        ("collect", store.collect_run(&task.run).await.map(drop)),
        ("pause", store.pause("", "").await.map(drop)),
    ]);
    answers
}

#[tokio::test]
async fn a_handle_of_an_older_epoch_changes_nothing() {
    let redis = TestRedis::start();
    let mut stage = Stage::set(&redis, Setting::Running, &Deed::Beat).await;
    let key = stage.store.keys().ctl();
    redis::cmd("HSET").arg(key).arg("epoch").arg("9999999999").exec(&mut stage.raw).expect("set");
    let before =
        Dump::read(&mut stage.raw, stage.store.keys().prefix(), "0", Depth::Whole).expect("readable");
    for (name, answer) in try_everything(&stage).await {
        assert!(matches!(answer, Err(StoreError::Refused(Refusal::Epoch { .. }))), "{name}: {answer:?}");
    }
    let after = Dump::read(&mut stage.raw, stage.store.keys().prefix(), "0", Depth::Whole).expect("readable");
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_cluster_that_is_gone_is_not_brought_back_by_halves() {
    let redis = TestRedis::start();
    let mut stage = Stage::set(&redis, Setting::Running, &Deed::Beat).await;
    redis::cmd("FLUSHALL").exec(&mut stage.raw).expect("flushed");
    for (name, answer) in try_everything(&stage).await {
        // Who takes leave of a cluster that is gone has nothing left in it.
        assert!(answer.is_err() || name == "detach", "{name}: {answer:?}");
    }
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut stage.raw).expect("keys");
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test]
async fn a_frozen_cluster_takes_no_work_and_its_clock_stands_still() {
    let redis = TestRedis::start();
    let mut stage = Stage::set(&redis, Setting::Running, &Deed::Beat).await;
    let key = stage.store.keys().ctl();
    redis::cmd("HSET").arg(key).arg("mode").arg("frozen").exec(&mut stage.raw).expect("set");
    let before = stage.work();
    let prefix = stage.store.keys().prefix().to_owned();
    let clock = Dump::read(&mut stage.raw, &prefix, "0", Depth::Quick).expect("readable").ctl("clk");
    stage.set_wall(FIRST_WALL_MS + 3_000);
    for (name, answer) in try_work(&stage).await {
        let waits = matches!(answer, Err(StoreError::Refused(Refusal::Paused | Refusal::Frozen { .. })));
        assert!(waits, "{name}: {answer:?}");
    }
    stage.act(&Deed::Beat).await;
    assert!(stage.work() == before, "nothing of the work has changed");
    let now = Dump::read(&mut stage.raw, &prefix, "0", Depth::Quick).expect("readable").ctl("clk");
    assert_eq!(clock, now);
}
