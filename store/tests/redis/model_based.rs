//! Random scenarios against the scripts, with every rule checked after every request.
//!
//! `MAESTRO_SEED=<n>` plays one scenario again; `MAESTRO_SCENARIOS=<n>` plays so many.

use std::time::{Duration, Instant};

use crate::simulation::scenario::play;
use crate::simulation::statistics::Statistics;
use crate::support::TestRedis;

/// How long scenarios are played unless their number is given.
const TIME_BUDGET: Duration = Duration::from_secs(30);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, found `{text}`")))
}

#[tokio::test]
async fn model_based_scenarios_keep_every_rule() {
    let redis = TestRedis::start();
    let begun = Instant::now();
    let mut total = Statistics::default();
    let (first, count) = match (number("MAESTRO_SEED"), number("MAESTRO_SCENARIOS")) {
        (Some(seed), count) => (seed, Some(count.unwrap_or(1))),
        (None, count) => (1, count),
    };
    let mut seed = first;
    while count.map_or(begun.elapsed() < TIME_BUDGET, |count| seed < first + count) {
        match play(&redis, seed, &[]).await {
            Ok(statistics) => total.merge(&statistics),
            Err(story) => panic!("MAESTRO_SEED={seed} breaks a rule: {story}"),
        }
        total.count("scenarios");
        seed += 1;
    }
    show(&total, begun.elapsed());
    if first == 1 && count.is_none() {
        check_variety(&total);
    }
}

/// How often each of these must have happened in a hundred scenarios: otherwise the test has become
/// tame, and what it proves is less than it seems.
const VARIETY: [(&str, u64); 39] = [
    ("report-accepted", 2_000),
    ("report-repeated", 80),
    ("report-stale", 60),
    ("report-cancelled", 40),
    ("report-gone", 1),
    ("step-replayed", 200),
    ("grant-replayed", 200),
    ("step-request-lost", 100),
    ("step-answer-lost", 250),
    ("step-sent-twice", 200),
    ("old-request", 250),
    ("beat-answer-lost", 60),
    ("fenced", 150),
    ("lost-grant-found", 50),
    ("told-to-end", 15),
    ("told-stale", 40),
    ("clock-jump", 50),
    ("crash", 40),
    ("zombie", 40),
    ("takeover", 60),
    ("detach", 80),
    ("name-taken", 60),
    ("script-flush", 40),
    ("submit-again", 30),
    ("cancel-ended", 100),
    ("cancel-ending", 8),
    ("stop", 20),
    ("expanded", 30),
    ("expand-stale", 2),
    ("expand-sent-twice", 1),
    ("event-parked", 150),
    ("event-returned", 70),
    ("event-lost", 150),
    ("event-failed", 200),
    ("event-skipped", 500),
    ("event-cancelling", 60),
    ("event-fenced", 40),
    ("event-run-stopping", 40),
    ("swept", 150),
];

fn check_variety(total: &Statistics) {
    let scenarios = total.of("scenarios");
    // A machine that is busy with other things plays few scenarios; by them nothing can be judged.
    if scenarios < 30 {
        return;
    }
    let rare: Vec<String> = VARIETY
        .iter()
        .filter(|(word, hundred)| total.of(word) * 100 < hundred * scenarios)
        .map(|(word, hundred)| {
            format!("{word}: {} in {scenarios}, {hundred} in a hundred expected", total.of(word))
        })
        .collect();
    assert!(rare.is_empty(), "the scenarios have become tame: {rare:#?}");
}

#[expect(clippy::print_stderr, reason = "a test shows what it has tried")]
fn show(total: &Statistics, took: Duration) {
    eprintln!("{}\nin {took:.1?}", total.lines());
}
