//! `maestro agent stop`: ends what an agent does; its tasks wait until it is started again.

use clap::Args;
use maestro_store::assignments::HoldOrder;
use serde::Serialize;

use super::hold::end_agent;
use crate::agents::AgentOverview;
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::output::format::Form;
use crate::output::shape::{Column, Field, Shape};

/// Flags of `agent stop`.
#[derive(Debug, Args)]
#[command(
    after_help = "What it works on is cancelled (SIGTERM, grace, SIGKILL); what waits for it goes on waiting.\n\
                  `maestro agent restart` starts it again.\n\n\
                  Example:\n  maestro agent stop reviewer"
)]
pub(crate) struct AgentStopArgs {
    /// The agent: its id, a prefix of it, or `last`
    id: String,
    /// End it without grace
    #[arg(long)]
    force: bool,
}

/// What became of an agent that was stopped or started.
#[derive(Debug, Serialize)]
pub(super) struct OrderRecord {
    pub(super) id: String,
    /// `stopped`, `restarted`, or `unchanged`.
    pub(super) change: &'static str,
    /// What it worked on.
    pub(super) task: Option<String>,
}

pub(super) const ORDER_SHAPE: Shape<OrderRecord> = Shape {
    columns: &[
        Column::new("ID", |one| one.id.clone().into()),
        Column::new("CHANGE", |one| one.change.into()),
        Column::new("TASK", |one| Field::or_none(one.task.clone())),
    ],
    name: |one| one.id.clone(),
    none: "no agent",
};

/// Stops it. One that is stopped already stays so, and that is no error.
pub(crate) fn run(args: &AgentStopArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let overview = AgentOverview::read(&store).await?;
        let agent = overview.find_assigned(&args.id)?;
        let order = HoldOrder { kill: args.force, then_restart: false };
        let ended = end_agent(&store, agent, order, context).await?;
        let id = &agent.id;
        let (change, sentence) = match (&ended.task, ended.was_held) {
            (Some(task), _) => {
                ("stopped", format!("agent `{id}` is stopped, and task `{task}` is cancelled"))
            }
            (None, false) => ("stopped", format!("agent `{id}` is stopped; it did nothing")),
            (None, true) => ("unchanged", format!("agent `{id}` was stopped already")),
        };
        if context.printer.form() == Form::Table {
            context.printer.lines(&sentence)?;
            context.printer.note(&format!("`maestro agent restart {id}` starts it again"));
        } else {
            let task = ended.task.map(|task| task.to_string());
            context.printer.record(&OrderRecord { id: id.to_string(), change, task }, &ORDER_SHAPE)?;
        }
        Ok(Exit::Done)
    })
}
