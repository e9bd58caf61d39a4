//! What is allowed in a workflow, but probably not meant.
//!
//! What is wrong is in `check`.

use std::collections::HashSet;

use super::definition::{Step, Workflow};
use super::edges::StepEdge;
use crate::agent_type::NOOP;
use crate::plan::EdgeKind;
use crate::yaml::YamlReader;

/// Warns of all of it. The edges have no circle.
pub(super) fn warn(reader: &mut YamlReader<'_>, workflow: &Workflow, edges: &[StepEdge]) {
    warn_of_workspaces(reader, workflow, edges);
    warn_of_contradictions(reader, workflow, edges);
}

/// Two steps of one agent, joined by an edge, that both leave `workspace` out: the second does not
/// find what the first made, which is rarely meant.
fn warn_of_workspaces(reader: &mut YamlReader<'_>, workflow: &Workflow, edges: &[StepEdge]) {
    if workflow.defaults.workspace.is_some() {
        return;
    }
    let mut warned = HashSet::new();
    let joins = |step: &Step, other: &Step| {
        step.agent.value == other.agent.value && step.agent.value.as_str() != NOOP
    };
    for edge in edges {
        let (first, second) = (&workflow.steps[edge.from as usize], &workflow.steps[edge.to as usize]);
        if !joins(first, second) || second.workspace.is_some() || first.workspace.is_some() {
            continue;
        }
        if !warned.insert(edge.to) {
            continue;
        }
        let message = format!(
            "`{}` and `{}` are steps of one agent, but each works in a fresh folder",
            first.id.value, second.id.value
        );
        let problem = reader.source.warning(second.id.place.clone(), message);
        reader.problems.push(problem.hint(format!(
            "say `workspace: run` for one folder, `workspace: {}` for a copy, or `workspace: task` if this is meant",
            first.id.value
        )));
    }
}

/// A step that needs another to complete, and starts only if that one fails: it never runs.
fn warn_of_contradictions(reader: &mut YamlReader<'_>, workflow: &Workflow, edges: &[StepEdge]) {
    let count = workflow.steps.len();
    let (mut possible, mut triggers) = (vec![false; count], vec![0_usize; count]);
    let pairs = |kind: EdgeKind| edges.iter().filter(move |edge| edge.kind == kind);
    let needs: HashSet<(u32, u32)> = pairs(EdgeKind::Needs).map(|edge| (edge.from, edge.to)).collect();
    for edge in pairs(EdgeKind::OnSuccess).chain(pairs(EdgeKind::OnFailure)) {
        let continued = workflow.steps[edge.from as usize].continue_on.failed;
        let needed = needs.contains(&(edge.from, edge.to));
        triggers[edge.to as usize] += 1;
        possible[edge.to as usize] |= edge.kind == EdgeKind::OnSuccess || continued || !needed;
    }
    let never = workflow.steps.iter().zip(triggers).zip(possible);
    for (step, _) in
        never.filter(|((_, triggers), possible)| *triggers > 0 && !possible).map(|(pair, _)| pair)
    {
        let message = format!(
            "step `{}` never runs: it starts when a step fails that must complete first",
            step.id.value
        );
        let problem = reader.source.warning(step.id.place.clone(), message);
        reader.problems.push(
            problem.hint("take that step out of its `depends_on`, or add `continue_on: failed` to that step"),
        );
    }
}
