//! A workflow as the generator thinks of it: steps by number, what each script will do, who reads what.
//!
//! Nothing of the product is used here, so that a misunderstanding of ours cannot hide one of its own.

use std::collections::BTreeMap;

/// A whole workflow. Steps only refer to steps before them; the file lists them in another order.
#[derive(Debug, Clone)]
pub(crate) struct Sketch {
    pub(crate) name: String,
    pub(crate) vars: BTreeMap<String, String>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) fail_fast: bool,
    pub(crate) steps: Vec<StepSketch>,
    /// Places of the steps in the file.
    pub(crate) file_order: Vec<usize>,
    /// A step that sleeps until the run is cancelled.
    pub(crate) sleeper: Option<usize>,
}

/// One step.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepSketch {
    pub(crate) id: String,
    pub(crate) noop: bool,
    /// `depends_on`, as written.
    pub(crate) needs: Vec<usize>,
    /// Who names this step, and how.
    pub(crate) triggers: Vec<(usize, Trigger)>,
    pub(crate) continue_failed: bool,
    pub(crate) continue_skipped: bool,
    pub(crate) when: Option<Condition>,
    pub(crate) list: Option<ItemList>,
    pub(crate) max_parallel: Option<u32>,
    pub(crate) retry: RetrySketch,
    pub(crate) script: Script,
    /// What it puts out as `v`.
    pub(crate) value: String,
    /// What it puts out as `list`, for a `foreach` of another step.
    pub(crate) offers: Option<Offer>,
    /// Keys of shared state that it sets to its `v` (or, doing nothing, to its id).
    pub(crate) publish: Vec<String>,
    pub(crate) reads: Vec<Read>,
    pub(crate) priority: Option<u8>,
}

/// The kind of edge that names a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    Success,
    Failure,
}

/// What a `foreach` goes over.
#[derive(Debug, Clone)]
pub(crate) enum ItemList {
    Literal(Vec<ItemSketch>),
    /// `steps.X.outputs.list`
    OutputOf(usize),
}

/// What a step puts out as `list`.
#[derive(Debug, Clone)]
pub(crate) enum Offer {
    Items(Vec<ItemSketch>),
    /// Text that is no JSON array.
    Nonsense,
}

#[derive(Debug, Clone)]
pub(crate) struct ItemSketch {
    pub(crate) text: String,
    pub(crate) script: Script,
}

/// What an agent does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Script {
    /// Attempts up to this one fail.
    pub(crate) fails_until: u32,
    pub(crate) failure: Failing,
    pub(crate) nap_ms: u32,
}

/// How an attempt fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failing {
    Exit(i32),
    /// Runs into its timeout.
    Hang,
}

impl Default for Failing {
    fn default() -> Failing {
        Failing::Exit(1)
    }
}

/// `retry`, as written; `max_attempts` 0 = not written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RetrySketch {
    pub(crate) max_attempts: u32,
    pub(crate) delay_ms: u32,
    pub(crate) jitter: bool,
    /// Only these kinds; none = all.
    pub(crate) only: Option<RetryKind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryKind {
    Exit,
    Timeout,
}

/// A value that a prompt takes from elsewhere and puts out again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    /// `steps.X.outputs.v`
    Output { step: usize, default: bool },
    /// `steps.X.status`
    Status(usize),
    /// `steps.X.result` of a `foreach`
    ListResult(usize),
    /// `steps.X.outputs.v` of a `foreach`
    ListOutputs(usize),
    /// `state.k`
    State { key: String, default: bool },
    /// `vars.x`
    Var(String),
    /// `attempt`
    Attempt,
}

/// A `when`.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) negated: bool,
    /// Written with `<< >>`.
    pub(crate) marked: bool,
    pub(crate) test: Test,
}

#[derive(Debug, Clone)]
pub(crate) enum Test {
    Var { name: String, is: String },
    Status { step: usize, is: &'static str },
    Output { step: usize, is: String, default: bool },
    State { key: String, is: String, default: bool },
}

/// What a read with a default gives where there is nothing.
pub(crate) const NOTHING: &str = "none";

impl Read {
    /// The step it refers to.
    pub(crate) fn step(&self) -> Option<usize> {
        match self {
            Read::Output { step, .. } | Read::Status(step) => Some(*step),
            Read::ListResult(step) | Read::ListOutputs(step) => Some(*step),
            Read::State { .. } | Read::Var(_) | Read::Attempt => None,
        }
    }
}

impl Test {
    /// The step it refers to.
    pub(crate) fn step(&self) -> Option<usize> {
        match self {
            Test::Status { step, .. } | Test::Output { step, .. } => Some(*step),
            Test::Var { .. } | Test::State { .. } => None,
        }
    }
}

impl StepSketch {
    /// Steps that its templates refer to.
    pub(crate) fn references(&self) -> Vec<usize> {
        let mut found: Vec<usize> = self.reads.iter().filter_map(Read::step).collect();
        found.extend(self.when.as_ref().and_then(|when| when.test.step()));
        if let Some(ItemList::OutputOf(step)) = self.list {
            found.push(step);
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Sketch {
    /// Steps upstream of each, as bits, over edges and references alike.
    pub(crate) fn upstream(&self) -> Vec<u64> {
        let mut above = vec![0u64; self.steps.len()];
        for (index, step) in self.steps.iter().enumerate() {
            let triggers = step.triggers.iter().map(|(from, _)| *from);
            for parent in step.needs.iter().copied().chain(triggers).chain(step.references()) {
                above[index] |= above[parent] | 1 << parent;
            }
        }
        above
    }

    /// Everything a step needs: what is written, and references to steps that are not upstream already.
    ///
    /// The generator sees to it that two references of one step are never upstream of each other, so that
    /// "already" needs no order.
    pub(crate) fn all_needs(&self, index: usize) -> Vec<usize> {
        let step = &self.steps[index];
        let upstream = self.upstream();
        let triggers = step.triggers.iter().map(|(from, _)| *from);
        let written: Vec<usize> = step.needs.iter().copied().chain(triggers).collect();
        let above = written.iter().fold(0, |above, parent| above | upstream[*parent] | 1 << parent);
        let mut needs = step.needs.clone();
        needs.extend(step.references().into_iter().filter(|other| above & (1 << other) == 0));
        needs
    }

    /// Whether a failure of the step counts as handled.
    pub(crate) fn handled(&self, index: usize) -> bool {
        let named = |step: &StepSketch| step.triggers.contains(&(index, Trigger::Failure));
        self.steps[index].continue_failed || self.steps.iter().any(named)
    }

    /// Steps that are named by `on_failure`, and all behind them, as bits.
    pub(crate) fn handlers(&self) -> u64 {
        let mut found = 0u64;
        for (index, step) in self.steps.iter().enumerate() {
            let named = step.triggers.iter().any(|(_, kind)| *kind == Trigger::Failure);
            let triggers = step.triggers.iter().map(|(from, _)| *from);
            let mut parents = self.all_needs(index).into_iter().chain(triggers);
            if named || parents.any(|parent| found & (1 << parent) != 0) {
                found |= 1 << index;
            }
        }
        found
    }
}
