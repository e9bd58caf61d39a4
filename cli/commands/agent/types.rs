//! `maestro agent types`: what is registered.

use clap::Args;
use maestro_model::agent_type::AgentType;
use serde::Serialize;

use crate::agents::AgentOverview;
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::output::foreign::cut;
use crate::output::shape::{Column, Field, Shape};

/// Columns of descriptions and commands in the table.
const TEXT_COLUMNS: usize = 44;

/// Flags of `agent types`: none.
#[derive(Debug, Args)]
#[command(
    after_help = "A worker registers the types it finds when it starts; a command does so with the types it uses.\n\n\
                  Example:\n  maestro agent types --format name"
)]
pub(crate) struct AgentTypesArgs {}

/// A registered type.
#[derive(Debug, Clone, Serialize)]
struct TypeEntry {
    slug: String,
    description: String,
    mode: String,
    /// What it launches; none for kilo's default command, empty for what launches nothing.
    command: Option<Vec<String>>,
    isolate_with: maestro_model::agent_type::Isolation,
    capabilities: Vec<String>,
    max_concurrent: Option<u32>,
    /// Live workers that serve it.
    workers: Vec<String>,
    /// Agents of it.
    agents: Vec<String>,
}

const SHAPE: Shape<TypeEntry> = Shape {
    columns: &[
        Column::new("SLUG", |one| one.slug.clone().into()),
        Column::new("COMMAND", |one| match one.command.as_deref() {
            None => "kilo".into(),
            Some([]) => Field::none(),
            Some(words) => cut(&words.join(" "), TEXT_COLUMNS).into(),
        }),
        Column::new("WORKERS", |one| Field::number(one.workers.len())),
        Column::new("AGENTS", |one| Field::number(one.agents.len())),
        Column::new("DESCRIPTION", |one| cut(&one.description, TEXT_COLUMNS).into()),
    ],
    name: |one| one.slug.clone(),
    none: "no agent type is registered; `maestro agent register <FILE>` stores one, and every worker its own",
};

fn entry(agent: &AgentType, overview: &AgentOverview) -> TypeEntry {
    let of_it = overview.assigned.values().filter(|one| one.agent_type == agent.slug);
    TypeEntry {
        slug: agent.slug.to_string(),
        description: agent.description.clone(),
        mode: agent.mode.clone(),
        command: agent.command.clone(),
        isolate_with: agent.isolate_with,
        capabilities: agent.capabilities.clone(),
        max_concurrent: agent.limits.max_concurrent,
        workers: overview.serving(&agent.slug).map(|worker| worker.name.clone()).collect(),
        agents: of_it.map(|one| one.id.to_string()).collect(),
    }
}

/// Lists them by slug.
pub(crate) fn run(_args: &AgentTypesArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let overview = AgentOverview::read(&store).await?;
        let entries: Vec<TypeEntry> = overview.types.values().map(|agent| entry(agent, &overview)).collect();
        context.printer.list(&entries, &SHAPE)?;
        Ok(Exit::Done)
    })
}
