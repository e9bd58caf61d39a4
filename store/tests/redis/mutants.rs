//! Each guard of the scripts is needed: without it, a scenario breaks a rule.
//!
//! A mistake that no scenario notices fails the test by name; either the scenarios are too tame then, or
//! the guard is not needed.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{agents, retries, submissions};
use crate::simulation::mutants::{MUTANTS, Mutant, mutant};
use crate::simulation::scenario::play;
use crate::support::TestRedis;

/// Scenarios that are played with one mistake before it counts as unnoticed.
const SCENARIOS_PER_MUTANT: u64 = 150;
/// Redis servers, each with a thread: what two cores bear.
const LANES: usize = 2;

/// A mistake by its name, the scenario that noticed it and the rule it broke.
type Finding = (&'static str, Option<(u64, String)>);

/// The seed of the scenario that noticed a mistake, and what it found. Panics if it finds something without
/// the mistake as well: then it has noticed nothing.
fn notice(
    redis: &TestRedis,
    runtime: &tokio::runtime::Runtime,
    mutant: &Mutant,
    harmless: &Mutex<BTreeSet<u64>>,
) -> Option<(u64, String)> {
    let played = |seed, edits| {
        std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(redis, seed, edits))))
    };
    let others = (1..=SCENARIOS_PER_MUTANT).filter(|seed| *seed != mutant.hint);
    for seed in std::iter::once(mutant.hint).chain(others) {
        let found = match played(seed, mutant.edits) {
            Ok(Ok(_)) => continue,
            Ok(Err(story)) => story.lines().next().unwrap_or_default().to_owned(),
            Err(_) => "the scenario itself panicked".to_owned(),
        };
        if !harmless.lock().expect("no holder panics").contains(&seed) {
            assert!(
                matches!(played(seed, &[]), Ok(Ok(_))),
                "scenario {seed} finds something in what is shipped"
            );
            harmless.lock().expect("no holder panics").insert(seed);
        }
        return Some((seed, found));
    }
    None
}

/// What must panic with the mistake: too rare for scenarios of chance.
type Scene = fn(&'static [(&'static str, &'static str)]) -> Pin<Box<dyn Future<Output = ()>>>;

const SCENES: [(Mutant, Scene); 4] = [
    (
        mutant(
            "a cancelled task is saved by a restart of its agent",
            &[("restart, kill = restart and restarts(rec),", "restart, kill = restart,")],
        ),
        |edits| Box::pin(agents::a_cancelled_task_is_restarted(edits)),
    ),
    (
        mutant(
            "a restart of its agent cancels the task",
            &[("if restarts(rec) then\n    rec[REASON] = ''", "if false then\n    rec[REASON] = ''")],
        ),
        |edits| Box::pin(agents::an_agent_is_restarted_at_work(edits)),
    ),
    (
        mutant(
            "ends that are still to be told are told to whoever waits anew",
            &[("if find(entry, '%a ' .. id, 1) == 1 then return { 'AGAIN' } end", "")],
        ),
        |edits| Box::pin(retries::a_retry_comes_while_ends_are_told(edits)),
    ),
    (mutant("a key lets a second run in", &[("if first and first ~= id then", "if false then")]), |edits| {
        Box::pin(submissions::one_key_is_used_twice(edits))
    }),
];

#[test]
fn mutants_of_the_scripts_are_noticed_by_the_scenes_made_for_them() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    for (mutant, scene) in &SCENES {
        let played = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(scene(mutant.edits))));
        assert!(played.is_err(), "its scene does not notice that {}", mutant.name);
    }
}

#[test]
fn mutants_of_the_scripts_are_noticed() {
    let next = Mutex::new(MUTANTS.iter());
    let found: Mutex<Vec<Finding>> = Mutex::default();
    // Scenarios that find nothing in what is shipped.
    let harmless: Mutex<BTreeSet<u64>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let redis = TestRedis::start();
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime can be made");
                loop {
                    let Some(mutant) = next.lock().expect("no holder panics").next() else { return };
                    let begun = Instant::now();
                    let noticed = notice(&redis, &runtime, mutant, &harmless);
                    show(mutant.name, noticed.as_ref(), begun.elapsed());
                    found.lock().expect("no holder panics").push((mutant.name, noticed));
                }
            });
        }
    });
    let found = found.into_inner().expect("no holder panics");
    assert_eq!(found.len(), MUTANTS.len());
    let survivors: Vec<&str> =
        found.iter().filter(|(_, noticed)| noticed.is_none()).map(|(name, _)| *name).collect();
    assert!(survivors.is_empty(), "no scenario notices that {survivors:?}");
}

#[expect(clippy::print_stderr, reason = "a test shows what it has tried")]
fn show(name: &str, noticed: Option<&(u64, String)>, took: Duration) {
    match noticed {
        Some((seed, rule)) => eprintln!("{took:>6.1?} {name}: scenario {seed}: {rule}"),
        None => eprintln!("{took:>6.1?} {name}: NOT NOTICED"),
    }
}
