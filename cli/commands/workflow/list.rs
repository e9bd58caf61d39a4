//! `maestro workflow list`: what is stored.

use clap::Args;
use maestro_store::definitions::StoredDefinition;
use serde::Serialize;

use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::output::moment::{age, as_rfc3339, now_ms};
use crate::output::shape::{Column, Field, Shape};

/// Flags of `workflow list`: none.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro workflow list")]
pub(crate) struct WorkflowListArgs {}

#[derive(Debug, Serialize)]
struct DefinitionRow {
    name: String,
    /// The newest one.
    version: u32,
    #[serde(serialize_with = "as_rfc3339")]
    stored_at: u64,
    bytes: usize,
}

const SHAPE: Shape<DefinitionRow> = Shape {
    columns: &[
        Column::new("NAME", |row| row.name.clone().into()),
        Column::new("VERSION", |row| Field::number(row.version)),
        Column::new("STORED", |row| format!("{} ago", age(row.stored_at, now_ms())).into()),
        Column::new("BYTES", |row| Field::number(row.bytes)),
    ],
    name: |row| row.name.clone(),
    none: "no workflow is stored; `maestro workflow create NAME --definition FILE` stores one",
};

impl From<StoredDefinition> for DefinitionRow {
    fn from(stored: StoredDefinition) -> DefinitionRow {
        DefinitionRow {
            bytes: stored.text.len(),
            name: stored.name,
            version: stored.version,
            stored_at: stored.at_ms,
        }
    }
}

/// Lists them by name.
pub(crate) fn run(_args: &WorkflowListArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let rows: Vec<DefinitionRow> =
            store.definitions().await?.into_iter().map(DefinitionRow::from).collect();
        context.printer.list(&rows, &SHAPE)?;
        Ok(Exit::Done)
    })
}
