//! `maestro workflow show`: a stored definition, as it was written.

use clap::Args;
use maestro_model::ids::WorkflowName;
use maestro_store::Store;
use maestro_store::definitions::StoredDefinition;
use serde::Serialize;
use serde_json::Value;

use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::closest;
use crate::output::foreign::harmless_lines;
use crate::output::format::{Destination, Form};
use crate::output::moment::as_rfc3339;

/// Flags of `workflow show`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro workflow show hello --version 1 --format table > hello.yaml")]
pub(crate) struct ShowWorkflowArgs {
    /// The name it is stored under
    name: WorkflowName,
    /// This version instead of the newest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    version: Option<u32>,
}

#[derive(Debug, Serialize)]
struct DefinitionRecord {
    name: String,
    version: u32,
    #[serde(serialize_with = "as_rfc3339")]
    stored_at: u64,
    /// Values that override its `vars`.
    vars: Value,
    /// The YAML text.
    definition: String,
}

/// Prints it: for people the text itself, otherwise a record.
pub(crate) fn run(args: &ShowWorkflowArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let stored = stored_definition(&store, &args.name, args.version).await?;
        let printer = &context.printer;
        match printer.form() {
            Form::Table if printer.destination() == Destination::Terminal => {
                printer.lines(&harmless_lines(&stored.text))?;
            }
            Form::Table => printer.bytes(stored.text.as_bytes())?,
            Form::Name => printer.lines(&stored.name)?,
            Form::Json | Form::Jsonl | Form::Yaml => printer.document(&DefinitionRecord {
                name: stored.name,
                version: stored.version,
                stored_at: stored.at_ms,
                vars: serde_json::from_str(&stored.vars).unwrap_or(Value::Object(serde_json::Map::new())),
                definition: stored.text,
            })?,
        }
        Ok(Exit::Done)
    })
}

async fn stored_definition(
    store: &Store,
    name: &WorkflowName,
    version: Option<u32>,
) -> Result<StoredDefinition, Failure> {
    if let Some(stored) = store.definition(name, version).await? {
        return Ok(stored);
    }
    match (version, store.definition(name, None).await?) {
        (Some(version), Some(newest)) => {
            Err(Failure::not_found(format!("workflow `{name}` has no version {version}")).hint(match newest
                .version
            {
                1 => "it has version 1 alone".to_owned(),
                last => format!("its versions are 1 to {last}"),
            }))
        }
        _ => Err(no_such_workflow(store, name).await),
    }
}

/// What is said of a workflow that is not stored.
pub(crate) async fn no_such_workflow(store: &Store, name: &WorkflowName) -> Failure {
    let failure = Failure::not_found(format!("no workflow `{name}` is stored"));
    let names = store.definitions().await.unwrap_or_default();
    match closest(name.as_str(), names.iter().map(|stored| stored.name.as_str())) {
        Some(close) => failure.hint(format!("did you mean `{close}`?")),
        None => failure.hint("`maestro workflow list` lists those there are"),
    }
}
