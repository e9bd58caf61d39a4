//! What becomes of a granted task: whether it runs, and with which words.
//!
//! Pure: everything it reads was brought along by the claim. Launching is `attempt`'s business.

use indexmap::IndexMap;
use maestro_model::agent_type::NOOP;
use maestro_model::attempt::{AttemptOutcome, AttemptReport};
use maestro_model::plan::SharedSpec;
use maestro_model::retry::{HOST_FAILURES_MAX, come_back_delay};
use maestro_model::task::Reason;
use maestro_model::template::{
    Expression, RenderError, Root, Scope, Template, render_text_map, render_value_map,
};
use maestro_store::brought::{ReadyGrant, scope_of};
use maestro_store::runs::StoredOutput;
use maestro_store::state::STATE_VALUE_BYTES_MAX;
use maestro_store::step::{Ending, Grant, PublishedValue, StepReport};
use serde_json::Value;

use crate::held::AttemptKey;

/// Tasks that wait for the same usage limit come back spread over this time, ms.
const RESET_SPREAD_MS: u64 = 30_000;

/// What to do with a grant.
#[derive(Debug)]
pub enum Decision {
    /// It is over without anything being launched.
    Report(Box<AttemptReport>),
    /// An agent is to be launched.
    Launch(Box<Rendered>),
}

impl Decision {
    fn report(report: AttemptReport) -> Decision {
        Decision::Report(Box::new(report))
    }
}

/// The words of a task, rendered as far as they do not depend on its workspace.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// What it was made from.
    pub ready: ReadyGrant,
    /// The prompt.
    pub prompt: String,
    /// What templates read; `workspace` and `prompt` are still to be added.
    pub scope: Scope,
    /// The step's own environment.
    pub env: IndexMap<String, String>,
}

/// Decides `when` and renders the prompt.
pub fn decide(ready: ReadyGrant, worker: &str) -> Decision {
    let noop = ready.agent.slug.as_str() == NOOP;
    let prompt_text = prompt_template(&ready).to_owned();
    let shared = &ready.shared;
    let plain = shared.when.is_none() && shared.publish.is_empty() && shared.env.is_empty();
    if noop && plain && maestro_model::template::is_plain_text(&prompt_text) {
        return Decision::report(completed_noop());
    }
    let scope = scope_of(&ready, worker);
    match render(ready, prompt_text, scope) {
        Ok(Decision::Launch(rendered)) if noop => Decision::report(finish_noop(&rendered)),
        Ok(decision) => decision,
        Err(error) => Decision::report(config_failure(&error)),
    }
}

fn completed_noop() -> AttemptReport {
    AttemptReport::plain(AttemptOutcome::Completed)
}

fn finish_noop(rendered: &Rendered) -> AttemptReport {
    with_publish(completed_noop(), &rendered.ready.shared, &rendered.scope)
}

fn prompt_template(ready: &ReadyGrant) -> &str {
    ready.grant.own.prompt.as_deref().or(ready.shared.prompt.as_deref()).unwrap_or_default()
}

fn render(ready: ReadyGrant, prompt_text: String, scope: Scope) -> Result<Decision, RenderError> {
    // The `when` of a `foreach` was decided before it was expanded.
    let is_item = ready.grant.own.number.is_some();
    if let Some(when) = ready.shared.when.as_deref().filter(|_| !is_item) {
        let expression = Expression::parse_bare_or_marked(when)?;
        if !expression.evaluate_truth(&scope)? {
            return Ok(Decision::report(AttemptReport::plain(AttemptOutcome::Skipped)));
        }
    }
    let prompt = Template::parse(&prompt_text)?.render_text(&scope)?;
    let env = render_text_map(&ready.shared.env, &scope)?;
    Ok(Decision::Launch(Box::new(Rendered { ready, prompt, scope, env })))
}

/// A failure that trying again does not help.
pub fn config_failure(error: &RenderError) -> AttemptReport {
    let message = match error.hint() {
        Some(hint) => format!("{error} (hint: {hint})"),
        None => error.to_string(),
    };
    AttemptReport::failed(Reason::Config, None, message)
}

/// Adds what the step publishes to a completed report, or turns it into a failure if that cannot be rendered.
pub fn with_publish(report: AttemptReport, shared: &SharedSpec, scope: &Scope) -> AttemptReport {
    if report.outcome != AttemptOutcome::Completed || shared.publish.is_empty() {
        return report;
    }
    let outputs = report.outputs.as_ref().map(|outputs| outputs.outputs.clone()).unwrap_or_default();
    let scope = scope.clone().with(Root::Outputs, Value::Object(outputs.into_iter().collect()));
    let published = match render_value_map(&shared.publish, &scope) {
        Ok(published) => published,
        Err(error) => {
            let model_use = report.model_use;
            return AttemptReport { model_use, ..config_failure(&error) };
        }
    };
    for (key, value) in &published {
        let size = match value {
            Value::String(text) => text.len(),
            other => other.to_string().len(),
        };
        if size > STATE_VALUE_BYTES_MAX {
            let message = format!(
                "the value published as `{key}` has {size} bytes; the limit is {STATE_VALUE_BYTES_MAX}"
            );
            let model_use = report.model_use;
            return AttemptReport { model_use, ..AttemptReport::failed(Reason::Config, None, message) };
        }
    }
    AttemptReport { publish: published, ..report }
}

/// Counters of a grant that decide what follows a failure.
#[derive(Debug, Clone, Copy)]
pub struct Tries {
    /// Failures before this attempt.
    pub failures: u32,
    /// How often the agent had asked to be called again.
    pub come_backs: u32,
    /// How often a host had failed the task.
    pub host_failures: u32,
}

impl Tries {
    /// The counters of a grant.
    pub fn of(grant: &Grant) -> Tries {
        Tries { failures: grant.failures, come_backs: grant.come_backs, host_failures: grant.host_failures }
    }
}

/// What is asked of the store for an attempt that ended. `random` lies in 0..1.
pub fn step_report(
    (task, attempt): &AttemptKey,
    tries: Tries,
    shared: Option<&SharedSpec>,
    report: AttemptReport,
    random: f64,
) -> StepReport {
    let mut message = report.message;
    let ending = match report.outcome {
        AttemptOutcome::Completed => Ending::Completed { exit_code: Some(0) },
        AttemptOutcome::Skipped => Ending::Skipped,
        AttemptOutcome::Cancelled => Ending::Cancelled,
        AttemptOutcome::Returned => Ending::Returned { host_failed: false },
        AttemptOutcome::ComeBack => match come_back_delay(tries.come_backs + 1) {
            Some(delay_ms) => Ending::ComeBack { delay_ms },
            None => {
                message = Some(format!("the agent asked {} times to be called again", tries.come_backs + 1));
                Ending::Failed { reason: Reason::Exit, exit_code: Some(75), retry_in_ms: None }
            }
        },
        AttemptOutcome::Failed { reason: Reason::Infra, .. } if tries.host_failures < HOST_FAILURES_MAX => {
            Ending::Returned { host_failed: true }
        }
        AttemptOutcome::Failed { reason, exit_code } => {
            let failures = tries.failures + 1;
            let retry =
                shared.and_then(|shared| shared.retry.next_delay(reason, exit_code, failures, random));
            let not_before = report.not_before_ms.map(|wait| after_reset(wait, random));
            let retry = retry.map(|delay_ms| not_before.map_or(delay_ms, |wait_ms| delay_ms.max(wait_ms)));
            Ending::Failed { reason, exit_code, retry_in_ms: retry }
        }
    };
    let message = message.filter(|_| report.outputs.is_none());
    let output = match (report.outputs, message, report.model_use) {
        (None, None, None) => String::new(),
        (outputs, message, model_use) => {
            let model_use = model_use.map(|used| *used);
            to_json(&StoredOutput { outputs, message, model_use })
        }
    };
    let publish = report.publish.into_iter().map(|(key, value)| published(key, value)).collect();
    StepReport { task: task.clone(), attempt: *attempt, ending, output, publish }
}

/// A little later than a limit is lifted, so that not all who wait for it come at once.
fn after_reset(wait_ms: u64, random: f64) -> u64 {
    wait_ms.saturating_add((RESET_SPREAD_MS as f64 * random.clamp(0.0, 1.0)) as u64)
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("outputs are plain data")
}

fn published(key: String, value: Value) -> PublishedValue {
    match value {
        Value::String(text) => PublishedValue { key, value: text, json: false },
        other => PublishedValue { key, value: other.to_string(), json: true },
    }
}

#[cfg(test)]
mod tests;
