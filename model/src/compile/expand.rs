//! Which `foreach` can be expanded now, and into what.
//!
//! A list that is known and a `when` that is certainly true make a group with its items. Everything
//! else waits for its turn: also a `when` that is certainly false, because a step is skipped at its
//! turn and not before, and what lies downstream learns of it then.

use serde_json::Value;

use super::inputs::{Given, reads_only_inputs};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::template::{Expression, RenderError, render_value};
use crate::template_text::TemplateText;
use crate::workflow::{ForeachList, Step, Workflow};

/// What a step becomes.
pub(super) enum StepShape {
    /// A task.
    Single,
    /// A group, with the items it waits for.
    Group(Vec<Value>),
    /// An expansion by a coordinator: the expression, or the list as JSON.
    Expand(String),
    /// A snapshot by a coordinator, with its label.
    Snapshot(String),
}

/// Decides for one step; an error is added to the problems.
pub(super) fn shape(
    workflow: &Workflow,
    step: &Step,
    given: &Given,
    problems: &mut Diagnostics,
) -> Option<StepShape> {
    if let Some(label) = &step.makes_snapshot {
        return Some(StepShape::Snapshot(label.clone()));
    }
    let Some(list) = &step.foreach else {
        return Some(StepShape::Single);
    };
    let now = step.when.as_ref().is_none_or(|when| given.decide(when) == Some(true));
    let outcome = match list {
        ForeachList::Literal { items, .. } => {
            let rendered: Result<Vec<Value>, RenderError> =
                items.iter().map(|item| render_value(item, given.scope())).collect();
            rendered.map(|items| match now {
                true => StepShape::Group(items),
                false => StepShape::Expand(Value::Array(items).to_string()),
            })
        }
        ForeachList::Expression(text) => expression(text, given, now),
    };
    outcome.map_err(|error| problems.push(refuse(workflow, list.place(), &error))).ok()
}

fn expression(text: &TemplateText, given: &Given, now: bool) -> Result<StepShape, RenderError> {
    let expression = Expression::parse_bare_or_marked(text.text())?;
    if !now || !reads_only_inputs(text) {
        return Ok(StepShape::Expand(expression.source().to_owned()));
    }
    expression.evaluate_list(given.scope()).map(StepShape::Group)
}

fn refuse(workflow: &Workflow, place: std::ops::Range<usize>, error: &RenderError) -> Diagnostic {
    let problem = workflow.source.error(place, format!("`foreach` cannot be expanded: {error}"));
    match error.hint() {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}
