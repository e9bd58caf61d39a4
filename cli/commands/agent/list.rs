//! `maestro agent list`: agents and types, what they do, and what they use.

use clap::{Args, ValueEnum};

use super::entry::{AGENT_ROWS, AgentEntry};
use crate::agents::AgentOverview;
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;

/// Which agents are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WantedStatus {
    /// Those that work
    Active,
    /// Those that could
    Idle,
    /// Those that cannot
    Failed,
    /// All of them
    All,
}

/// Flags of `agent list`.
#[derive(Debug, Args)]
#[command(
    after_help = "Types without an assigned agent are in it too; any worker that serves them runs their tasks.\n\
                  Memory, CPU time and processes are those of what runs, by the last heartbeat.\n\n\
                  Example:\n  maestro agent list | grep -c active"
)]
pub(crate) struct AgentListArgs {
    /// Only agents of this status
    #[arg(long, value_enum, default_value_t = WantedStatus::All, value_name = "STATUS")]
    status: WantedStatus,
}

/// Lists assigned agents first, then types, both by name.
pub(crate) fn run(args: &AgentListArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let overview = AgentOverview::read(&store).await?;
        let agents = overview.assigned.values().map(|agent| AgentEntry::of_agent(agent, &overview));
        let has_agent = |slug: &str| overview.assigned.values().any(|one| one.agent_type.as_str() == slug);
        // A type with an agent of its own is only listed for what it runs beside.
        let is_listed = |slug: &str| {
            !has_agent(slug) || overview.unassigned.keys().any(|running| running.as_str() == slug)
        };
        let types = overview.types.values().filter(|agent| is_listed(agent.slug.as_str()));
        let types = types.map(|agent| AgentEntry::of_type(agent, &overview));
        let wanted = |entry: &AgentEntry| match args.status {
            WantedStatus::Active => entry.status == "active",
            WantedStatus::Idle => entry.status == "idle",
            WantedStatus::Failed => entry.status == "failed",
            WantedStatus::All => true,
        };
        let entries: Vec<AgentEntry> = agents.chain(types).filter(wanted).collect();
        context.printer.list(&entries, &AGENT_ROWS)?;
        Ok(Exit::Done)
    })
}
