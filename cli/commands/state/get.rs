//! `maestro state get`: prints a shared value, or a task's result.

use clap::Args;
use hyper::Method;
use maestro_store::Store;
use maestro_worker::side_door::{ResultRecord, ValueRecord, state_path};
use serde::Serialize;
use serde_json::Value;

use super::entry::{StateEntry, check_key, no_value, value_text};
use super::road::StateRoad;
use crate::commands::task::entry::state_phrase;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::{find_task, task_of_result_key};
use crate::output::foreign::harmless_lines;
use crate::output::format::{Destination, PrintFormat};
use crate::output::printer::Printer;
use crate::side_door::{DoorPayload, SideDoorClient};

/// Flags of `state get`.
#[derive(Debug, Args)]
#[command(after_help = "Prints the bare value, also into a pipe; `--format json` prints the record.\n\n\
                        Example:\n  maestro state get task:last/build:result")]
pub(crate) struct StateGetArgs {
    /// The key; `task:<id>:result` is that task's result
    key: String,
}

/// Prints it.
pub(crate) fn run(args: &StateGetArgs, context: &CommandContext) -> Outcome {
    check_key(&args.key)?;
    context.block_on(0, async {
        let store = match StateRoad::open(context).await? {
            StateRoad::Cluster { store, .. } => store,
            StateRoad::Door(client) => return get_by_door(&client, &args.key, context).await,
        };
        if let Some(shared) = store.state(&args.key).await? {
            let entry = StateEntry::from(shared);
            print(&context.printer, &entry, &entry.value, &entry.key)?;
            return Ok(Exit::Done);
        }
        let Some(task) = task_of_result_key(&args.key) else { return Err(no_value(&args.key)) };
        let record = task_result(&store, &args.key, task).await?;
        print(&context.printer, &record, &record.value, &record.key)?;
        Ok(Exit::Done)
    })
}

/// The worker answers with a value, or with a result, which names its task and has no version.
async fn get_by_door(client: &SideDoorClient, key: &str, context: &CommandContext) -> Outcome {
    let found: Value = client.record(&Method::GET, &state_path(key), &DoorPayload::default()).await?;
    let senseless = |error| client.unanswered(&error);
    if task_of_result_key(key).is_some() && found.get("task").is_some() {
        let record: ResultRecord = serde_json::from_value(found).map_err(senseless)?;
        print(&context.printer, &record, &record.value, &record.key)?;
    } else {
        let record: ValueRecord = serde_json::from_value(found).map_err(senseless)?;
        let entry = StateEntry::from(record);
        print(&context.printer, &entry, &entry.value, &entry.key)?;
    }
    Ok(Exit::Done)
}

async fn task_result(store: &Store, key: &str, text: &str) -> Result<ResultRecord, Failure> {
    let task = find_task(store, text).await?.task;
    let output = store.outputs(&task.id.run, &[task.id.index]).await?.pop().flatten();
    match output.and_then(|output| output.outputs) {
        Some(outputs) => {
            Ok(ResultRecord { key: key.to_owned(), value: outputs.result, task: task.id.to_string() })
        }
        None => Err(Failure::not_found(format!(
            "task `{}` has no result: it {}",
            task.id,
            state_phrase(task.status)
        ))
        .hint("only a task that completed has one")),
    }
}

fn print<T: Serialize>(printer: &Printer, record: &T, value: &Value, key: &str) -> Result<(), Failure> {
    match printer.format() {
        PrintFormat::Json | PrintFormat::Jsonl | PrintFormat::Yaml => printer.document(record),
        PrintFormat::Name => printer.lines(key),
        _ => {
            let text = value_text(value);
            let text = match printer.destination() {
                Destination::Terminal => harmless_lines(&text),
                Destination::Pipe => text,
            };
            let line_break: &[u8] = if text.ends_with('\n') { b"" } else { b"\n" };
            printer.bytes(&[text.as_bytes(), line_break].concat())
        }
    }
}
