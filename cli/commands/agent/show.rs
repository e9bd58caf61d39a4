//! `maestro agent show`: an agent or an agent type in full.

use clap::Args;
use maestro_model::agent_type::AgentType;
use serde_json::{Value, json};

use super::entry::AgentEntry;
use crate::agents::{AgentOverview, FoundAgent, register_on_first_use};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Form;
use crate::output::moment::rfc3339;

/// Flags of `agent show`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro agent show code-reviewer | jq .definition.command")]
pub(crate) struct AgentShowArgs {
    /// An agent or an agent type: its id, a prefix of it, or `last` for the agent assigned last
    id: String,
}

/// Shows it: for people as YAML, as its file reads.
pub(crate) fn run(args: &AgentShowArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let settings = context.settings()?;
        let store = open_store(&settings).await?;
        register_on_first_use(&store, &settings, &args.id).await?;
        let overview = AgentOverview::read(&store).await?;
        let (name, document) = match overview.find(&args.id)? {
            FoundAgent::Assigned(agent) => {
                let mut record = record_of(&AgentEntry::of_agent(agent, &overview));
                record["assigned_at"] = json!(rfc3339(agent.assigned_at_ms));
                if let Some(held) = &agent.held {
                    record["stopped_at"] = json!(rfc3339(held.at_ms));
                    record["stopped_by"] = json!(held.by);
                }
                record["definition"] = definition(overview.types.get(&agent.agent_type));
                (agent.id.to_string(), record)
            }
            FoundAgent::Type(agent) => {
                let mut record = record_of(&AgentEntry::of_type(agent, &overview));
                let workers: Vec<&str> =
                    overview.serving(&agent.slug).map(|worker| worker.name.as_str()).collect();
                record["workers"] = json!(workers);
                record["definition"] = definition(Some(agent));
                (agent.slug.to_string(), record)
            }
        };
        print(&name, &document, context)?;
        Ok(Exit::Done)
    })
}

fn record_of(entry: &AgentEntry) -> Value {
    serde_json::to_value(entry).expect("the keys of a record are text")
}

fn definition(agent: Option<&AgentType>) -> Value {
    agent.map_or(Value::Null, |agent| serde_json::to_value(agent).expect("an agent type is plain data"))
}

fn print(name: &str, document: &Value, context: &CommandContext) -> Result<(), Failure> {
    match context.printer.form() {
        Form::Name => context.printer.lines(name),
        Form::Table => context.printer.yaml(document),
        Form::Json | Form::Jsonl | Form::Yaml => context.printer.document(document),
    }
}
