//! What a `foreach` becomes when its turn has come: items, a skip, or a failure.
//!
//! Pure: the claim brought everything along. `service` tells the store.

use maestro_model::plan::{SharedSpec, TASKS_PER_RUN_MAX, WorkspaceChoice};
use maestro_model::task::Reason;
use maestro_model::template::{Expression, RenderError};
use maestro_store::brought::{ReadyGrant, scope_of};
use maestro_store::encode::expanded_item;
use maestro_store::runs::StoredOutput;
use maestro_store::step::{Ending, StepReport};

/// What a `foreach` becomes.
#[derive(Debug, PartialEq)]
pub enum ExpansionPlan {
    /// Items, as they are stored; none at all completes the step.
    Items(Vec<String>),
    /// The step is over.
    Report(StepReport),
}

/// Decides `when`, once and without an item, and works out the list.
pub fn expand(ready: &ReadyGrant, handler: bool) -> ExpansionPlan {
    match items_of(ready, handler) {
        Ok(Some(items)) => ExpansionPlan::Items(items),
        Ok(None) => ExpansionPlan::Report(report(ready, Ending::Skipped, String::new())),
        Err(error) => {
            let message = match error.hint() {
                Some(hint) => format!("{error} (hint: {hint})"),
                None => error.to_string(),
            };
            ExpansionPlan::Report(config_failure(ready, message))
        }
    }
}

/// The failure of a step that would make the run too large.
pub fn too_many(ready: &ReadyGrant, items: usize, tasks: u32) -> StepReport {
    let message = format!(
        "`foreach` has {items} items and the run has {tasks} tasks already; the limit is {TASKS_PER_RUN_MAX}"
    );
    config_failure(ready, message)
}

fn config_failure(ready: &ReadyGrant, message: String) -> StepReport {
    let ending = Ending::Failed { reason: Reason::Config, exit_code: None, retry_in_ms: None };
    let output = StoredOutput::of_message(message);
    report(ready, ending, serde_json::to_string(&output).expect("a message is plain data"))
}

fn report(ready: &ReadyGrant, ending: Ending, output: String) -> StepReport {
    StepReport {
        task: ready.grant.task.clone(),
        attempt: ready.grant.attempt,
        ending,
        output,
        publish: Vec::new(),
    }
}

fn items_of(ready: &ReadyGrant, handler: bool) -> Result<Option<Vec<String>>, RenderError> {
    // A coordinator has no name of a worker; `env` holds nothing else.
    let scope = scope_of(ready, "");
    if let Some(when) = &ready.shared.when
        && !Expression::parse_bare_or_marked(when)?.evaluate_truth(&scope)?
    {
        return Ok(None);
    }
    let text = ready.grant.own.list.as_deref().unwrap_or("[]");
    // A list that was written out is stored as JSON, everything else is an expression.
    let list = match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Ok(list) => list,
        Err(_) => Expression::parse_bare_or_marked(text)?.evaluate_list(&scope)?,
    };
    let flags = item_flags(&ready.shared, handler);
    let group = ready.grant.task.index;
    let step = &ready.grant.own.step;
    let items = list.into_iter().enumerate();
    let stored = items
        .map(|(number, item)| expanded_item(group, ready.grant.shared, &flags, step, number as u32, item));
    Ok(Some(stored.collect()))
}

fn item_flags(shared: &SharedSpec, handler: bool) -> String {
    let bound = if shared.workspace == WorkspaceChoice::Run { "b" } else { "" };
    let handler = if handler { "H" } else { "" };
    let assigned = if shared.assigned.is_some() { "i" } else { "" };
    format!("{handler}{bound}{assigned}")
}
