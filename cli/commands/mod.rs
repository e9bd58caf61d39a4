//! The commands: one file per command, its flags above, `run` below, the work elsewhere.
//!
//! To add one: a file with a `clap::Args` struct and `fn run(args, &CommandContext) -> Outcome`, a
//! variant here (or in the family's `mod.rs`), a line in `dispatch`.

pub(crate) mod agent;
mod bench;
mod completion;
mod config;
mod context;
mod coordinator;
mod doctor;
mod events;
mod monitor;
pub(crate) mod queue;
mod redis;
mod shutdown;
mod state;
pub(crate) mod task;
mod up;
mod version;
mod worker;
mod workflow;
mod workspace;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

pub(crate) use context::{CommandContext, Outcome};

use crate::args::{CommandLine, printer_for_unparsed};
use crate::exit::Exit;
use crate::failure::Failure;

/// What the command can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Workflows: check, draw, run
    #[command(subcommand)]
    Workflow(workflow::WorkflowCommand),
    /// Tasks: what they do, and why not
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Agents and agent types: who works, where, and how it is
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Shared state: values that agents and people read and write
    #[command(subcommand)]
    State(state::StateCommand),
    /// The audit stream: what happened when, and who did it
    Events(events::EventsArgs),
    /// Queues: how much there is to do
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Redis: the keys of this namespace as a whole
    #[command(subcommand)]
    Redis(redis::RedisCommand),
    /// Workers: processes that run agents
    #[command(subcommand)]
    Worker(worker::WorkerCommand),
    /// Workspaces: the folders in which agents work
    #[command(subcommand)]
    Workspace(workspace::WorkspaceCommand),
    /// Coordinators: processes that sweep and expand
    #[command(subcommand)]
    Coordinator(coordinator::CoordinatorCommand),
    /// Health: check, alert, and list what needs a person
    #[command(subcommand)]
    Monitor(monitor::MonitorCommand),
    /// Start a whole cluster on this host
    Up(up::UpArgs),
    /// Stop intake and end every agent
    Shutdown(shutdown::ShutdownArgs),
    /// Check Redis, cluster, agent types and this host
    Doctor(doctor::DoctorArgs),
    /// Measure this cluster
    Bench(bench::BenchArgs),
    /// Settings: what holds and why
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a script that completes commands in a shell
    Completion(completion::CompletionArgs),
    /// Print the version
    Version(version::VersionArgs),
}

impl Command {
    /// Whether it knows the formats that draw graphs.
    fn draws(&self) -> bool {
        matches!(self, Command::Workflow(command) if command.draws())
    }
}

/// Parses, runs, prints what went wrong.
pub(crate) fn run(words: Vec<OsString>) -> Exit {
    let command_line = match CommandLine::try_parse_from(&words) {
        Ok(command_line) => command_line,
        Err(error) => return on_unparsed(&error, &words),
    };
    let printer = command_line.global.printer();
    let context = CommandContext::new(command_line.global, printer.clone());
    match dispatch(command_line.command, &context) {
        Ok(exit) => exit,
        Err(failure) => {
            printer.failure(&failure);
            failure.exit()
        }
    }
}

fn dispatch(command: Command, context: &CommandContext) -> Outcome {
    context.check_format(&command)?;
    match command {
        Command::Workflow(command) => workflow::run(command, context),
        Command::Task(command) => task::run(command, context),
        Command::Agent(command) => agent::run(command, context),
        Command::Workspace(command) => workspace::run(command, context),
        Command::State(command) => state::run(command, context),
        Command::Events(args) => events::run(&args, context),
        Command::Queue(command) => queue::run(command, context),
        Command::Redis(command) => redis::run(command, context),
        Command::Worker(command) => worker::run(command, context),
        Command::Coordinator(command) => coordinator::run(command, context),
        Command::Monitor(command) => monitor::run(command, context),
        Command::Up(args) => up::run(&args, context),
        Command::Shutdown(args) => shutdown::run(&args, context),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Bench(args) => bench::run(&args, context),
        Command::Config(command) => config::run(command, context),
        Command::Completion(args) => completion::run(&args, context),
        Command::Version(args) => version::run(&args, context),
    }
}

/// Help and version are answers; everything else that clap stops at is a wrong command line.
fn on_unparsed(error: &clap::Error, words: &[OsString]) -> Exit {
    let printer = printer_for_unparsed(words);
    if error.exit_code() == 0 || !printer.format().wants_json_errors() {
        return match error.print() {
            Ok(()) if error.exit_code() != 0 => Exit::Usage,
            Ok(()) => Exit::Done,
            Err(error) => Failure::from_output(&error).exit(),
        };
    }
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let message = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let tip = lines.find_map(|line| line.strip_prefix("tip: ")).map(str::to_owned);
    printer.failure(&Failure::usage(message).hint(tip.unwrap_or_else(|| "try `--help`".to_owned())));
    Exit::Usage
}
