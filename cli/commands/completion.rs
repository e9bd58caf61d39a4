//! `maestro completion`: a script that lets a shell complete commands and flags.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{CommandContext, Outcome};
use crate::args::CommandLine;
use crate::exit::Exit;

/// Flags of `completion`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro completion bash > /etc/bash_completion.d/maestro")]
pub(crate) struct CompletionArgs {
    /// The shell that will read it
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionArgs, context: &CommandContext) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut CommandLine::command(), "maestro", &mut script);
    context.printer.bytes(&script)?;
    Ok(Exit::Done)
}
