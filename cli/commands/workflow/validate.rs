//! `maestro workflow validate`: is this file a workflow, and if not, why not.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::source::read_workflow;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::output::format::Form;
use crate::output::shape::{Column, Field, Shape};

/// Flags of `workflow validate`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro workflow validate workflows/hello.yaml")]
pub(crate) struct ValidateArgs {
    /// The definition; `-` reads standard input
    file: PathBuf,
}

#[derive(Debug, Serialize)]
struct ValidRecord {
    file: String,
    name: String,
    version: Option<String>,
    steps: usize,
    edges: usize,
    warnings: usize,
    valid: bool,
}

const SHAPE: Shape<ValidRecord> = Shape {
    columns: &[
        Column::new("FILE", |record| record.file.clone().into()),
        Column::new("NAME", |record| record.name.clone().into()),
        Column::new("STEPS", |record| Field::number(record.steps)),
    ],
    name: |record| record.name.clone(),
    none: "no workflow",
};

/// Checks the file.
pub(crate) fn run(args: &ValidateArgs, context: &CommandContext) -> Outcome {
    let parsed = read_workflow(&args.file, &[], context)?;
    let workflow = &parsed.workflow;
    let record = ValidRecord {
        file: args.file.display().to_string(),
        name: workflow.name.value.to_string(),
        version: workflow.version.clone(),
        steps: workflow.steps.len(),
        edges: workflow.edges.len(),
        warnings: parsed.warnings.list.len() + parsed.warnings.left_out,
        valid: true,
    };
    if context.printer.form() == Form::Table {
        let steps = if record.steps == 1 { "1 step".to_owned() } else { format!("{} steps", record.steps) };
        context.printer.lines(&format!("workflow `{}` is valid: {steps}", record.name))?;
    } else {
        context.printer.record(&record, &SHAPE)?;
    }
    Ok(Exit::Done)
}
