//! Hundreds of random workflows at once on one cluster: two coordinators, two workers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::Write;
use std::time::{Duration, Instant};

use maestro_model::ids::RunId;
use maestro_store::events::AuditEvent;

use crate::compare::{Seen, Tries, differences, differences_of_stopped, is_determined, over_limit};
use crate::evaluate::{Fate, SkipCause};
use crate::generate::{Trial, trial};
use crate::script::workflow_file;
use crate::support::{ClusterSetup, Observer, TestCluster, audit};
use crate::witness::Witness;

/// Workflows of one test, unless `MAESTRO_TRIALS` says otherwise.
const TRIALS: u64 = 300;
/// Runs that go on at one time.
const AT_ONCE: usize = 40;
/// Until the last run has ended.
const LONGEST: Duration = Duration::from_secs(200);
/// Until a run of scripts that take seconds has to have ended, on a loaded machine.
const RUN_LONGEST: Duration = Duration::from_secs(60);
/// Runs of each outcome that are followed.
const FOLLOWED: usize = 4;
/// Differences that are shown.
const SHOWN_MAX: usize = 12;

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

pub(crate) fn say(text: &str) {
    // Shown with a failure, and when somebody looks.
    let _nobody_reads = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn generated_workflows_have_everything_in_them() {
    let trials: Vec<Trial> = (0..400).map(trial).collect();
    let steps = || trials.iter().flat_map(|trial| trial.sketch.steps.iter().zip(&trial.expectation.steps));
    let count =
        |what: &str, found: usize, least: usize| assert!(found >= least, "{what}: {found}, expected {least}");
    count("steps", steps().count(), 3_000);
    for fate in [Fate::Completed, Fate::Failed, Fate::Skipped] {
        count(fate.word(), steps().filter(|(_, expected)| expected.fate == fate).count(), 300);
    }
    count("skipped by `when`", steps().filter(|(_, one)| one.skipped == Some(SkipCause::When)).count(), 30);
    count("retried", steps().filter(|(_, expected)| expected.tries > 1).count(), 50);
    count("failed by an unknown name", steps().filter(|(_, one)| one.reason == Some("config")).count(), 20);
    count("timed out", steps().filter(|(_, one)| one.reason == Some("timeout")).count(), 3);
    count("items", steps().map(|(_, expected)| expected.items.len()).sum(), 300);
    let from_outputs =
        |step: &crate::sketch::StepSketch| matches!(step.list, Some(crate::sketch::ItemList::OutputOf(_)));
    let expanded = steps().filter(|(step, one)| from_outputs(step) && one.fate == Fate::Completed);
    count("lists from outputs", expanded.count(), 30);
    count("outputs that were read", steps().map(|(_, one)| one.outputs.len()).sum(), 2_000);
    count("published", trials.iter().map(|trial| trial.expectation.state.len()).sum(), 200);
    count("cancelled", trials.iter().filter(|trial| trial.sketch.sleeper.is_some()).count(), 20);
    let stops_itself = |trial: &&Trial| trial.sketch.sleeper.is_none() && !is_determined(trial);
    count("stopping themselves", trials.iter().filter(stops_itself).count(), 8);
    count("determined", trials.iter().filter(|trial| is_determined(trial)).count(), 300);
    let failed = trials.iter().filter(|trial| !trial.expectation.unhandled.is_empty()).count();
    count("failed runs", failed, 80);
    count("completed runs", trials.len() - failed, 80);
}

#[test]
fn random_workflows_end_as_the_reference_says() {
    let first = number("MAESTRO_SEED").unwrap_or_else(|| rand::random_range(0..1_000_000_000));
    let count = number("MAESTRO_TRIALS").unwrap_or(TRIALS);
    say(&format!("MAESTRO_SEED={first} MAESTRO_TRIALS={count}"));
    let setup = ClusterSetup { coordinators: 2, workers: 2, concurrency: 6, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    let trials: Vec<Trial> = (first..first + count).map(trial).collect();
    let begun = Instant::now();
    let runs = run_all(&mut cluster, &trials, |_| {});
    let took = begun.elapsed();
    let events = cluster.observer().events();
    let report = audit(&events, true);
    let mut found: Vec<String> = report.violations.clone();
    let by_run = by_run(events);
    let (mut tasks, mut wrong) = (0, 0);
    for (trial, run) in trials.iter().zip(&runs) {
        let seen = look_at(&cluster, trial, run, &by_run[run]);
        tasks += seen.story.tasks.len();
        let mut lines = match is_determined(trial) {
            true => differences(trial, &seen, Tries::Exact),
            false => differences_of_stopped(trial, &seen),
        };
        lines.extend(over_limit(trial, &seen));
        if !lines.is_empty() {
            wrong += 1;
            found.push(format!("MAESTRO_SEED={} (run {run}):\n    {}", trial.seed, lines.join("\n    ")));
        }
    }
    let (slowest, stuck) = slowest(&cluster, &trials, &runs);
    say(&format!("{count} workflows, {tasks} tasks in {took:?}, {wrong} differ; {slowest}"));
    found.extend(stuck);
    found.truncate(SHOWN_MAX);
    assert!(found.is_empty(), "{}", found.join("\n  "));
    assert_eq!((report.lost, report.fenced), (0, 0), "nothing goes wrong in this test");
    assert_exit_codes(&mut cluster, &trials);
}

/// Runs some once more, followed: the command ends with the code of the outcome.
fn assert_exit_codes(cluster: &mut TestCluster, trials: &[Trial]) {
    let of = |code: i32| {
        let fits = move |trial: &&Trial| {
            trial.sketch.sleeper.is_none() && (code == 0) == trial.expectation.unhandled.is_empty()
        };
        trials.iter().filter(fits).take(FOLLOWED).map(move |trial| (code, trial))
    };
    let chosen: Vec<(i32, &Trial)> = of(0).chain(of(1)).collect();
    for (number, (_, trial)) in chosen.iter().enumerate() {
        let witness = cluster.witness().join(format!("followed-{number}"));
        let path =
            cluster.write_workflow(&format!("followed-{number}"), &workflow_file(&trial.sketch, &witness));
        cluster.start_command(
            &format!("follower-{number}"),
            &["workflow", "run", path.to_str().expect("a plain path")],
        );
    }
    for (number, (code, trial)) in chosen.iter().enumerate() {
        let follower = cluster.member(&format!("follower-{number}"));
        let ended = follower.wait(LONGEST);
        assert_eq!(ended, Ok(*code), "MAESTRO_SEED={}:\n{}", trial.seed, follower.tail());
        let steps = trial.sketch.steps.len();
        let told = trial.sketch.steps.iter().filter(|step| follower.log().contains(&step.id)).count();
        assert_eq!(told, steps, "MAESTRO_SEED={}: each step is told of:\n{}", trial.seed, follower.log());
    }
}

/// Which run took longest, and how long; with its events if that is longer than it may take.
fn slowest(cluster: &TestCluster, trials: &[Trial], runs: &[RunId]) -> (String, Option<String>) {
    let took = |run: &RunId| {
        let record = cluster.observer().run(run);
        Duration::from_millis(record.finished_at_ms.unwrap_or(0).saturating_sub(record.created_at_ms))
    };
    let (trial, run) = trials.iter().zip(runs).max_by_key(|(_, run)| took(run)).expect("there are trials");
    let line = format!("the slowest is MAESTRO_SEED={} (run {run}, {:?})", trial.seed, took(run));
    if took(run) < RUN_LONGEST {
        return (line, None);
    }
    let story = cluster.story(run);
    let events = story.events.iter().map(|event| {
        let after = event.at_ms.saturating_sub(story.record.created_at_ms);
        format!("{after} ms: {:?}", event.kind)
    });
    (line.clone(), Some(format!("{line}:\n    {}", events.collect::<Vec<_>>().join("\n    "))))
}

/// Runs all, some at a time; the id of each. `disturb` is called all the time.
pub(crate) fn run_all(
    cluster: &mut TestCluster,
    trials: &[Trial],
    mut disturb: impl FnMut(&mut TestCluster),
) -> Vec<RunId> {
    let mut runs: Vec<RunId> = Vec::new();
    let mut open: VecDeque<usize> = VecDeque::new();
    let deadline = Instant::now() + LONGEST;
    while runs.len() < trials.len() || !open.is_empty() {
        disturb(cluster);
        if runs.len() < trials.len() && open.len() < AT_ONCE {
            open.push_back(runs.len());
            runs.push(submit(cluster, &trials[runs.len()]));
            continue;
        }
        let next = open.pop_front().expect("it is not empty");
        let trial = &trials[next];
        if cluster.observer().run(&runs[next]).status.is_final() {
            continue;
        }
        if Instant::now() > deadline {
            let tasks = cluster.observer().tasks(&runs[next]);
            let open = tasks.iter().filter(|task| !task.status.is_final());
            let open: Vec<String> =
                open.map(|task| format!("{} {:?}", task.own.label(), task.record)).collect();
            panic!("MAESTRO_SEED={} does not end: {}\n{}", trial.seed, open.join("\n"), cluster.tails());
        }
        stop_at_the_sleeper(cluster, trial, &runs[next]);
        open.push_back(next);
        // Between two looks, until the deadline above.
        std::thread::sleep(Duration::from_millis(2));
    }
    runs
}

fn submit(cluster: &TestCluster, trial: &Trial) -> RunId {
    let witness = cluster.witness().join(&trial.sketch.name);
    cluster.submit_text(&trial.sketch.name, &workflow_file(&trial.sketch, &witness))
}

/// Stops a run whose sleeper has fallen asleep.
fn stop_at_the_sleeper(cluster: &TestCluster, trial: &Trial, run: &RunId) {
    let Some(sleeper) = trial.sketch.sleeper else { return };
    let tasks = cluster.observer().tasks(run);
    let id = trial.sketch.steps[sleeper].id.as_str();
    let task = tasks.iter().find(|task| task.own.step == id).expect("the step is there");
    let witness = Witness::read(&cluster.witness().join(&trial.sketch.name));
    if !witness.tries(&task.id.to_string()).is_empty() {
        let stopped = cluster.observer().ask(async |store| store.stop_run(run, "the test").await);
        stopped.expect("the run is there");
    }
}

/// Events of each run, in order.
pub(crate) fn by_run(events: Vec<AuditEvent>) -> HashMap<RunId, Vec<AuditEvent>> {
    let mut by_run: HashMap<RunId, Vec<AuditEvent>> = HashMap::new();
    for event in events {
        if let Some(run) = event.run().cloned() {
            by_run.entry(run).or_default().push(event);
        }
    }
    by_run
}

pub(crate) fn look_at(cluster: &TestCluster, trial: &Trial, run: &RunId, events: &[AuditEvent]) -> Seen {
    let observer: &Observer = cluster.observer();
    let mut state = BTreeMap::new();
    for key in trial.expectation.state.keys() {
        let value = observer.ask(async |store| store.state(key).await).expect("redis is there");
        let text = value.map(|shared| match shared.value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        });
        state.insert(key.clone(), text);
    }
    Seen {
        story: observer.story(run, events),
        witness: Witness::read(&cluster.witness().join(&trial.sketch.name)),
        state,
    }
}
