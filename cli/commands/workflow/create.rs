//! `maestro workflow create`: checks a definition and stores it as a version.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use indexmap::IndexMap;
use maestro_model::ids::WorkflowName;
use serde::Serialize;
use serde_json::Value;

use super::source::{read_definition, show_warnings};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Form;
use crate::output::shape::{Column, Field, Shape};

/// Most bytes of a file of variables.
const VARS_BYTES_MAX: u64 = 1024 * 1024;

/// Flags of `workflow create`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro workflow create hello --definition workflows/hello.yaml")]
pub(crate) struct CreateArgs {
    /// The name it is stored, listed and run under
    name: WorkflowName,
    /// The definition; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    definition: PathBuf,
    /// A JSON object whose values override the definition's `vars`
    #[arg(long, value_name = "FILE")]
    vars: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct CreatedRecord {
    name: String,
    version: u32,
    /// Whether the newest version was the same already.
    unchanged: bool,
    steps: usize,
}

const SHAPE: Shape<CreatedRecord> = Shape {
    columns: &[
        Column::new("NAME", |record| record.name.clone().into()),
        Column::new("VERSION", |record| Field::number(record.version)),
    ],
    name: |record| record.name.clone(),
    none: "no workflow",
};

/// Stores it.
pub(crate) fn run(args: &CreateArgs, context: &CommandContext) -> Outcome {
    let vars = match &args.vars {
        Some(path) => read_vars(path)?,
        None => IndexMap::new(),
    };
    let names: Vec<String> = vars.keys().cloned().collect();
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let types = store.agent_types().await?.into_keys().map(String::from);
        let agents = store.assignments().await?.into_keys().map(String::from);
        let registered: Vec<String> = types.chain(agents).collect();
        let read = read_definition(&args.definition, &registered, &names, context)?;
    show_warnings(&read.parsed, context);
        let own_name = &read.parsed.workflow.name.value;
        if *own_name != args.name {
            context.printer.warn(&format!(
                "the definition calls itself `{own_name}`; it is stored as `{}`, its runs are listed as `{own_name}`",
                args.name
            ));
        }
        let newest = store.definition(&args.name, None).await?.map_or(0, |stored| stored.version);
        let vars = if vars.is_empty() { String::new() } else { Value::from_iter(vars).to_string() };
        let version = store.store_definition(&args.name, &read.text, &vars).await?;
        let record = CreatedRecord {
            name: args.name.to_string(),
            version,
            unchanged: version == newest,
            steps: read.parsed.workflow.steps.len(),
        };
        if context.printer.form() == Form::Table {
            let state = if record.unchanged { "unchanged" } else { "stored" };
            context.printer.lines(&format!("workflow `{}` version {version}: {state}", record.name))?;
        } else {
            context.printer.record(&record, &SHAPE)?;
        }
        Ok(Exit::Done)
    })
}

/// Reads a file of variables.
///
/// # Errors
/// 66 if it is not there, 65 if it is no JSON object.
fn read_vars(path: &Path) -> Result<IndexMap<String, Value>, Failure> {
    let shown = path.display();
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Failure::not_found(format!("there is no file `{shown}`"))
        }
        _ => Failure::invalid_file(format!("cannot read `{shown}`")).caused_by(&error),
    };
    let size = fs::metadata(path).map_err(cannot)?.len();
    if size > VARS_BYTES_MAX {
        return Err(Failure::invalid_file(format!(
            "`{shown}` has {size} bytes; the limit is {VARS_BYTES_MAX}"
        )));
    }
    let bytes = fs::read(path).map_err(cannot)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::invalid_file(format!("`{shown}` is not JSON"))
            .caused_by(&error)
            .hint("write an object: `{\"branch\": \"main\"}`")
    })?;
    match value {
        Value::Object(values) => Ok(values.into_iter().collect()),
        other => Err(Failure::invalid_file(format!(
            "`{shown}` holds {}, where an object of variables is expected",
            kind_of(&other)
        ))
        .hint("write `{\"branch\": \"main\"}`")),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
