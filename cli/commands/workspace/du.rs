//! `maestro workspace du`: how much disk workspaces take.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::entry::{AGENT, CHANGED, KIND, PATH, WORKER, WorkspaceEntry, all_workspaces};
use crate::cluster::open_store;
use crate::commands::agent::mebibytes;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::output::shape::{Column, Field, Shape};

/// Flags of `workspace du`.
#[derive(Debug, Args)]
#[command(
    after_help = "Bytes on disk, Maestro's own files beside a task's folder included; hard links count once.\n\n\
                  Example:\n  maestro workspace du --agent shell"
)]
pub(crate) struct WorkspaceDuArgs {
    /// Only those of an agent, an agent type, or a run, each by itself
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
}

/// All workspaces of one agent, type or run.
#[derive(Debug, Default, Serialize)]
struct DiskUse {
    agent: String,
    workspaces: u64,
    files: u64,
    bytes: u64,
}

const SUMS: Shape<DiskUse> = Shape {
    columns: &[
        Column::new("AGENT", |one| one.agent.clone().into()),
        Column::new("WORKSPACES", |one| Field::number(one.workspaces)),
        Column::new("FILES", |one| Field::number(one.files)),
        Column::new("SIZE", |one| Field::number(mebibytes(one.bytes))),
    ],
    name: |one| one.agent.clone(),
    none: "no workspaces",
};

const EACH: Shape<WorkspaceEntry> = Shape {
    columns: &[
        AGENT,
        KIND,
        Column::new("FILES", |one| Field::number(one.files.unwrap_or_default())),
        Column::new("SIZE", |one| Field::number(mebibytes(one.bytes.unwrap_or_default()))),
        CHANGED,
        WORKER,
        PATH,
    ],
    name: |one| one.path.clone(),
    none: "no workspaces",
};

/// Counts them: a sum for each agent, or with `--agent` each folder.
pub(crate) fn run(args: &WorkspaceDuArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let entries = all_workspaces(&store, args.agent.as_deref(), true, context).await?;
        if args.agent.is_some() {
            context.printer.list(&entries, &EACH)?;
            return Ok(Exit::Done);
        }
        let mut sums: BTreeMap<String, DiskUse> = BTreeMap::new();
        for entry in entries {
            let sum = sums.entry(entry.agent.clone()).or_default();
            sum.agent = entry.agent;
            sum.workspaces += 1;
            sum.files += entry.files.unwrap_or_default();
            sum.bytes += entry.bytes.unwrap_or_default();
        }
        let sums: Vec<DiskUse> = sums.into_values().collect();
        context.printer.list(&sums, &SUMS)?;
        Ok(Exit::Done)
    })
}
