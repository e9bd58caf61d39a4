//! `maestro workflow`: the verbs, one file each.
//!
//! `source` reads a definition from a file for those that take one; `run_entry` is a run as users see it.

mod create;
mod delete;
mod graph;
mod list;
mod local_logs;
mod logs;
mod resume_hint;
mod run;
mod run_entry;
mod run_found;
mod run_params;
mod run_plan;
mod run_ready;
mod runs;
mod schema;
mod show;
mod source;
mod status;
mod step_entry;
mod stop;
mod trace;
mod validate;
mod watch;

use clap::Subcommand;

pub(crate) use status::print_run;
pub(crate) use stop::stop_runs;

use super::{CommandContext, Outcome};

/// The verbs of `workflow`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  maestro workflow validate workflows/hello.yaml")]
pub(crate) enum WorkflowCommand {
    /// Run a workflow and follow it
    Run(run::RunArgs),
    /// Store a definition, as a new version if it differs from the newest
    Create(create::CreateArgs),
    /// List stored workflows
    List(list::WorkflowListArgs),
    /// Print a stored definition
    Show(show::ShowWorkflowArgs),
    /// Remove a stored workflow with all its versions; its runs stay
    Delete(delete::DeleteWorkflowArgs),
    /// List runs, newest first
    Runs(runs::RunsArgs),
    /// Print a run and its steps
    Status(status::RunStatusArgs),
    /// Print what the agents of a run printed
    Logs(logs::RunLogsArgs),
    /// Print or write what happened when, for a trace viewer
    Trace(trace::RunTraceArgs),
    /// Stop a run, or all runs of a workflow
    Stop(stop::StopArgs),
    /// Check a definition, without any cluster
    Validate(validate::ValidateArgs),
    /// Print the JSON Schema of definitions, for editors
    Schema(schema::SchemaArgs),
    /// Draw a definition
    Graph(graph::GraphArgs),
}

impl WorkflowCommand {
    /// Whether it knows the formats that draw graphs.
    pub(crate) fn draws(&self) -> bool {
        matches!(self, WorkflowCommand::Graph(_))
    }
}

/// Runs one of the verbs.
pub(crate) fn run(command: WorkflowCommand, context: &CommandContext) -> Outcome {
    match command {
        WorkflowCommand::Run(args) => run::run(&args, context),
        WorkflowCommand::Create(args) => create::run(&args, context),
        WorkflowCommand::List(args) => list::run(&args, context),
        WorkflowCommand::Show(args) => show::run(&args, context),
        WorkflowCommand::Delete(args) => delete::run(&args, context),
        WorkflowCommand::Runs(args) => runs::run(&args, context),
        WorkflowCommand::Status(args) => status::run(&args, context),
        WorkflowCommand::Logs(args) => logs::run(&args, context),
        WorkflowCommand::Trace(args) => trace::run(&args, context),
        WorkflowCommand::Stop(args) => stop::run(&args, context),
        WorkflowCommand::Validate(args) => validate::run(&args, context),
        WorkflowCommand::Schema(args) => schema::run(&args, context),
        WorkflowCommand::Graph(args) => graph::run(&args, context),
    }
}
