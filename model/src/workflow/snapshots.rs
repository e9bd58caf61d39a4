//! `snapshot: before | after`: a snapshot is a step of its own, which a coordinator carries out.
//!
//! Before a step: all that led to the step leads to the snapshot, and the step waits for it. After a step: what waited
//! for its completion waits for the snapshot. What follows a failure does not wait. A snapshot that cannot be made
//! fails its step like any other, so what it was to protect does not begin.
//!
//! When the step itself is skipped by its `when`, the snapshot before it has been made all the same.

use std::borrow::Cow;
use std::collections::HashSet;

use super::definition::{RetryRules, SnapshotMoment, Step, Workflow};
use super::edges::StepEdge;
use crate::ids::{NAME_BYTES_MAX, StepId};
use crate::plan::{ContinueOn, EdgeKind};
use crate::yaml::Marked;

/// Longest time of one snapshot, ms.
const SNAPSHOT_TIMEOUT_MS: u64 = 3_600_000;

impl Workflow {
    /// The same workflow with a step for each snapshot that its steps ask for, beside them. Asked again, it stays as
    /// it is.
    pub fn with_snapshot_steps(&self) -> Cow<'_, Workflow> {
        if self.steps.iter().all(|step| step.snapshot.is_none()) {
            return Cow::Borrowed(self);
        }
        let taken: HashSet<&str> = self.steps.iter().map(|step| step.id.value.as_str()).collect();
        let mut steps = Vec::new();
        let mut places = Vec::new();
        for step in &self.steps {
            let moment = step.snapshot.as_ref().map(|moment| moment.value);
            let made = moment.map(|moment| self.snapshot_step(step, moment, &taken));
            let plain = Step { snapshot: None, ..step.clone() };
            let place = steps.len() as u32;
            places.push(match (moment, made) {
                (Some(SnapshotMoment::Before), Some(made)) => {
                    steps.extend([made, plain]);
                    StepEnds { first: place, own: place + 1, last: place + 1, is_lenient: false }
                }
                (Some(SnapshotMoment::After), Some(made)) => {
                    steps.extend([plain, made]);
                    let is_lenient = step.continue_on != ContinueOn::default();
                    StepEnds { first: place, own: place, last: place + 1, is_lenient }
                }
                _ => {
                    steps.push(plain);
                    StepEnds { first: place, own: place, last: place, is_lenient: false }
                }
            });
        }
        let edges = edges_between(&self.edges, &places, &steps);
        Cow::Owned(Workflow { steps, edges, ..self.clone() })
    }

    fn snapshot_step(&self, step: &Step, moment: SnapshotMoment, taken: &HashSet<&str>) -> Step {
        let word = match moment {
            SnapshotMoment::Before => "before",
            SnapshotMoment::After => "after",
        };
        let label = format!("{}:{}:{word}", self.name.value, step.id.value);
        Step {
            id: Marked::new(free_id(step.id.value.as_str(), word, taken), step.id.place.clone()),
            agent: step.agent.clone(),
            prompt: None,
            description: None,
            depends_on: Vec::new(),
            on_success: Vec::new(),
            on_failure: Vec::new(),
            when: None,
            foreach: None,
            max_parallel: None,
            retry: RetryRules { max_attempts: Some(1), ..RetryRules::default() },
            timeout_ms: Some(SNAPSHOT_TIMEOUT_MS),
            queue_timeout_ms: None,
            stall_timeout_ms: None,
            publish: Default::default(),
            env: Default::default(),
            workspace: None,
            priority: step.priority,
            continue_on: ContinueOn::default(),
            snapshot: None,
            role: None,
            makes_snapshot: Some(label),
        }
    }
}

/// Where a step and its snapshot stand.
#[derive(Debug, Clone, Copy)]
struct StepEnds {
    /// What has to be done first.
    first: u32,
    /// The step itself.
    own: u32,
    /// What has to be done last.
    last: u32,
    /// Whether its snapshot is also made after it has not completed.
    is_lenient: bool,
}

fn edges_between(edges: &[StepEdge], places: &[StepEnds], steps: &[Step]) -> Vec<StepEdge> {
    let mut found: Vec<StepEdge> = Vec::with_capacity(edges.len() + places.len());
    for edge in edges {
        let (from, to) = (places[edge.from as usize], places[edge.to as usize]);
        let from = match edge.kind {
            EdgeKind::Needs => from.last,
            // A snapshot after a failure that was put up with is no success of the step.
            EdgeKind::OnSuccess if !from.is_lenient => from.last,
            EdgeKind::OnSuccess | EdgeKind::OnFailure | EdgeKind::Item => from.own,
        };
        found.push(StepEdge { from, to: to.first, ..edge.clone() });
    }
    for ends in places.iter().filter(|ends| ends.first != ends.last) {
        let place = steps[ends.own as usize].id.place.clone();
        let (from, to, kind) = (ends.first, ends.last, EdgeKind::Needs);
        found.push(StepEdge { from, to, kind, implied: false, place });
    }
    found
}

/// `<step>.snapshot-before`, shortened and numbered where that is too long or another step's name.
fn free_id(step: &str, word: &str, taken: &HashSet<&str>) -> StepId {
    let mut number = 1;
    loop {
        let more = if number == 1 { String::new() } else { format!("-{number}") };
        let tail = format!(".snapshot-{word}{more}");
        let id = format!("{}{tail}", &step[..step.len().min(NAME_BYTES_MAX - tail.len())]);
        if !taken.contains(id.as_str()) {
            return id.parse().expect("a name and more of its letters");
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceText;
    use crate::workflow::{KnownNames, parse_workflow};

    fn drawn(text: &str) -> Vec<String> {
        let parsed = parse_workflow(SourceText::new("w", text), KnownNames::default());
        let workflow = parsed.unwrap_or_else(|problems| panic!("{problems}")).workflow;
        let made = workflow.with_snapshot_steps();
        assert!(matches!(made.with_snapshot_steps(), Cow::Borrowed(_)), "once is enough");
        let id = |place: u32| made.steps[place as usize].id.value.as_str();
        let mut drawn: Vec<String> = made
            .edges
            .iter()
            .map(|edge| format!("{} -{:?}-> {}", id(edge.from), edge.kind, id(edge.to)))
            .collect();
        drawn.sort();
        drawn
    }

    #[test]
    fn what_led_to_a_step_leads_to_the_snapshot_before_it() {
        let text = "name: w\nsteps:\n  - {id: a, agent: noop, on_failure: b}\n  \
                    - {id: b, agent: noop, snapshot: before}\n  - {id: c, agent: noop, depends_on: b}\n";
        assert_eq!(
            drawn(text),
            ["a -OnFailure-> b.snapshot-before", "b -Needs-> c", "b.snapshot-before -Needs-> b"]
        );
    }

    #[test]
    fn what_waits_for_completion_waits_for_the_snapshot_after_it_and_handlers_do_not() {
        let text = "name: w\nsteps:\n  - {id: a, agent: noop, snapshot: after, on_success: b, on_failure: c}\n  \
                    - {id: b, agent: noop}\n  - {id: c, agent: noop}\n  - {id: d, agent: noop, depends_on: a}\n";
        assert_eq!(
            drawn(text),
            [
                "a -Needs-> a.snapshot-after",
                "a -OnFailure-> c",
                "a.snapshot-after -Needs-> d",
                "a.snapshot-after -OnSuccess-> b",
            ]
        );
    }

    #[test]
    fn a_name_that_is_taken_or_too_long_gives_way() {
        let taken = HashSet::from(["a.snapshot-before"]);
        assert_eq!(free_id("a", "before", &taken).as_str(), "a.snapshot-before-2");
        let long = "x".repeat(NAME_BYTES_MAX);
        assert_eq!(free_id(&long, "after", &taken).as_str().len(), NAME_BYTES_MAX);
    }
}
