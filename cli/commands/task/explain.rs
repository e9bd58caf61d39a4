//! `maestro task explain`: one screen on why a task is where it is.

use clap::Args;

use super::why::explain;
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::ids::find_task;
use crate::output::foreign::harmless;
use crate::output::format::Form;

/// Flags of `task explain`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro task explain last/deploy")]
pub(crate) struct ExplainArgs {
    /// `<run>.<index>`, `<run>/<step>` or `<run>/<step>[<item>]`; a run is its id, a prefix of it, or `last`
    id: String,
}

/// Explains it.
pub(crate) fn run(args: &ExplainArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let found = find_task(&store, &args.id).await?;
        let told = explain(&store, &found).await?;
        match context.printer.form() {
            Form::Table => {
                let mut text = format!("task `{}` ({}) {}: {}", told.id, told.step, told.phrase, told.why);
                for detail in &told.details {
                    text.push_str(&format!("\n  {detail}"));
                }
                if let Some(hint) = &told.hint {
                    text.push_str(&format!("\n\nhint: {hint}"));
                }
                // Messages come from agents: nothing of them may reach the terminal's own ears.
                let lines: Vec<String> = text.lines().map(harmless).collect();
                context.printer.lines(&lines.join("\n"))?;
            }
            Form::Name => context.printer.lines(&told.id)?,
            Form::Json | Form::Jsonl | Form::Yaml => context.printer.document(&told)?,
        }
        Ok(Exit::Done)
    })
}
