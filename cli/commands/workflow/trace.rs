//! `maestro workflow trace`: what happened when in a run, as a file for a trace viewer.

use std::path::PathBuf;

use clap::Args;

use super::local_logs::LocalRun;
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::find_run;
use crate::output::moment::now_ms;
use crate::trace_file::{TraceSources, write_trace};

/// Flags of `workflow trace`.
#[derive(Debug, Args)]
#[command(
    after_help = "Chrome's trace format: open it at https://ui.perfetto.dev. A run with `--trace` has the \
                        phases of every attempt, prompts, results and shared state in it, at most 4 KiB of \
                        each; of any other run what the audit stream knows.\n\n\
                        Example:\n  maestro workflow trace last --output trace.json"
)]
pub(crate) struct RunTraceArgs {
    /// The run: its id, a prefix of it, or `last`
    run: String,
    /// Write it into this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Prints or writes it.
pub(crate) fn run(args: &RunTraceArgs, context: &CommandContext) -> Outcome {
    if let Some(local) = LocalRun::exactly(&args.run, context) {
        return print_kept(&local, args, context);
    }
    context.block_on(0, async {
        let found = async {
            let store = open_store(&context.settings()?).await?;
            let run = find_run(&store, &args.run).await?;
            Ok::<_, Failure>((store, run))
        };
        let (store, run) = match found.await {
            Ok(found) => found,
            Err(failure) => {
                let unknown = matches!(failure.exit(), Exit::NotFound | Exit::Unavailable);
                return match LocalRun::meant(&args.run, context).filter(|_| unknown) {
                    Some(local) => print_kept(&local, args, context),
                    None => Err(failure),
                };
            }
        };
        if !run.trace {
            context.printer.note(&format!(
                "run `{}` was not traced: phases, prompts and shared state are not known (`workflow run --trace`)",
                run.id
            ));
        }
        match &args.output {
            Some(path) => {
                write_trace(&store, run, path).await?;
                context.printer.note(&format!("written to `{}`", path.display()));
            }
            None => {
                let document = TraceSources::read(&store, run).await?.document(now_ms());
                context.printer.lines(&document.to_string())?;
            }
        }
        Ok(Exit::Done)
    })
}

/// A run that was `--local` left its trace beside its logs, if it was traced.
fn print_kept(local: &LocalRun, args: &RunTraceArgs, context: &CommandContext) -> Outcome {
    let path = local.trace_file();
    let text = std::fs::read_to_string(&path).map_err(|_| {
        Failure::not_found(format!("no trace was kept of the local run `{}`", args.run))
            .hint("run it with `--local --trace`")
    })?;
    match &args.output {
        Some(output) => {
            std::fs::write(output, text).map_err(|error| {
                Failure::usage(format!("cannot write the trace `{}`", output.display())).caused_by(&error)
            })?;
            context.printer.note(&format!("written to `{}`", output.display()));
        }
        None => context.printer.lines(&text)?,
    }
    Ok(Exit::Done)
}
