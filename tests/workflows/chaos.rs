//! Random workflows while workers and coordinators are killed: what comes out stays the same.
//!
//! A script that counts its attempts would count lost ones too, so only workflows without such scripts take
//! part. How often agents are started is bounded by the faults, see `tests/cluster/faults`.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::compare::{Tries, differences, is_determined, over_limit};
use crate::generate::{Trial, trial};
use crate::random::{by_run, look_at, number, run_all, say};
use crate::sketch::{Failing, ItemList, Offer, Read, Script};
use crate::support::{ClusterSetup, TestCluster, audit};

/// Workflows of the test, unless `MAESTRO_TRIALS` says otherwise.
const TRIALS: u64 = 80;
/// Most time between two kills.
const CALM_MAX_MS: u64 = 600;

/// Whether losses change nothing but the number of attempts.
fn takes_losses(trial: &Trial) -> bool {
    let simple = |script: &Script| {
        script.fails_until == 0
            || (script.fails_until == u32::MAX && matches!(script.failure, Failing::Exit(_)))
    };
    is_determined(trial)
        && trial.sketch.steps.iter().all(|step| {
            let listed = match &step.list {
                Some(ItemList::Literal(items)) => items.as_slice(),
                _ => &[],
            };
            let offered = match &step.offers {
                Some(Offer::Items(items)) => items.as_slice(),
                _ => &[],
            };
            simple(&step.script)
                && listed.iter().chain(offered).all(|item| simple(&item.script))
                && !step.reads.contains(&Read::Attempt)
        })
}

#[test]
fn random_workflows_end_the_same_while_processes_die() {
    let first = number("MAESTRO_SEED").unwrap_or_else(|| rand::random_range(0..1_000_000_000));
    let count = number("MAESTRO_TRIALS").unwrap_or(TRIALS) as usize;
    say(&format!("MAESTRO_SEED={first} MAESTRO_TRIALS={count}"));
    let env = vec![("MAESTRO_MAX_ATTEMPTS", "100".to_owned())];
    let setup = ClusterSetup { coordinators: 2, workers: 3, concurrency: 4, env, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    let trials: Vec<Trial> = (first..).map(trial).filter(takes_losses).take(count).collect();
    let mut dice = StdRng::seed_from_u64(first);
    let mut next_kill = Instant::now();
    let mut kills = 0;
    let runs = run_all(&mut cluster, &trials, |cluster| {
        if Instant::now() < next_kill {
            return;
        }
        next_kill = Instant::now() + Duration::from_millis(dice.random_range(0..CALM_MAX_MS));
        match dice.random_range(0..4) {
            0 => {
                let name = ["c0", "c1"][dice.random_range(0..2usize)];
                cluster.member(name).kill();
                cluster.start_coordinator(name);
            }
            _ => {
                // One that holds something, if any does: otherwise a kill may cost nobody anything.
                let alive = cluster.observer().alive();
                let busy = |name: &&str| alive.iter().any(|one| one.name == *name && one.holds > 0);
                let any = ["w0", "w1", "w2"][dice.random_range(0..3usize)];
                let name = ["w0", "w1", "w2"].into_iter().find(busy).unwrap_or(any);
                cluster.member(name).kill();
                cluster.start_worker(name);
            }
        }
        kills += 1;
    });
    for name in ["w0", "w1", "w2"] {
        cluster.wait_for_worker(name);
    }
    let events = cluster.observer().events();
    let report = audit(&events, true);
    let by_run = by_run(events);
    let mut found = report.violations.clone();
    for (trial, run) in trials.iter().zip(&runs) {
        let seen = look_at(&cluster, trial, run, &by_run[run]);
        let mut lines = differences(trial, &seen, Tries::More);
        lines.extend(over_limit(trial, &seen));
        if !lines.is_empty() {
            found.push(format!("MAESTRO_SEED={} (run {run}):\n    {}", trial.seed, lines.join("\n    ")));
        }
    }
    say(&format!("{kills} kills, {} attempts lost, {} late reports refused", report.lost, report.fenced));
    assert!(found.is_empty(), "{}", found.join("\n  "));
    // How many attempts that costs is chance, and is said above.
    assert!(kills > 3, "{kills} kills");
}
