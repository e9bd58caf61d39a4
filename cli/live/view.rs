//! What is known of a run while it goes on.
//!
//! Fed by events alone. An event about a step that is not in the plan is passed over, and one that comes
//! twice or late changes nothing that is not so: the store decides what is true, this only shows it.

use std::collections::{BTreeMap, HashMap};

use super::event::{StepEvent, StepEventKind, failure_text};
use super::tree::StepTree;
use crate::output::foreign::{cut, harmless, last_overwrite};

/// Longest part of an output line that is kept, columns.
const LINE_COLUMNS_MAX: usize = 400;

/// A step as it is known before anything happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepPlan {
    /// Its id.
    pub(crate) id: String,
    /// The ids of the steps it waits for, on any kind of edge.
    pub(crate) depends_on: Vec<String>,
    /// Whether it is a `foreach`.
    pub(crate) is_group: bool,
    /// The number of its items, where it is known beforehand.
    pub(crate) items: Option<u32>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunEnd {
    /// Nothing failed unhandled.
    Completed,
    /// Something did.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

/// A run, as far as its events have told.
#[derive(Debug, Clone)]
pub(crate) struct RunView {
    pub(super) workflow: String,
    pub(super) run: String,
    pub(super) started: u64,
    pub(super) steps: Vec<StepRow>,
    pub(super) tree: StepTree,
    pub(super) end: Option<(RunEnd, u64)>,
    by_id: HashMap<String, usize>,
}

/// A step in the view.
#[derive(Debug, Clone)]
pub(super) struct StepRow {
    pub(super) id: String,
    pub(super) phase: StepPhase,
    /// Of a `foreach`.
    pub(super) group: Option<GroupRow>,
}

/// The items of a `foreach`.
#[derive(Debug, Clone, Default)]
pub(super) struct GroupRow {
    /// How many, once that is known.
    pub(super) count: Option<u32>,
    /// Those at work or waiting for a time.
    pub(super) at_work: BTreeMap<u32, StepPhase>,
    /// How those that ended did.
    ended: HashMap<u32, StepEnd>,
    pub(super) completed: u32,
    pub(super) failed: u32,
    /// What went wrong last.
    pub(super) last_failure: Option<String>,
}

/// Where a step is, with what is only known there. Times are ms of the Unix clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StepPhase {
    Waiting,
    Queued,
    Running { since: u64, attempt: u32, worker: String, line: String },
    Parked { until: u64, attempt: u32, why: String },
    Ended { how: StepEnd, at: u64, took: Option<u64>, attempt: u32, note: String },
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum StepEnd {
    Completed,
    Failed,
    Skipped,
    Cancelled,
}

impl RunView {
    /// A run in which nothing has happened yet.
    pub(crate) fn new(workflow: &str, run: &str, started: u64, plan: Vec<StepPlan>) -> RunView {
        let by_id: HashMap<String, usize> =
            plan.iter().enumerate().map(|(place, step)| (step.id.clone(), place)).collect();
        let edges: Vec<Vec<usize>> = plan
            .iter()
            .map(|step| step.depends_on.iter().filter_map(|id| by_id.get(id).copied()).collect())
            .collect();
        let steps = plan.into_iter().map(StepRow::new).collect();
        RunView {
            workflow: harmless(workflow),
            run: harmless(run),
            started,
            steps,
            tree: StepTree::new(&edges),
            end: None,
            by_id,
        }
    }

    /// Takes in what happened. Answers how long the attempt lasted, ms, if one ended and its start is known.
    pub(crate) fn on_event(&mut self, event: &StepEvent) -> Option<u64> {
        let row = self.by_id.get(&event.step).map(|place| &mut self.steps[*place])?;
        match (event.item, &mut row.group) {
            (Some(item), Some(group)) => {
                let took = group.on_item(item, event);
                row.phase.begin_with_item(event);
                took
            }
            (None, group) => {
                if let (Some(group), StepEventKind::Expanded { count }) = (group, &event.kind) {
                    group.count = Some(*count);
                }
                row.phase.on_event(event)
            }
            (Some(_), None) => None,
        }
    }

    /// Takes in that the run has ended.
    pub(crate) fn on_run_end(&mut self, end: RunEnd, at: u64) {
        self.end = Some((end, at));
    }

    /// How many steps are where.
    pub(super) fn totals(&self) -> StepTotals {
        let mut totals = StepTotals { steps: self.steps.len(), ..StepTotals::default() };
        for row in &self.steps {
            let counter = match &row.phase {
                StepPhase::Waiting | StepPhase::Queued => &mut totals.waiting,
                StepPhase::Running { .. } | StepPhase::Parked { .. } => &mut totals.running,
                StepPhase::Ended { how: StepEnd::Completed, .. } => &mut totals.completed,
                StepPhase::Ended { how: StepEnd::Failed, .. } => &mut totals.failed,
                StepPhase::Ended { how: StepEnd::Skipped, .. } => &mut totals.skipped,
                StepPhase::Ended { how: StepEnd::Cancelled, .. } => &mut totals.cancelled,
            };
            *counter += 1;
        }
        totals
    }
}

/// How many steps are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StepTotals {
    pub(super) steps: usize,
    pub(super) waiting: usize,
    pub(super) running: usize,
    pub(super) completed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
    pub(super) cancelled: usize,
}

impl StepRow {
    fn new(plan: StepPlan) -> StepRow {
        let group = plan.is_group.then(|| GroupRow { count: plan.items, ..GroupRow::default() });
        StepRow { id: harmless(&plan.id), phase: StepPhase::Waiting, group }
    }
}

impl GroupRow {
    fn on_item(&mut self, item: u32, event: &StepEvent) -> Option<u64> {
        if let StepEventKind::Failed { reason, exit_code, message } = &event.kind {
            let why = failure_text(*reason, *exit_code, message.as_deref());
            self.last_failure = Some(format!("[{item}] {why}"));
        }
        let mut phase = self.at_work.remove(&item).unwrap_or(StepPhase::Waiting);
        let took = phase.on_event(event);
        let before = self.ended.remove(&item);
        match &phase {
            StepPhase::Ended { how, .. } => {
                self.ended.insert(item, *how);
            }
            // Output that was read after the end of its item does not bring that back.
            StepPhase::Waiting if before.is_some() => {
                self.ended.extend(before.map(|how| (item, how)));
            }
            StepPhase::Waiting | StepPhase::Queued => {}
            StepPhase::Running { .. } | StepPhase::Parked { .. } => {
                self.at_work.insert(item, phase);
            }
        }
        self.recount(before, self.ended.get(&item).copied());
        took
    }

    fn recount(&mut self, before: Option<StepEnd>, after: Option<StepEnd>) {
        for (end, change) in [(before, -1), (after, 1)] {
            let counter = match end {
                Some(StepEnd::Completed) => &mut self.completed,
                Some(StepEnd::Failed) => &mut self.failed,
                Some(StepEnd::Skipped | StepEnd::Cancelled) | None => continue,
            };
            *counter = counter.saturating_add_signed(change);
        }
    }

    /// Items that have ended, however.
    pub(super) fn ended(&self) -> usize {
        self.ended.len()
    }
}

impl StepPhase {
    fn on_event(&mut self, event: &StepEvent) -> Option<u64> {
        let (since, attempt) = match self {
            StepPhase::Running { since, attempt, .. } => (Some(*since), *attempt),
            StepPhase::Parked { attempt, .. } => (None, *attempt),
            StepPhase::Ended { attempt, .. } => (None, *attempt),
            StepPhase::Waiting | StepPhase::Queued => (None, 0),
        };
        let took = since.map(|since| event.at.saturating_sub(since));
        let at = event.at;
        let ended = |how, note| StepPhase::Ended { how, at, took, attempt, note };
        *self = match &event.kind {
            StepEventKind::Output { line } => {
                if let StepPhase::Running { line: shown, .. } = self {
                    *shown = cut(harmless(last_overwrite(line)).trim(), LINE_COLUMNS_MAX);
                }
                return None;
            }
            StepEventKind::Expanded { .. } => {
                *self =
                    StepPhase::Running { since: at, attempt: 1, worker: String::new(), line: String::new() };
                return None;
            }
            StepEventKind::Started { attempt, worker } => {
                *self = StepPhase::Running {
                    since: at,
                    attempt: *attempt,
                    worker: harmless(worker),
                    line: String::new(),
                };
                return None;
            }
            StepEventKind::Queued | StepEventKind::Lost { .. } | StepEventKind::Returned => StepPhase::Queued,
            StepEventKind::Completed => ended(StepEnd::Completed, self.last_line()),
            StepEventKind::Failed { reason, exit_code, message } => {
                ended(StepEnd::Failed, failure_text(*reason, *exit_code, message.as_deref()))
            }
            StepEventKind::Skipped => ended(StepEnd::Skipped, String::new()),
            StepEventKind::Cancelled => ended(StepEnd::Cancelled, String::new()),
            StepEventKind::Retrying { reason, exit_code, message, until } => {
                let why = failure_text(*reason, *exit_code, message.as_deref());
                StepPhase::Parked { until: *until, attempt, why }
            }
            StepEventKind::Parked { until } => {
                StepPhase::Parked { until: *until, attempt, why: "asked to be called again".to_owned() }
            }
        };
        took
    }

    /// A `foreach` is at work from the moment its first item is.
    fn begin_with_item(&mut self, event: &StepEvent) {
        let begins = matches!(event.kind, StepEventKind::Started { .. });
        if begins && matches!(self, StepPhase::Waiting | StepPhase::Queued) {
            *self = StepPhase::Running {
                since: event.at,
                attempt: 1,
                worker: String::new(),
                line: String::new(),
            };
        }
    }

    fn last_line(&self) -> String {
        match self {
            StepPhase::Running { line, .. } => line.clone(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use maestro_model::task::Reason;

    use super::*;

    fn single(id: &str) -> StepPlan {
        StepPlan { id: id.to_owned(), depends_on: Vec::new(), is_group: false, items: None }
    }

    fn at(at: u64, item: Option<u32>, kind: StepEventKind) -> StepEvent {
        StepEvent { at, step: "a".to_owned(), item, kind }
    }

    fn started(attempt: u32) -> StepEventKind {
        StepEventKind::Started { attempt, worker: "w".to_owned() }
    }

    fn failed() -> StepEventKind {
        StepEventKind::Failed { reason: Reason::Exit, exit_code: Some(1), message: None }
    }

    #[test]
    fn an_attempt_is_measured_from_its_own_start() {
        let mut view = RunView::new("w", "r", 0, vec![single("a")]);
        let retrying =
            StepEventKind::Retrying { reason: Reason::Exit, exit_code: Some(1), message: None, until: 9_000 };
        let events = [
            (at(1_000, None, started(1)), None),
            (at(3_000, None, StepEventKind::Output { line: "x".to_owned() }), None),
            (at(4_000, None, retrying), Some(3_000)),
            (at(9_000, None, started(2)), None),
            (at(9_500, None, StepEventKind::Completed), Some(500)),
        ];
        for (event, took) in events {
            assert_eq!(view.on_event(&event), took, "{event:?}");
        }
        let StepPhase::Ended { how, attempt, .. } = &view.steps[0].phase else { panic!("it has ended") };
        assert_eq!((*how, *attempt), (StepEnd::Completed, 2));
    }

    #[test]
    fn items_are_counted_once_even_if_told_twice_or_run_again() {
        let plan = StepPlan { is_group: true, items: Some(3), ..single("a") };
        let mut view = RunView::new("w", "r", 0, vec![plan]);
        for event in [
            at(1, Some(0), started(1)),
            at(2, Some(0), failed()),
            at(2, Some(0), failed()),
            at(3, Some(0), StepEventKind::Output { line: "late".to_owned() }),
            at(4, Some(1), started(1)),
            at(5, Some(1), StepEventKind::Completed),
        ] {
            view.on_event(&event);
        }
        let group = view.steps[0].group.as_ref().expect("a group");
        assert_eq!((group.ended(), group.completed, group.failed), (2, 1, 1));
        assert!(group.at_work.is_empty());

        view.on_event(&at(6, Some(0), started(2)));
        let group = view.steps[0].group.as_ref().expect("a group");
        assert_eq!((group.ended(), group.completed, group.failed, group.at_work.len()), (1, 1, 0, 1));
    }

    #[test]
    fn what_is_not_in_the_plan_is_passed_over() {
        let mut view = RunView::new("w", "r", 0, vec![single("b")]);
        assert_eq!(view.on_event(&at(1, None, started(1))), None);
        assert_eq!(view.totals().waiting, 1);
    }

    #[test]
    fn an_endless_line_is_kept_in_part() {
        let mut view = RunView::new("w", "r", 0, vec![single("a")]);
        view.on_event(&at(1, None, started(1)));
        view.on_event(&at(2, None, StepEventKind::Output { line: "x".repeat(10 << 20) }));
        let StepPhase::Running { line, .. } = &view.steps[0].phase else { panic!("it runs") };
        assert!(line.len() <= LINE_COLUMNS_MAX + '…'.len_utf8());
    }
}
