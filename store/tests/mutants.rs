//! Each guard of the scripts is needed: without it, a scenario breaks a rule.
//!
//! A mistake that no scenario notices fails the test by name; either the scenarios are too tame then, or
//! the guard is not needed.

mod simulation;
mod support;

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use simulation::mutants::{MUTANTS, Mutant};
use simulation::scenario::play;
use support::TestRedis;

/// Scenarios that are played with one mistake before it counts as unnoticed.
const SCENARIOS_PER_MUTANT: u64 = 150;
/// Redis servers, each with a thread: what two cores bear.
const LANES: usize = 2;

/// A mistake by its name, the scenario that noticed it and the rule it broke, and the time it took.
type Finding = (&'static str, Option<(u64, String)>, Duration);

/// The seed of the scenario that noticed a mistake, and what it found.
fn notice(redis: &TestRedis, runtime: &tokio::runtime::Runtime, mutant: &Mutant) -> Option<(u64, String)> {
    for seed in 1..=SCENARIOS_PER_MUTANT {
        let played =
            std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(redis, seed, mutant.edits))));
        match played {
            Ok(Ok(_)) => {}
            Ok(Err(story)) => return Some((seed, story.lines().next().unwrap_or_default().to_owned())),
            Err(_) => return Some((seed, "the scenario itself panicked".to_owned())),
        }
    }
    None
}

#[test]
fn mutants_of_the_scripts_are_noticed() {
    let begun = Instant::now();
    let next = Mutex::new(MUTANTS.iter());
    let found: Mutex<Vec<Finding>> = Mutex::default();
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
                    let noticed = notice(&redis, &runtime, mutant);
                    found.lock().expect("no holder panics").push((mutant.name, noticed, begun.elapsed()));
                }
            });
        }
    });
    let found = found.into_inner().expect("no holder panics");
    assert_eq!(found.len(), MUTANTS.len());
    let survivors: Vec<&str> =
        found.iter().filter(|(_, noticed, _)| noticed.is_none()).map(|(name, _, _)| *name).collect();
    show(&found, begun.elapsed());
    assert!(survivors.is_empty(), "no scenario notices that {survivors:?}");
}

#[expect(clippy::print_stderr, reason = "a test shows what it has tried")]
fn show(found: &[Finding], took: Duration) {
    for (name, noticed, took) in found {
        match noticed {
            Some((seed, rule)) => eprintln!("{took:>6.1?} {name}: scenario {seed}: {rule}"),
            None => eprintln!("{took:>6.1?} {name}: NOT NOTICED"),
        }
    }
    eprintln!("{} mistakes in {took:.1?}", found.len());
}
