//! Random workflows: every kind of edge in every mixture, failures, retries, `when`, `foreach`, shared state.
//!
//! The same seed gives the same workflow. What a run would decide by chance is taken out before it is used:
//! see `settled`.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use crate::evaluate::{Expectation, Fate, OpenOrder, evaluate};
use crate::sketch::{
    Condition, Failing, ItemList, ItemSketch, NOTHING, Offer, Read, RetryKind, RetrySketch, Script, Sketch,
    StepSketch, Test, Trigger,
};

/// Most steps of a workflow, cancelled ones included: what fits into a word of bits.
const STEPS_MAX: usize = 60;
/// How far back parents are looked for.
const REACH: usize = 12;
/// One workflow in so many is cancelled in the middle.
const CANCELLED_EVERY: u32 = 10;

/// Odd texts: they go through templates, a shell, output files and Redis, and must come out as they are.
const ODD: [&str; 8] = [
    "plain",
    "it's \"quoted\"",
    "$HOME `id` $(id)",
    "back\\slash\\n %s %d",
    "<< state.nope >> << 1 / 0 >>",
    "a=b<<c",
    "ünï – ☃",
    " spaces  around ",
];

/// A workflow and what it comes to.
pub(crate) struct Trial {
    pub(crate) seed: u64,
    pub(crate) sketch: Sketch,
    pub(crate) expectation: Expectation,
}

/// The workflow of a seed.
pub(crate) fn trial(seed: u64) -> Trial {
    let mut maker = Maker { dice: StdRng::seed_from_u64(seed), seed, fail_rate: 0.0, keys: Vec::new() };
    let (sketch, expectation) = settled(maker.sketch());
    Trial { seed, sketch, expectation }
}

/// Takes out what hangs on an order that is left open, until nothing does.
fn settled(mut sketch: Sketch) -> (Sketch, Expectation) {
    loop {
        let expectation = evaluate(&sketch);
        let mut open = expectation.open.clone();
        // From the back, so that numbers of reads stay right.
        open.sort_by_key(|order| match order {
            OpenOrder::Read(step, read) => (*step, *read),
            OpenOrder::When(step) | OpenOrder::List(step) => (*step, usize::MAX),
        });
        open.dedup();
        if open.is_empty() {
            return (sketch, expectation);
        }
        for order in open.into_iter().rev() {
            match order {
                OpenOrder::Read(step, read) => drop(sketch.steps[step].reads.remove(read)),
                OpenOrder::When(step) => sketch.steps[step].when = None,
                OpenOrder::List(step) => sketch.steps[step].list = Some(ItemList::Literal(Vec::new())),
            }
        }
    }
}

struct Maker {
    dice: StdRng,
    seed: u64,
    /// How often a script fails, of this workflow.
    fail_rate: f64,
    /// Keys of shared state that some step publishes.
    keys: Vec<String>,
}

impl Maker {
    fn chance(&mut self, probability: f64) -> bool {
        self.dice.random_bool(probability)
    }

    fn sketch(&mut self) -> Sketch {
        let share: f64 = self.dice.random_range(0.0..1.0);
        let count = 2 + ((STEPS_MAX - 2) as f64 * share.powi(3)) as usize;
        self.fail_rate = *[0.0, 0.05, 0.15, 0.35].choose(&mut self.dice).expect("it has elements");
        let modes = ["fast", "slow"];
        let mode = *modes.choose(&mut self.dice).expect("it has elements");
        let mut sketch = Sketch {
            name: format!("random-{}", self.seed),
            vars: BTreeMap::from([("mode".to_owned(), mode.to_owned()), ("odd".to_owned(), self.odd())]),
            concurrency: self.chance(0.2).then(|| self.dice.random_range(1..5)),
            fail_fast: self.chance(0.25),
            steps: Vec::new(),
            file_order: (0..count).collect(),
            sleeper: None,
        };
        for index in 0..count {
            let step = self.step(&sketch, index);
            sketch.steps.push(step);
            self.add_templates(&mut sketch, index);
        }
        sketch.file_order.shuffle(&mut self.dice);
        if self.dice.random_range(0..CANCELLED_EVERY) == 0 {
            self.add_sleeper(&mut sketch);
        }
        sketch
    }

    fn odd(&mut self) -> String {
        (*ODD.choose(&mut self.dice).expect("it has elements")).to_owned()
    }

    fn step(&mut self, sketch: &Sketch, index: usize) -> StepSketch {
        let mut step = StepSketch {
            id: format!(
                "{}{index}",
                ["s", "step-", "_s", "S"].choose(&mut self.dice).expect("it has elements")
            ),
            noop: self.chance(0.12),
            continue_failed: self.chance(0.15),
            continue_skipped: self.chance(0.15),
            value: format!("{index}: {}", self.odd()),
            ..StepSketch::default()
        };
        let parents = self.dice.random_range(0..4usize).min(index);
        for _ in 0..parents {
            let parent = self.dice.random_range(index.saturating_sub(REACH)..index);
            match self.dice.random_range(0..10) {
                0..6 => step.needs.push(parent),
                6 | 7 => step.triggers.push((parent, Trigger::Success)),
                8 => step.triggers.push((parent, Trigger::Failure)),
                _ => step.triggers.extend([(parent, Trigger::Success), (parent, Trigger::Failure)]),
            }
        }
        step.needs.sort_unstable();
        step.needs.dedup();
        step.triggers.sort_by_key(|(from, kind)| (*from, *kind == Trigger::Failure));
        step.triggers.dedup();
        if !step.noop {
            step.script = self.script();
            step.retry = self.retry();
        }
        if self.chance(0.1) {
            // Later than the rest could mean last of hundreds of runs.
            step.priority = Some(self.dice.random_range(1..=3));
        }
        if self.chance(0.15) {
            step.list = Some(self.list(sketch, index, step.noop));
            step.max_parallel = self.chance(0.4).then(|| self.dice.random_range(1..4));
        } else {
            if !step.noop && self.chance(0.3) {
                step.offers = Some(self.offer(index));
            }
            if self.chance(0.2) {
                step.publish.push(self.key());
            }
        }
        step
    }

    fn script(&mut self) -> Script {
        let rate = self.fail_rate;
        let fails_until = match self.chance(rate) {
            true if self.chance(0.4) => u32::MAX,
            true => self.dice.random_range(1..4),
            false => 0,
        };
        let failure = match self.dice.random_range(0..40) {
            0 if fails_until > 0 => Failing::Hang,
            1..5 => Failing::Exit(78),
            _ => Failing::Exit(self.dice.random_range(1..70)),
        };
        // A hanging script costs seconds: it hangs once.
        let fails_until = if failure == Failing::Hang { 1 } else { fails_until };
        let nap_ms = if self.chance(0.2) { self.dice.random_range(1..30) } else { 0 };
        Script { fails_until, failure, nap_ms }
    }

    fn retry(&mut self) -> RetrySketch {
        if !self.chance(0.4) {
            return RetrySketch::default();
        }
        RetrySketch {
            max_attempts: self.dice.random_range(1..5),
            delay_ms: self.dice.random_range(0..50),
            jitter: self.chance(0.5),
            only: match self.dice.random_range(0..8) {
                0 => Some(RetryKind::Timeout),
                1 => Some(RetryKind::Exit),
                _ => None,
            },
        }
    }

    fn items(&mut self, index: usize, noop: bool) -> Vec<ItemSketch> {
        let count = *[0, 1, 2, 3, 4, 6, 9].choose(&mut self.dice).expect("it has elements");
        let mut items = Vec::new();
        for number in 0..count {
            let script = if noop { Script::default() } else { self.script() };
            items.push(ItemSketch { text: format!("{index}.{number} {}", self.odd()), script });
        }
        items
    }

    /// Literal, or from a step that offers one and is near.
    fn list(&mut self, sketch: &Sketch, index: usize, noop: bool) -> ItemList {
        let near = index.saturating_sub(REACH * 2)..index;
        let offering: Vec<usize> = near.filter(|step| sketch.steps[*step].offers.is_some()).collect();
        match offering.choose(&mut self.dice) {
            Some(source) if self.chance(0.7) => ItemList::OutputOf(*source),
            _ => ItemList::Literal(self.items(index, noop)),
        }
    }

    fn offer(&mut self, index: usize) -> Offer {
        if self.chance(0.1) { Offer::Nonsense } else { Offer::Items(self.items(index, false)) }
    }

    /// A new key, or one that another step publishes as well.
    fn key(&mut self) -> String {
        if let (true, Some(known)) = (self.chance(0.4), self.keys.choose(&mut self.dice)) {
            return known.clone();
        }
        let key = format!("w{}_k{}", self.seed, self.keys.len());
        self.keys.push(key.clone());
        key
    }

    /// Reads and `when`, which may refer to steps that are upstream or become so.
    fn add_templates(&mut self, sketch: &mut Sketch, index: usize) {
        let reads = if sketch.steps[index].noop { 0 } else { self.dice.random_range(0..4) };
        for _ in 0..reads {
            let Some(read) = self.read(sketch, index) else { continue };
            sketch.steps[index].reads.push(read);
            if !is_clear(sketch, index) {
                sketch.steps[index].reads.pop();
            }
        }
        if self.chance(0.18) {
            let test = self.test(sketch, index);
            let (negated, marked) = (self.chance(0.3), self.chance(0.5));
            sketch.steps[index].when = Some(Condition { negated, marked, test });
            if !is_clear(sketch, index) {
                sketch.steps[index].when = None;
            }
        }
        if !is_clear(sketch, index) {
            // Only the list is left as a reference.
            sketch.steps[index].list = Some(ItemList::Literal(Vec::new()));
        }
    }

    /// A step to refer to: mostly a direct predecessor.
    fn referred(&mut self, sketch: &Sketch, index: usize) -> Option<usize> {
        let step = &sketch.steps[index];
        let direct: Vec<usize> =
            step.needs.iter().copied().chain(step.triggers.iter().map(|(from, _)| *from)).collect();
        match direct.choose(&mut self.dice) {
            Some(direct) if self.chance(0.7) => Some(*direct),
            _ if index == 0 => None,
            _ => Some(self.dice.random_range(index.saturating_sub(REACH)..index)),
        }
    }

    fn read(&mut self, sketch: &Sketch, index: usize) -> Option<Read> {
        let step = self.referred(sketch, index);
        Some(match self.dice.random_range(0..12) {
            0 => Read::Var(if self.chance(0.5) { "mode" } else { "odd" }.to_owned()),
            1 => Read::Attempt,
            2..4 => Read::Status(step?),
            4..6 => {
                let key = self.keys.choose(&mut self.dice)?.clone();
                Read::State { key, default: self.chance(0.85) }
            }
            _ => {
                let step = step?;
                let other = &sketch.steps[step];
                match (&other.list, other.noop) {
                    (_, true) => Read::Status(step),
                    (None, _) => Read::Output { step, default: self.chance(0.8) },
                    (Some(_), _) if self.chance(0.5) => Read::ListResult(step),
                    (Some(_), _) => Read::ListOutputs(step),
                }
            }
        })
    }

    fn test(&mut self, sketch: &Sketch, index: usize) -> Test {
        let by_var = Test::Var { name: "mode".to_owned(), is: "fast".to_owned() };
        let default = self.chance(0.85);
        if self.chance(0.3) {
            let Some(key) = self.keys.choose(&mut self.dice).cloned() else { return by_var };
            return Test::State { key, is: NOTHING.to_owned(), default };
        }
        let Some(step) = self.referred(sketch, index) else { return by_var };
        let other = &sketch.steps[step];
        if other.noop || other.list.is_some() || self.chance(0.4) {
            let fates = [Fate::Completed, Fate::Failed, Fate::Skipped];
            return Test::Status { step, is: fates.choose(&mut self.dice).expect("it has elements").word() };
        }
        // Of a known value only what needs no quoting inside an expression.
        Test::Output { step, is: NOTHING.to_owned(), default }
    }

    /// A step in the middle that sleeps until the run is cancelled.
    fn add_sleeper(&mut self, sketch: &mut Sketch) {
        let fit = |step: &StepSketch| !step.noop && step.list.is_none() && step.when.is_none();
        let reached = evaluate(sketch);
        let fit: Vec<usize> = (0..sketch.steps.len())
            .filter(|index| fit(&sketch.steps[*index]) && reached.steps[*index].tries > 0)
            .collect();
        sketch.sleeper = fit.choose(&mut self.dice).copied();
    }
}

/// Whether the references of a step mean the same in whatever order they are looked at: none is upstream of
/// another, and none is upstream only by way of other references.
fn is_clear(sketch: &Sketch, index: usize) -> bool {
    let upstream = sketch.upstream();
    let written = written_upstream(sketch);
    let step = &sketch.steps[index];
    let direct = step.needs.iter().copied().chain(step.triggers.iter().map(|(from, _)| *from));
    let (mut full, mut plain) = (0u64, 0u64);
    for parent in direct {
        full |= upstream[parent] | 1 << parent;
        plain |= written[parent] | 1 << parent;
    }
    let implied: Vec<usize> =
        step.references().into_iter().filter(|other| plain & (1 << other) == 0).collect();
    let related = |one: &usize| implied.iter().any(|other| upstream[*other] & (1 << one) != 0);
    implied.iter().all(|one| full & (1 << one) == 0 && !related(one))
}

/// Steps upstream of each over written edges alone.
fn written_upstream(sketch: &Sketch) -> Vec<u64> {
    let mut above = vec![0u64; sketch.steps.len()];
    for (index, step) in sketch.steps.iter().enumerate() {
        let triggers = step.triggers.iter().map(|(from, _)| *from);
        for parent in step.needs.iter().copied().chain(triggers) {
            above[index] |= above[parent] | 1 << parent;
        }
    }
    above
}
