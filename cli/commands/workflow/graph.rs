//! `maestro workflow graph`: draws a definition, or lists its steps and edges for programs.

use std::path::PathBuf;

use clap::Args;
use maestro_model::plan::EdgeKind;
use maestro_model::workflow::{GraphFormat, Workflow, render_graph};
use serde::Serialize;

use super::source::read_workflow;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::output::format::PrintFormat;

/// Flags of `workflow graph`.
#[derive(Debug, Args)]
#[command(
    after_help = "Formats: --format ascii (default), dot or mermaid; json and yaml list steps and edges.\n\n\
                  Example:\n  maestro workflow graph workflows/hello.yaml --format mermaid"
)]
pub(crate) struct GraphArgs {
    /// The definition; `-` reads standard input
    file: PathBuf,
}

#[derive(Debug, Serialize)]
struct GraphRecord<'a> {
    name: &'a str,
    steps: Vec<StepNode<'a>>,
    edges: Vec<EdgeRecord<'a>>,
}

#[derive(Debug, Serialize)]
struct StepNode<'a> {
    id: &'a str,
    agent: &'a str,
    foreach: bool,
}

#[derive(Debug, Serialize)]
struct EdgeRecord<'a> {
    from: &'a str,
    to: &'a str,
    kind: EdgeKind,
    /// Whether a template says so, not a key.
    implied: bool,
}

impl<'a> GraphRecord<'a> {
    fn of(workflow: &'a Workflow) -> GraphRecord<'a> {
        let id = |place: u32| workflow.steps[place as usize].id.value.as_str();
        let steps = workflow.steps.iter().map(|step| StepNode {
            id: step.id.value.as_str(),
            agent: step.agent.value.as_str(),
            foreach: step.foreach.is_some(),
        });
        let edges = workflow.edges.iter().map(|edge| EdgeRecord {
            from: id(edge.from),
            to: id(edge.to),
            kind: edge.kind,
            implied: edge.implied,
        });
        GraphRecord { name: workflow.name.value.as_str(), steps: steps.collect(), edges: edges.collect() }
    }
}

/// Draws the workflow.
pub(crate) fn run(args: &GraphArgs, context: &CommandContext) -> Outcome {
    let workflow = read_workflow(&args.file, &[], context)?.workflow;
    let printer = &context.printer;
    let drawing = match printer.format() {
        // `auto` draws in a pipe as well: a drawing is what was asked for.
        PrintFormat::Auto | PrintFormat::Table | PrintFormat::Ascii => GraphFormat::Ascii,
        PrintFormat::Dot => GraphFormat::Dot,
        PrintFormat::Mermaid => GraphFormat::Mermaid,
        PrintFormat::Json | PrintFormat::Jsonl | PrintFormat::Yaml => {
            printer.document(&GraphRecord::of(&workflow))?;
            return Ok(Exit::Done);
        }
        PrintFormat::Name => {
            let ids: Vec<&str> = workflow.steps.iter().map(|step| step.id.value.as_str()).collect();
            printer.lines(&ids.join("\n"))?;
            return Ok(Exit::Done);
        }
    };
    printer.lines(&render_graph(&workflow, drawing))?;
    Ok(Exit::Done)
}
