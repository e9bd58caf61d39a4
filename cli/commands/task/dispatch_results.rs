//! Following a dispatch to its end: results joined as one document, and the code of the first that failed.

use maestro_model::attempt::TaskOutputs;
use maestro_model::task::Reason;
use maestro_store::Store;
use maestro_store::runs::{RunRecord, StoredOutput, TaskView};
use serde::Serialize;
use serde_json::Value;

use crate::commands::{CommandContext, Outcome};
use crate::engine::Interruptions;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::FoundTask;
use crate::output::foreign::harmless_lines;
use crate::output::format::{Destination, Form};
use crate::output::moment::{as_optional_rfc3339, duration};
use crate::waiting::{AwaitedWork, wait_for_all};
use crate::work::{FoundWork, exit_of_task, first_bad};

use super::entry::{state_phrase, why};
use super::model_use_entry::ModelUseEntry;

/// What came of a dispatch.
#[derive(Debug, Serialize)]
struct ResultsDocument {
    id: String,
    run: String,
    /// `completed` if all completed, else how the first other one ended.
    status: &'static str,
    /// In the order of `--to`.
    results: Vec<TargetResult>,
}

/// What came of one target.
#[derive(Debug, Serialize)]
struct TargetResult {
    agent: String,
    id: String,
    status: &'static str,
    reason: Option<&'static str>,
    /// The agent's own code.
    exit_code: Option<i32>,
    /// The code it stands for here.
    exit: u8,
    message: Option<String>,
    result: Option<Value>,
    outputs: Value,
    #[serde(flatten)]
    model_use: ModelUseEntry,
    attempt: u32,
    #[serde(serialize_with = "as_optional_rfc3339")]
    started_at: Option<u64>,
    #[serde(serialize_with = "as_optional_rfc3339")]
    finished_at: Option<u64>,
}

/// Follows it, prints the results, ends with the first code that is not 0. Ctrl-C leaves it going.
pub(super) async fn follow(
    store: &Store,
    run: RunRecord,
    tasks: Vec<TaskView>,
    mut interruptions: Interruptions,
    context: &CommandContext,
) -> Outcome {
    let found = tasks.into_iter().map(|task| FoundTask { run: run.clone(), task });
    let mut awaited: Vec<AwaitedWork> =
        found.map(|found| AwaitedWork::new(FoundWork::Task(Box::new(found)))).collect();
    let id = match awaited.as_slice() {
        [only] => only.work.id(),
        _ => run.id.to_string(),
    };
    context.printer.detail(&format!("following `{id}`"));
    let several = awaited.len() > 1;
    let on_end = |one: &AwaitedWork| {
        if let (true, FoundWork::Task(found)) = (several, &one.work) {
            context.printer.note(&end_line(&found.task));
        }
    };
    let ended = tokio::select! {
        ended = wait_for_all(store, &mut awaited, None, context, on_end) => Some(ended?),
        () = interruptions.next() => None,
    };
    if ended.is_none() {
        context.printer.note(&format!(
            "`{id}` goes on: wait for it with `maestro task wait {id}`, look at it with `maestro task status {id}`, \
             end it with `maestro task cancel {id}`"
        ));
        return Ok(Exit::Cancelled);
    }
    let tasks: Vec<TaskView> = awaited.into_iter().flat_map(|one| one.tasks).collect();
    let document = document_of(store, &run, id, &tasks).await?;
    print(&document, context)?;
    Ok(first_bad(tasks.iter().filter_map(exit_of_task)))
}

/// `reviewer completed in 3.2s`.
fn end_line(task: &TaskView) -> String {
    let times = task.record.as_ref().and_then(|record| record.started_at_ms.zip(record.finished_at_ms));
    let took = times.map(|(from, to)| format!(" after {}", duration(to.saturating_sub(from))));
    format!("`{}` {}{}", task.own.step, state_phrase(task.status), took.unwrap_or_default())
}

async fn document_of(
    store: &Store,
    run: &RunRecord,
    id: String,
    tasks: &[TaskView],
) -> Result<ResultsDocument, Failure> {
    let indexes: Vec<u32> = tasks.iter().map(|task| task.id.index).collect();
    let outputs = store.outputs(&run.id, &indexes).await?;
    let results: Vec<TargetResult> =
        tasks.iter().zip(outputs).map(|(task, output)| result_of(task, output.unwrap_or_default())).collect();
    let status = results.iter().map(|one| one.status).find(|status| *status != "completed");
    Ok(ResultsDocument { id, run: run.id.to_string(), status: status.unwrap_or("completed"), results })
}

fn result_of(task: &TaskView, output: StoredOutput) -> TargetResult {
    let record = task.record.as_ref();
    let TaskOutputs { result, outputs } = output.outputs.clone().unwrap_or_default();
    TargetResult {
        agent: task.own.step.clone(),
        id: task.id.to_string(),
        status: task.status.word(),
        reason: record.and_then(|record| record.reason).map(Reason::word),
        exit_code: record.and_then(|record| record.exit_code),
        exit: exit_of_task(task).unwrap_or(Exit::Done).code(),
        message: output.message,
        result: output.outputs.is_some().then_some(result),
        outputs: Value::Object(outputs.into_iter().collect()),
        model_use: output.model_use.into(),
        attempt: record.map_or(0, |record| record.attempt.0),
        started_at: record.and_then(|record| record.started_at_ms),
        finished_at: record.and_then(|record| record.finished_at_ms),
    }
}

/// For people the results as text: of one target alone, of several behind a heading each.
fn print(document: &ResultsDocument, context: &CommandContext) -> Result<(), Failure> {
    let printer = &context.printer;
    match printer.form() {
        Form::Json | Form::Jsonl | Form::Yaml => return printer.document(document),
        Form::Name => return printer.lines(&document.id),
        Form::Table => {}
    }
    let several = document.results.len() > 1;
    let mut text = String::new();
    for one in &document.results {
        if several {
            let heading = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{heading}## {} ({})\n\n", one.agent, one.status));
        }
        match &one.result {
            Some(Value::String(result)) => text.push_str(result.trim_end_matches('\n')),
            Some(other) => text.push_str(&other.to_string()),
            None => {
                let why = why(one.reason, one.exit_code).unwrap_or_else(|| one.status.to_owned());
                let message = one.message.as_deref().map(|message| format!(": {message}"));
                let line = format!("`{}` {}{}", one.agent, why, message.unwrap_or_default());
                // What one agent alone failed with is no result.
                if several { text.push_str(&line) } else { printer.warn(&line) }
            }
        }
        if !text.is_empty() {
            text.push('\n');
        }
    }
    let text = match printer.destination() {
        Destination::Terminal => harmless_lines(&text),
        Destination::Pipe => text,
    };
    printer.lines(&text)
}
