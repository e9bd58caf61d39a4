//! `maestro task`: the verbs, one file each.
//!
//! - `entry`: a task as users see it
//! - `scan`: tasks of many runs, newest first
//! - `log_lines`: pieces of a log put together to lines
//! - `log_print`: lines as they are printed
//! - `dispatch_health`, `dispatch_results`: before a dispatch, and after it
//! - `why`, `why_queued`, `why_agent`: why a task is where it is

mod cancel;
mod dispatch;
mod dispatch_health;
mod dispatch_results;
pub(crate) mod entry;
mod explain;
mod list;
pub(crate) mod log_lines;
pub(crate) mod log_print;
pub(crate) mod logs;
pub(crate) mod model_use_entry;
mod retry;
pub(crate) mod scan;
mod status;
mod wait;
mod why;
mod why_agent;
mod why_elsewhere;
mod why_queued;

use clap::Subcommand;

use super::{CommandContext, Outcome};

/// The verbs of `task`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  maestro task list --status failed")]
pub(crate) enum TaskCommand {
    /// Give a prompt to agents, without a workflow
    Dispatch(dispatch::DispatchArgs),
    /// List tasks, newest runs first
    List(list::TaskListArgs),
    /// Print one task's record
    Status(status::TaskStatusArgs),
    /// Print what a task's agent printed
    Logs(logs::TaskLogsArgs),
    /// Wait until tasks have ended, and end with their code
    Wait(wait::TaskWaitArgs),
    /// End a task, with the whole process tree of its agent
    Cancel(cancel::TaskCancelArgs),
    /// Another try for what has ended, one task or many
    Retry(retry::TaskRetryArgs),
    /// Say why a task is where it is
    Explain(explain::ExplainArgs),
}

/// Runs one of the verbs.
pub(crate) fn run(command: TaskCommand, context: &CommandContext) -> Outcome {
    match command {
        TaskCommand::Dispatch(args) => dispatch::run(&args, context),
        TaskCommand::List(args) => list::run(&args, context),
        TaskCommand::Status(args) => status::run(&args, context),
        TaskCommand::Logs(args) => logs::run(&args, context),
        TaskCommand::Wait(args) => wait::run(&args, context),
        TaskCommand::Cancel(args) => cancel::run(&args, context),
        TaskCommand::Retry(args) => retry::run(&args, context),
        TaskCommand::Explain(args) => explain::run(&args, context),
    }
}
