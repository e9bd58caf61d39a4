//! `maestro workflow delete`: removes a stored workflow.

use clap::Args;
use maestro_model::ids::WorkflowName;

use super::show::no_such_workflow;
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::output::format::Form;

/// Flags of `workflow delete`.
#[derive(Debug, Args)]
#[command(after_help = "Runs keep the definition they were submitted with and go on.\n\n\
                        Example:\n  maestro workflow delete hello")]
pub(crate) struct DeleteWorkflowArgs {
    /// The name it is stored under
    name: WorkflowName,
}

/// Removes it.
pub(crate) fn run(args: &DeleteWorkflowArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        if !store.delete_definition(&args.name).await? {
            return Err(no_such_workflow(&store, &args.name).await);
        }
        let printer = &context.printer;
        match printer.form() {
            Form::Table => printer.lines(&format!("workflow `{}` is deleted", args.name))?,
            Form::Name => printer.lines(args.name.as_str())?,
            _ => printer.document(&serde_json::json!({ "name": args.name, "deleted": true }))?,
        }
        Ok(Exit::Done)
    })
}
