//! `maestro agent restart`: starts an agent again; what it works on starts anew.

use clap::Args;
use maestro_store::assignments::HoldOrder;

use super::hold::end_agent;
use super::stop::{ORDER_SHAPE, OrderRecord};
use crate::agents::AgentOverview;
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::output::format::Form;

/// Flags of `agent restart`.
#[derive(Debug, Args)]
#[command(
    after_help = "A stopped agent goes on with what waits for it. What an agent works on is ended and goes back to \
                  the front of its queue: no attempt is counted.\n\n\
                  Example:\n  maestro agent restart reviewer"
)]
pub(crate) struct AgentRestartArgs {
    /// The agent: its id, a prefix of it, or `last`
    id: String,
    /// End what it works on without grace
    #[arg(long)]
    force: bool,
}

/// Starts it again.
pub(crate) fn run(args: &AgentRestartArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let overview = AgentOverview::read(&store).await?;
        let agent = overview.find_assigned(&args.id)?;
        for problem in overview.problems_of(agent) {
            context.printer.warn(&format!("agent `{}` cannot work yet: {problem}", agent.id));
        }
        let order = HoldOrder { kill: args.force, then_restart: true };
        let ended = end_agent(&store, agent, order, context).await?;
        let id = &agent.id;
        let (change, sentence) = match (&ended.task, ended.was_held) {
            (Some(task), _) => ("restarted", format!("agent `{id}` starts again; task `{task}` starts anew")),
            (None, true) => ("restarted", format!("agent `{id}` goes on")),
            (None, false) => ("unchanged", format!("agent `{id}` was neither stopped nor at work")),
        };
        if context.printer.form() == Form::Table {
            context.printer.lines(&sentence)?;
        } else {
            let task = ended.task.map(|task| task.to_string());
            context.printer.record(&OrderRecord { id: id.to_string(), change, task }, &ORDER_SHAPE)?;
        }
        Ok(Exit::Done)
    })
}
