//! What a workflow comes to, by the specification and in the plainest way: one look at each step, after all
//! that it can depend on.
//!
//! Nothing of the product is used. Where the specification leaves the order of two things open, what hangs on
//! it is reported as undetermined and the generator takes it out. What is deliberately not here: time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::sketch::{
    Condition, Failing, ItemList, ItemSketch, NOTHING, Offer, Read, RetryKind, RetrySketch, Script, Sketch,
    StepSketch, Test, Trigger,
};

/// How a step or an item ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Completed,
    Failed,
    Skipped,
}

impl Fate {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Fate::Completed => "completed",
            Fate::Failed => "failed",
            Fate::Skipped => "skipped",
        }
    }
}

/// Why something is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SkipCause {
    /// What it needed did not happen.
    Edges,
    /// Its `when` was false.
    When,
}

/// What is expected of one task: a step, or an item of a `foreach`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expected {
    pub(crate) fate: Fate,
    pub(crate) skipped: Option<SkipCause>,
    /// How often its agent is started.
    pub(crate) tries: u32,
    /// `exit`, `timeout`, `config`.
    pub(crate) reason: Option<&'static str>,
    pub(crate) exit_code: Option<i32>,
    /// Named in the message of a `config` failure.
    pub(crate) names: Option<String>,
    pub(crate) outputs: BTreeMap<String, Value>,
    pub(crate) result: Option<String>,
    /// Of a `foreach`.
    pub(crate) items: Vec<Expected>,
}

/// What a whole run comes to.
#[derive(Debug, Clone)]
pub(crate) struct Expectation {
    pub(crate) steps: Vec<Expected>,
    /// Steps that are final before each starts, or is skipped, in whatever order the rest happens.
    pub(crate) before: Vec<u64>,
    /// Values that may be left under each key.
    pub(crate) state: BTreeMap<String, BTreeSet<String>>,
    /// Steps that failed and nobody handles.
    pub(crate) unhandled: Vec<usize>,
    /// What hangs on an order that is left open.
    pub(crate) open: Vec<OpenOrder>,
}

/// Something of a step that hangs on an order that is left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenOrder {
    Read(usize, usize),
    When(usize),
    List(usize),
}

impl Expected {
    fn new(fate: Fate) -> Expected {
        Expected {
            fate,
            skipped: None,
            tries: 0,
            reason: None,
            exit_code: None,
            names: None,
            outputs: BTreeMap::new(),
            result: None,
            items: Vec::new(),
        }
    }

    fn skipped(cause: SkipCause) -> Expected {
        Expected { skipped: Some(cause), ..Expected::new(Fate::Skipped) }
    }

    /// As it was, and nobody starts it.
    fn untouched(mut self) -> Expected {
        self.tries = 0;
        self.items = self.items.into_iter().map(Expected::untouched).collect();
        self
    }

    fn config(names: String) -> Expected {
        Expected { reason: Some("config"), names: Some(names), ..Expected::new(Fate::Failed) }
    }
}

/// Works a workflow out.
pub(crate) fn evaluate(sketch: &Sketch) -> Expectation {
    evaluate_from(sketch, None)
}

/// Works out what a run comes to that is resumed from a step after this one has ended.
pub(crate) fn evaluate_resumed(sketch: &Sketch, first: &Expectation, start: usize) -> Expectation {
    evaluate_from(sketch, Some(Resumption { first, start, upstream: sketch.upstream() }))
}

fn evaluate_from(sketch: &Sketch, resumed: Option<Resumption<'_>>) -> Expectation {
    let mut run = Evaluation { sketch, resumed, steps: Vec::new(), before: Vec::new(), open: Vec::new() };
    for index in 0..sketch.steps.len() {
        let (expected, before) = run.step(index);
        run.steps.push(expected);
        run.before.push(before);
    }
    run.find_late_writers();
    let failed = (0..sketch.steps.len()).filter(|index| run.steps[*index].fate == Fate::Failed);
    let counts = |index: &usize| run.resumed.as_ref().is_none_or(|resumed| !resumed.is_upstream(*index));
    let unhandled = failed.filter(|index| !sketch.handled(*index)).filter(counts).collect();
    let state = run.final_state();
    Expectation { state, unhandled, steps: run.steps, before: run.before, open: run.open }
}

/// A run that is taken up again from a step.
struct Resumption<'s> {
    first: &'s Expectation,
    start: usize,
    /// Steps upstream of each, as bits.
    upstream: Vec<u64>,
}

impl Resumption<'_> {
    fn is_upstream(&self, index: usize) -> bool {
        self.upstream[self.start] & (1 << index) != 0
    }

    /// What a step keeps: its own end, if the step everything starts from is not upstream of it. Upstream of
    /// that one nothing runs at all.
    fn kept(&self, index: usize) -> Option<Expected> {
        if index == self.start || self.upstream[index] & (1 << self.start) != 0 {
            return None;
        }
        let first = &self.first.steps[index];
        let own = first.skipped != Some(SkipCause::Edges);
        (own || self.is_upstream(index)).then(|| first.clone().untouched())
    }
}

/// Why an expression has no value.
enum NoValue {
    /// It names this, which is not there.
    Missing(String),
    /// It hangs on an order that is left open.
    Open,
}

struct Evaluation<'s> {
    sketch: &'s Sketch,
    resumed: Option<Resumption<'s>>,
    steps: Vec<Expected>,
    before: Vec<u64>,
    open: Vec<OpenOrder>,
}

impl Evaluation<'_> {
    fn step(&mut self, index: usize) -> (Expected, u64) {
        let (mut verdict, mut before) = self.edges(index);
        if let Some(resumed) = &self.resumed {
            if let Some(kept) = resumed.kept(index) {
                return (kept, resumed.first.before[index]);
            }
            if index == resumed.start {
                (verdict, before) = (Verdict::Starts, resumed.upstream[index]);
            }
        }
        if verdict == Verdict::Doomed {
            return (Expected::skipped(SkipCause::Edges), before);
        }
        let step = &self.sketch.steps[index];
        if let Some(when) = &step.when {
            match self.condition(when, index, before) {
                Ok(true) => {}
                Ok(false) => return (Expected::skipped(SkipCause::When), before),
                Err(NoValue::Missing(name)) => return (Expected::config(name), before),
                Err(NoValue::Open) => self.open.push(OpenOrder::When(index)),
            }
        }
        let expected = match &step.list {
            None => self.task(index, before, &step.script, None),
            Some(list) => self.group(index, before, list),
        };
        (expected, before)
    }

    /// Whether the edges let the step start, and what is certainly final by then.
    fn edges(&self, index: usize) -> (Verdict, u64) {
        let step = &self.sketch.steps[index];
        let with = |parent: usize| self.before[parent] | 1 << parent;
        let needs = self.sketch.all_needs(index);
        let mut dooms: Vec<u64> =
            needs.iter().filter(|need| !self.satisfied(**need)).map(|need| with(*need)).collect();
        let fired: Vec<u64> =
            step.triggers.iter().filter(|edge| self.fired(edge)).map(|(from, _)| with(*from)).collect();
        if fired.is_empty() && !step.triggers.is_empty() {
            dooms.push(step.triggers.iter().fold(0, |all, (from, _)| all | with(*from)));
        }
        if !dooms.is_empty() {
            // Whichever comes first: only what comes before all of them is certain.
            return (Verdict::Doomed, dooms.into_iter().fold(u64::MAX, |all, one| all & one));
        }
        let mut before = needs.iter().fold(0, |all, need| all | with(*need));
        if !fired.is_empty() {
            before |= fired.into_iter().fold(u64::MAX, |all, one| all & one);
        }
        (Verdict::Starts, before)
    }

    fn satisfied(&self, need: usize) -> bool {
        let step = &self.sketch.steps[need];
        match self.steps[need].fate {
            Fate::Completed => true,
            Fate::Failed => step.continue_failed,
            Fate::Skipped => step.continue_skipped,
        }
    }

    fn fired(&self, (from, kind): &(usize, Trigger)) -> bool {
        match kind {
            Trigger::Success => self.steps[*from].fate == Fate::Completed,
            Trigger::Failure => self.steps[*from].fate == Fate::Failed,
        }
    }

    fn condition(&self, when: &Condition, index: usize, before: u64) -> Result<bool, NoValue> {
        let holds = match &when.test {
            Test::Var { name, is } => &self.sketch.vars[name] == is,
            Test::Status { step, is } => {
                self.certain(*step, before)?;
                self.steps[*step].fate.word() == *is
            }
            Test::Output { step, is, default } => self.output(*step, *default, before)? == *is,
            Test::State { key, is, default } => self.state(key, *default, index, before)? == *is,
        };
        Ok(holds != when.negated)
    }

    fn certain(&self, step: usize, before: u64) -> Result<(), NoValue> {
        if before & (1 << step) == 0 { Err(NoValue::Open) } else { Ok(()) }
    }

    /// What a `foreach` gives that was never expanded is left open: nothing, or a list of nulls.
    fn has_items(&self, step: usize, before: u64) -> Result<(), NoValue> {
        self.certain(step, before)?;
        let expanded = !self.steps[step].items.is_empty() || self.steps[step].fate == Fate::Completed;
        if expanded { Ok(()) } else { Err(NoValue::Open) }
    }

    /// `steps.X.outputs.v` of a step without `foreach`.
    fn output(&self, step: usize, default: bool, before: u64) -> Result<String, NoValue> {
        self.certain(step, before)?;
        match self.steps[step].outputs.get("v") {
            Some(value) => Ok(value.as_str().expect("outputs are text").to_owned()),
            None if default => Ok(NOTHING.to_owned()),
            None => Err(NoValue::Missing(self.sketch.steps[step].id.clone())),
        }
    }

    /// `state.k` at the time a step starts.
    fn state(&self, key: &str, default: bool, index: usize, before: u64) -> Result<String, NoValue> {
        let mut seen: Vec<usize> = Vec::new();
        for (other, step) in self.sketch.steps.iter().enumerate() {
            if other == index || !step.publish.iter().any(|published| published == key) {
                continue;
            }
            if other > index {
                // See `find_late_writers`.
                continue;
            }
            if self.steps[other].fate != Fate::Completed {
                continue;
            }
            self.certain(other, before)?;
            seen.push(other);
        }
        let last =
            |one: &&usize| seen.iter().all(|other| other == *one || self.before[**one] & (1 << other) != 0);
        match seen.iter().find(last) {
            Some(last) => Ok(published(&self.sketch.steps[*last])),
            None if !seen.is_empty() => Err(NoValue::Open),
            None if default => Ok(NOTHING.to_owned()),
            None => Err(NoValue::Missing(key.to_owned())),
        }
    }

    /// Reads of shared state that a step further down may or may not have written by then.
    fn find_late_writers(&mut self) {
        for (index, step) in self.sketch.steps.iter().enumerate() {
            let late = |key: &str| {
                let writers = self.sketch.steps.iter().enumerate().skip(index + 1);
                let mut writers = writers.filter(|(_, other)| other.publish.iter().any(|one| one == key));
                writers.any(|(other, _)| {
                    self.steps[other].fate == Fate::Completed && self.before[other] & (1 << index) == 0
                })
            };
            if let Some(Test::State { key, .. }) = step.when.as_ref().map(|when| &when.test)
                && late(key)
            {
                self.open.push(OpenOrder::When(index));
            }
            for (number, read) in step.reads.iter().enumerate() {
                if let Read::State { key, .. } = read
                    && late(key)
                {
                    self.open.push(OpenOrder::Read(index, number));
                }
            }
        }
    }

    /// One task with an agent: a step, or an item.
    fn task(&mut self, index: usize, before: u64, script: &Script, item: Option<&str>) -> Expected {
        let step = &self.sketch.steps[index];
        if step.noop {
            return Expected { tries: 0, ..Expected::new(Fate::Completed) };
        }
        let tries = tries(script, &step.retry);
        let mut outputs = BTreeMap::new();
        for (number, read) in step.reads.iter().enumerate() {
            match self.read(read, index, before, tries) {
                Ok(value) => {
                    outputs.insert(format!("r{number}"), value);
                }
                Err(NoValue::Missing(name)) => return Expected::config(name),
                Err(NoValue::Open) => self.open.push(OpenOrder::Read(index, number)),
            }
        }
        if tries <= script.fails_until {
            let (reason, exit_code) = match script.failure {
                Failing::Exit(code) => ("exit", Some(code)),
                Failing::Hang => ("timeout", None),
            };
            return Expected { tries, reason: Some(reason), exit_code, ..Expected::new(Fate::Failed) };
        }
        outputs.insert("v".to_owned(), json!(value_of(step, item)));
        match &step.offers {
            Some(Offer::Items(items)) => {
                let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
                outputs.insert("list".to_owned(), json!(json!(texts).to_string()));
            }
            Some(Offer::Nonsense) => {
                outputs.insert("list".to_owned(), json!("oops"));
            }
            None => {}
        }
        let result = Some(format!("out {}", value_of(step, item)));
        Expected { tries, outputs, result, ..Expected::new(Fate::Completed) }
    }

    fn group(&mut self, index: usize, before: u64, list: &ItemList) -> Expected {
        let items: &[ItemSketch] = match list {
            ItemList::Literal(items) => items,
            ItemList::OutputOf(source) => {
                if self.certain(*source, before).is_err() {
                    self.open.push(OpenOrder::List(index));
                }
                let done = self.steps[*source].fate == Fate::Completed;
                match &self.sketch.steps[*source].offers {
                    Some(Offer::Items(items)) if done => items,
                    // The message shows what was found instead; how is left open.
                    Some(Offer::Nonsense) if done => return Expected::config(String::new()),
                    _ => return Expected::config("list".to_owned()),
                }
            }
        };
        let items: Vec<Expected> =
            items.iter().map(|item| self.task(index, before, &item.script, Some(&item.text))).collect();
        let failed = items.iter().any(|item| item.fate == Fate::Failed);
        let fate = if failed { Fate::Failed } else { Fate::Completed };
        Expected { items, ..Expected::new(fate) }
    }

    fn read(&self, read: &Read, index: usize, before: u64, tries: u32) -> Result<Value, NoValue> {
        let value = match read {
            Read::Output { step, default } => json!(self.output(*step, *default, before)?),
            Read::Status(step) => {
                self.certain(*step, before)?;
                json!(self.steps[*step].fate.word())
            }
            Read::ListResult(step) => {
                self.has_items(*step, before)?;
                json!(self.steps[*step].items.iter().map(|item| item.result.clone()).collect::<Vec<_>>())
            }
            Read::ListOutputs(step) => {
                self.has_items(*step, before)?;
                let items = &self.steps[*step].items;
                if !items.is_empty() && items.iter().all(|item| item.fate == Fate::Failed) {
                    // Nobody wrote an output, so nothing says which names there are.
                    return Err(NoValue::Open);
                }
                json!(items.iter().map(|item| item.outputs.get("v")).collect::<Vec<_>>())
            }
            Read::State { key, default } => json!(self.state(key, *default, index, before)?),
            Read::Var(name) => json!(self.sketch.vars[name]),
            Read::Attempt => json!(tries.to_string()),
        };
        Ok(value)
    }

    /// Of each key the values of the last ones to write it, in any order that is left open.
    fn final_state(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut state: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let writers = |key: &str| -> Vec<usize> {
            let writes = |index: &usize| self.sketch.steps[*index].publish.iter().any(|one| one == key);
            let done = |index: &usize| self.steps[*index].fate == Fate::Completed;
            (0..self.steps.len()).filter(writes).filter(done).collect()
        };
        for key in self.sketch.steps.iter().flat_map(|step| &step.publish) {
            let writers = writers(key);
            let overwritten = |one: &usize| writers.iter().any(|other| self.before[*other] & (1 << one) != 0);
            let last = writers.iter().filter(|one| !overwritten(one));
            let values = last.map(|one| published(&self.sketch.steps[*one])).collect();
            state.insert(key.clone(), values);
        }
        state
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Starts,
    Doomed,
}

/// How often the agent is started: until it succeeds, or may not be tried again.
fn tries(script: &Script, retry: &RetrySketch) -> u32 {
    let (kind, never_again) = match script.failure {
        Failing::Exit(78) => (RetryKind::Exit, true),
        Failing::Exit(_) => (RetryKind::Exit, false),
        Failing::Hang => (RetryKind::Timeout, false),
    };
    let tried_again = !never_again && retry.only.is_none_or(|only| only == kind);
    if !tried_again || script.fails_until == 0 {
        return 1;
    }
    script.fails_until.saturating_add(1).min(retry.max_attempts.max(1))
}

/// What a step publishes.
pub(crate) fn published(step: &StepSketch) -> String {
    if step.noop { step.id.clone() } else { step.value.clone() }
}

/// What a task puts out as `v`.
pub(crate) fn value_of(step: &StepSketch, item: Option<&str>) -> String {
    match item {
        Some(item) => format!("{} of {item}", step.value),
        None => step.value.clone(),
    }
}
