//! `maestro workflow schema`: how definitions are written, for editors.

use clap::Args;
use maestro_model::workflow::workflow_schema;

use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::output::format::PrintFormat;

/// Flags of `workflow schema`: none.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro workflow schema > workflow.schema.json")]
pub(crate) struct SchemaArgs {}

/// Prints the schema. It is one document and no record: JSON to be read, or YAML if that is asked for.
pub(crate) fn run(_args: &SchemaArgs, context: &CommandContext) -> Outcome {
    let schema = workflow_schema();
    match context.printer.format() {
        PrintFormat::Yaml => context.printer.document(&schema)?,
        _ => {
            let text = serde_json::to_string_pretty(&schema).expect("a JSON value is JSON");
            context.printer.lines(&text)?;
        }
    }
    Ok(Exit::Done)
}
