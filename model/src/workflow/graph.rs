//! Drawings of a workflow: text for people, DOT and Mermaid for programs.
//!
//! Only what the file says is drawn. How a run of it stands is the command line's tree.

use std::fmt::Write as _;

use super::definition::{Step, Workflow};
use super::edges::StepEdge;
use crate::plan::EdgeKind;
use crate::yaml::shortened;

/// How a workflow is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphFormat {
    /// Plain text, level by level.
    Ascii,
    /// For Graphviz.
    Dot,
    /// For Mermaid, as in Markdown files.
    Mermaid,
}

impl GraphFormat {
    /// All of them, with the words that choose them.
    pub const ALL: [(&str, GraphFormat); 3] =
        [("ascii", GraphFormat::Ascii), ("dot", GraphFormat::Dot), ("mermaid", GraphFormat::Mermaid)];
}

/// Draws a workflow; the text ends with an end of line.
pub fn render_graph(workflow: &Workflow, format: GraphFormat) -> String {
    match format {
        GraphFormat::Ascii => ascii(workflow),
        GraphFormat::Dot => dot(workflow),
        GraphFormat::Mermaid => mermaid(workflow),
    }
}

/// What is said about a step beside its name.
fn remarks(step: &Step) -> Vec<String> {
    let mut remarks = Vec::new();
    if step.foreach.is_some() {
        remarks.push(match step.max_parallel {
            Some(most) => format!("for each item, {most} at a time"),
            None => "for each item".to_owned(),
        });
    }
    remarks
}

fn ascii(workflow: &Workflow) -> String {
    let incoming = incoming(workflow);
    let levels = levels(workflow, &incoming);
    let id_width = workflow.steps.iter().map(|step| step.id.value.as_str().len()).max().unwrap_or(0);
    let agent_width = workflow.steps.iter().map(|step| step.agent.value.as_str().len()).max().unwrap_or(0);
    let mut by_level: Vec<Vec<usize>> = Vec::new();
    for (place, level) in levels.iter().enumerate() {
        if by_level.len() <= *level {
            by_level.resize(*level + 1, Vec::new());
        }
        by_level[*level].push(place);
    }
    let mut text = format!("{}: {}\n", workflow.name.value, counted(workflow.steps.len(), "step"));
    for (level, places) in by_level.iter().enumerate() {
        let _ = writeln!(text, "\nlevel {}", level + 1);
        for place in places {
            let step = &workflow.steps[*place];
            let mut said = waits(workflow, &incoming[*place]);
            said.extend(remarks(step));
            said.extend(step.when.as_ref().map(|when| format!("when {}", shortened(when.text()))));
            let line = format!(
                "  {:id_width$}  {:agent_width$}  {}",
                step.id.value.as_str(),
                step.agent.value.as_str(),
                said.join("; ")
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What a step waits for, in words.
fn waits(workflow: &Workflow, edges: &[&StepEdge]) -> Vec<String> {
    let id = |edge: &StepEdge| workflow.steps[edge.from as usize].id.value.to_string();
    let needs: Vec<String> =
        edges.iter().filter(|edge| edge.kind == EdgeKind::Needs).map(|edge| id(edge)).collect();
    let triggers: Vec<String> = edges
        .iter()
        .filter_map(|edge| match edge.kind {
            EdgeKind::OnSuccess => Some(format!("{} succeeds", id(edge))),
            EdgeKind::OnFailure => Some(format!("{} FAILS", id(edge))),
            EdgeKind::Needs | EdgeKind::Item => None,
        })
        .collect();
    let mut said = Vec::new();
    if !needs.is_empty() {
        said.push(format!("after {}", needs.join(", ")));
    }
    if !triggers.is_empty() {
        said.push(format!("if {}", triggers.join(" or ")));
    }
    said
}

fn incoming(workflow: &Workflow) -> Vec<Vec<&StepEdge>> {
    let mut incoming: Vec<Vec<&StepEdge>> = vec![Vec::new(); workflow.steps.len()];
    for edge in &workflow.edges {
        incoming[edge.to as usize].push(edge);
    }
    incoming
}

/// The length of the longest way to each step.
fn levels(workflow: &Workflow, incoming: &[Vec<&StepEdge>]) -> Vec<usize> {
    let mut outgoing: Vec<Vec<u32>> = vec![Vec::new(); workflow.steps.len()];
    for edge in &workflow.edges {
        outgoing[edge.from as usize].push(edge.to);
    }
    let mut waits_for: Vec<usize> = incoming.iter().map(Vec::len).collect();
    let mut levels = vec![0; workflow.steps.len()];
    let mut ready: Vec<usize> = (0..waits_for.len()).filter(|step| waits_for[*step] == 0).collect();
    while let Some(step) = ready.pop() {
        for follower in &outgoing[step] {
            let follower = *follower as usize;
            levels[follower] = levels[follower].max(levels[step] + 1);
            waits_for[follower] -= 1;
            if waits_for[follower] == 0 {
                ready.push(follower);
            }
        }
    }
    levels
}

fn dot(workflow: &Workflow) -> String {
    let mut text = format!("digraph \"{}\" {{\n  rankdir=LR;\n  node [shape=box];\n", workflow.name.value);
    for step in &workflow.steps {
        let label = label(step, "\\n");
        let _ = writeln!(text, "  \"{}\" [label=\"{label}\"];", step.id.value);
    }
    for edge in &workflow.edges {
        let (from, to) = ends(workflow, edge);
        let style = match edge.kind {
            EdgeKind::OnSuccess => " [label=\"success\", color=darkgreen]",
            EdgeKind::OnFailure => " [label=\"failure\", color=red, style=dashed]",
            EdgeKind::Needs | EdgeKind::Item => "",
        };
        let _ = writeln!(text, "  \"{from}\" -> \"{to}\"{style};");
    }
    text.push_str("}\n");
    text
}

fn mermaid(workflow: &Workflow) -> String {
    let mut text = "flowchart TD\n".to_owned();
    for (place, step) in workflow.steps.iter().enumerate() {
        // The id of a step may be a word of Mermaid's own (`end`), so it stands in the label only.
        let _ = writeln!(text, "  s{place}[\"{}\"]", label(step, "<br/>"));
    }
    for edge in &workflow.edges {
        let arrow = match edge.kind {
            EdgeKind::OnSuccess => "-->|success|",
            EdgeKind::OnFailure => "-.->|failure|",
            EdgeKind::Needs | EdgeKind::Item => "-->",
        };
        let _ = writeln!(text, "  s{} {arrow} s{}", edge.from, edge.to);
    }
    text
}

/// Names hold letters, digits, `.`, `_` and `-` only, so nothing needs an escape.
fn label(step: &Step, end_of_line: &str) -> String {
    let mut lines = vec![step.id.value.to_string(), step.agent.value.to_string()];
    lines.extend(remarks(step));
    lines.extend(step.when.as_ref().map(|_| "when …".to_owned()));
    lines.join(end_of_line)
}

fn ends<'w>(workflow: &'w Workflow, edge: &StepEdge) -> (&'w str, &'w str) {
    let id = |step: u32| workflow.steps[step as usize].id.value.as_str();
    (id(edge.from), id(edge.to))
}
