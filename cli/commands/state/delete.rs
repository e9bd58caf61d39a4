//! `maestro state delete`: removes a shared value.

use clap::Args;

use super::entry::{check_key, no_value};
use super::road::StateRoad;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::task_of_result_key;
use crate::output::foreign::harmless;
use crate::output::format::Form;

/// Flags of `state delete`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro state delete build_id")]
pub(crate) struct StateDeleteArgs {
    /// The key
    key: String,
}

/// Removes it.
pub(crate) fn run(args: &StateDeleteArgs, context: &CommandContext) -> Outcome {
    check_key(&args.key)?;
    context.block_on(0, async {
        if !StateRoad::open(context).await?.delete(&args.key).await? {
            if task_of_result_key(&args.key).is_some() {
                return Err(Failure::not_found(format!("there is no state `{}`", args.key))
                    .hint("a task's result is a part of its run and goes with it"));
            }
            return Err(no_value(&args.key));
        }
        let printer = &context.printer;
        match printer.form() {
            Form::Table => printer.lines(&harmless(&format!("`{}` is deleted", args.key)))?,
            Form::Name => printer.lines(&args.key)?,
            _ => printer.document(&serde_json::json!({ "key": args.key, "deleted": true }))?,
        }
        Ok(Exit::Done)
    })
}
