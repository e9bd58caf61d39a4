//! `maestro agent`: the verbs, one file each.

mod assign;
mod assign_snapshot;
mod entry;
mod health;
mod hold;
mod list;
mod register;
mod registered;
mod reset;
mod restart;
mod show;
mod stop;
mod types;

use clap::Subcommand;

use super::{CommandContext, Outcome};

pub(crate) use entry::mebibytes;
pub(crate) use hold::{end_agent, release};

/// The verbs of `agent`.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Example:\n  maestro agent assign code-reviewer --to-workspace ~/src/app --name reviewer"
)]
pub(crate) enum AgentCommand {
    /// Check and store agent types
    Register(register::AgentRegisterArgs),
    /// List registered agent types
    Types(types::AgentTypesArgs),
    /// Show an agent or an agent type in full
    Show(show::AgentShowArgs),
    /// Make an agent: an agent type with a folder of its own
    Assign(assign::AgentAssignArgs),
    /// List agents: what they do and what they use
    List(list::AgentListArgs),
    /// Say whether an agent, or a type, is fit for work
    Health(health::AgentHealthArgs),
    /// End what an agent does and let its tasks wait
    Stop(stop::AgentStopArgs),
    /// Start an agent again; what it does starts anew
    Restart(restart::AgentRestartArgs),
    /// Empty an agent's folder and set it up from its template
    Reset(reset::AgentResetArgs),
}

/// Runs one of the verbs.
pub(crate) fn run(command: AgentCommand, context: &CommandContext) -> Outcome {
    match command {
        AgentCommand::Register(args) => register::run(&args, context),
        AgentCommand::Types(args) => types::run(&args, context),
        AgentCommand::Show(args) => show::run(&args, context),
        AgentCommand::Assign(args) => assign::run(&args, context),
        AgentCommand::List(args) => list::run(&args, context),
        AgentCommand::Health(args) => health::run(&args, context),
        AgentCommand::Stop(args) => stop::run(&args, context),
        AgentCommand::Restart(args) => restart::run(&args, context),
        AgentCommand::Reset(args) => reset::run(&args, context),
    }
}
