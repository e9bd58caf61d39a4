//! Random workflows that have ended, resumed from a step: exactly what the reference says runs again, and the
//! plan said so before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use maestro_coordinator::resuming::{ResumeError, ResumePlan, resume_plan};
use maestro_coordinator::submission::submit_plan;
use maestro_model::ids::{RunId, StepId};
use maestro_store::events::{EventKind, TaskHappening};
use maestro_store::runs::RunStatus;

use crate::compare::{Seen, Tries, by_name, differences, is_determined};
use crate::evaluate::{Expectation, SkipCause, evaluate_resumed};
use crate::generate::{Trial, trial};
use crate::random::{by_run, look_at, number, run_all, say};
use crate::sketch::{Read, Sketch, Test};
use crate::support::{ClusterSetup, TestCluster};

/// Workflows of one test, unless `MAESTRO_TRIALS` says otherwise.
const TRIALS: usize = 60;
/// Until the last resumed run has ended.
const LONGEST: Duration = Duration::from_secs(120);
/// Differences that are shown.
const SHOWN_MAX: usize = 12;
/// `MAESTRO_AGENT_TIMEOUT`, which each step of these overrides.
const TIMEOUT_MS: u64 = 60_000;
/// `MAESTRO_MAX_ATTEMPTS`.
const LOST_MAX: u32 = 3;

/// Shared state goes on from one run to the next, so what reads it comes to something else.
fn reads_state(sketch: &Sketch) -> bool {
    sketch.steps.iter().any(|step| {
        step.reads.iter().any(|read| matches!(read, Read::State { .. }))
            || step.when.as_ref().is_some_and(|when| matches!(when.test, Test::State { .. }))
    })
}

/// A workflow, the step it is resumed from, and what that comes to.
fn resumed_trials(first: u64, count: usize) -> Vec<(Trial, Trial, usize)> {
    let trials = (first..).map(trial).filter(|trial| is_determined(trial) && !reads_state(&trial.sketch));
    let resumed = trials.filter_map(|before| {
        let start = before.seed as usize % before.sketch.steps.len();
        let expectation = evaluate_resumed(&before.sketch, &before.expectation, start);
        let stops = before.sketch.fail_fast && !expectation.unhandled.is_empty();
        let after = Trial { seed: before.seed, sketch: before.sketch.clone(), expectation };
        (after.expectation.open.is_empty() && !stops).then_some((before, after, start))
    });
    resumed.take(count).collect()
}

fn resume(cluster: &TestCluster, run: &RunId, step: &str) -> (RunId, ResumePlan) {
    let step: StepId = step.parse().expect("a lawful id");
    let answer = cluster.observer().ask(async |store| {
        let resumed = resume_plan(store, run, &step, TIMEOUT_MS, false).await.map_err(told)?;
        let plan = resumed.plan.clone();
        let submitted = submit_plan(store, plan, LOST_MAX).await.expect("the plan is lawful");
        Ok((submitted.run, resumed))
    });
    answer.expect("redis is there")
}

fn told(error: ResumeError) -> maestro_store::StoreError {
    match error {
        ResumeError::Store(error) => error,
        other => panic!("it cannot be resumed: {other}"),
    }
}

#[test]
fn resumed_workflows_run_what_the_reference_says_and_nothing_else() {
    let first = number("MAESTRO_SEED").unwrap_or_else(|| rand::random_range(0..1_000_000_000));
    let count = number("MAESTRO_TRIALS").map_or(TRIALS, |count| count as usize);
    say(&format!("MAESTRO_SEED={first} MAESTRO_TRIALS={count}"));
    let setup = ClusterSetup { coordinators: 1, workers: 2, concurrency: 6, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    let (mut before, mut after, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    for (one, resumed, start) in resumed_trials(first, count) {
        before.push(one);
        after.push(resumed);
        starts.push(start);
    }
    let runs = run_all(&mut cluster, &before, |_| {});
    let resumed: Vec<(RunId, ResumePlan)> = (runs.iter().zip(&after).zip(&starts))
        .map(|((run, trial), start)| resume(&cluster, run, &trial.sketch.steps[*start].id))
        .collect();
    wait_for_all(&cluster, &resumed, &after);
    let events = by_run(cluster.observer().events());
    let mut found = Vec::new();
    let (mut ran, mut kept) = (0, 0);
    for (trial, (run, plan)) in after.iter().zip(&resumed) {
        let seen = look_at(&cluster, trial, run, &events[run]);
        let without_state = Trial {
            seed: trial.seed,
            sketch: trial.sketch.clone(),
            expectation: Expectation { state: BTreeMap::new(), ..trial.expectation.clone() },
        };
        let mut lines = differences(&without_state, &seen, Tries::Exact);
        lines.extend(unlike_the_plan(trial, plan, &seen));
        ran += plan.will_run.len();
        kept += plan.keeps.len();
        if !lines.is_empty() {
            found.push(format!("MAESTRO_SEED={} (run {run}):\n    {}", trial.seed, lines.join("\n    ")));
        }
    }
    say(&format!("{count} workflows: {ran} steps run again, {kept} keep what they came to"));
    found.truncate(SHOWN_MAX);
    assert!(found.is_empty(), "{}", found.join("\n  "));
    assert!(ran > count && kept > count, "there is something to run and something to keep");
}

fn wait_for_all(cluster: &TestCluster, resumed: &[(RunId, ResumePlan)], trials: &[Trial]) {
    let deadline = Instant::now() + LONGEST;
    for ((run, _), trial) in resumed.iter().zip(trials) {
        while !cluster.observer().run(run).status.is_final() {
            assert!(Instant::now() < deadline, "MAESTRO_SEED={}: run {run} does not end", trial.seed);
            // Between two looks, until the deadline above.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Where what was announced is not what happened.
fn unlike_the_plan(trial: &Trial, plan: &ResumePlan, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    let tasks = by_name(&seen.story);
    let started: BTreeSet<u32> = seen
        .story
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Task { task, what: TaskHappening::Started { .. }, .. } => Some(task.index),
            _ => None,
        })
        .collect();
    for (step, expected) in trial.sketch.steps.iter().zip(&trial.expectation.steps) {
        let (task, _) = tasks[&(step.id.as_str(), None)];
        let announced = plan.will_run.iter().any(|id| id.as_str() == step.id);
        let ran = started.contains(&task.id.index);
        // What its own edges keep from running while the others run cannot be known before.
        let decided_later = expected.skipped == Some(SkipCause::Edges);
        if ran != announced && !(announced && decided_later) {
            found.push(format!("`{}` was announced: {announced}; it started: {ran}", step.id));
        }
        let kept = plan.keeps.iter().find(|kept| kept.step.as_str() == step.id);
        if let Some(kept) = kept
            && kept.status != task.status
        {
            found.push(format!("`{}` was to keep {:?} and is {:?}", step.id, kept.status, task.status));
        }
    }
    let steps = plan.will_run.len() + plan.keeps.len();
    if steps != trial.sketch.steps.len() {
        found.push(format!("{steps} steps were announced"));
    }
    found
}

#[test]
fn a_run_that_goes_on_is_not_resumed() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let sleeping = "name: sleeping\nsteps:\n  - {id: a, agent: probe, prompt: exec sleep 60}\n";
    let run = cluster.submit_text("sleeping", sleeping);
    let refused = cluster.observer().ask(async |store| {
        let step: StepId = "a".parse().expect("a lawful id");
        Ok(resume_plan(store, &run, &step, TIMEOUT_MS, false).await.map(drop))
    });
    let refused = refused.expect("redis is there").expect_err("it goes on");
    assert!(matches!(refused, ResumeError::NotEnded { status: RunStatus::Running, .. }), "{refused}");
    assert_eq!(refused.to_string(), format!("run `{run}` has not ended: it is running"));
    let stopped = cluster.observer().ask(async |store| store.stop_run(&run, "the test").await);
    stopped.expect("the run is there");
    let deadline = Instant::now() + LONGEST;
    while !cluster.observer().run(&run).status.is_final() {
        assert!(Instant::now() < deadline, "the run does not end: {}", cluster.tails());
        // Between two looks, until the deadline above.
        std::thread::sleep(Duration::from_millis(5));
    }
    let unknown = cluster.observer().ask(async |store| {
        let step: StepId = "aa".parse().expect("a lawful id");
        Ok(resume_plan(store, &run, &step, TIMEOUT_MS, false).await.map(drop))
    });
    let unknown = unknown.expect("redis is there").expect_err("there is no such step");
    assert_eq!(unknown.to_string(), format!("run `{run}` has no step `aa`"));
}
