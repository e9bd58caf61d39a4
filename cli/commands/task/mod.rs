//! `maestro task`: the verbs, one file each.
//!
//! - `entry`: a task as users see it
//! - `scan`: tasks of many runs, newest first
//! - `log_lines`: pieces of a log put together to lines
//! - `log_print`: lines as they are printed
//! - `why`, `why_queued`: why a task is where it is

mod cancel;
pub(crate) mod entry;
mod explain;
mod list;
pub(crate) mod log_lines;
pub(crate) mod log_print;
pub(crate) mod logs;
pub(crate) mod scan;
mod status;
mod why;
mod why_queued;

use clap::Subcommand;

use super::{CommandContext, Outcome};

/// The verbs of `task`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  maestro task list --status failed")]
pub(crate) enum TaskCommand {
    /// List tasks, newest runs first
    List(list::TaskListArgs),
    /// Print one task's record
    Status(status::TaskStatusArgs),
    /// Print what a task's agent printed
    Logs(logs::TaskLogsArgs),
    /// End a task, with the whole process tree of its agent
    Cancel(cancel::TaskCancelArgs),
    /// Say why a task is where it is
    Explain(explain::ExplainArgs),
}

/// Runs one of the verbs.
pub(crate) fn run(command: TaskCommand, context: &CommandContext) -> Outcome {
    match command {
        TaskCommand::List(args) => list::run(&args, context),
        TaskCommand::Status(args) => status::run(&args, context),
        TaskCommand::Logs(args) => logs::run(&args, context),
        TaskCommand::Cancel(args) => cancel::run(&args, context),
        TaskCommand::Explain(args) => explain::run(&args, context),
    }
}
