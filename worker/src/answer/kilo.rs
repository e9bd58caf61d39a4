//! Kilo: `run --format json`, one event a line.
//!
//! The model works in steps. The text of the last one is the answer, once `step_finish` has said that it is
//! done and not about to use a tool. Tokens and cost are told for each step and added up; what a step read
//! from a cache, or wrote to one, is told apart from its input and counted with it here.
//! An error carries the provider's answer whole: its headers and body may say when a limit is lifted.

use maestro_model::model_use::{ModelTokens, ModelUse};
use serde_json::Value;

use super::failure::{is_long, plain_message, reset_in_json, speaks_of_a_limit, trouble_of};
use super::findings::{AnswerText, ProgramEvents, RawFindings, RawTrouble};
use super::reset::ResetHint;

/// Payment required.
const STATUS_UNPAID: u64 = 402;
/// Too many requests.
const STATUS_THROTTLED: u64 = 429;

#[derive(Default)]
pub(super) struct KiloEvents {
    session: Option<String>,
    answer: AnswerText,
    is_complete: bool,
    tokens: Option<ModelTokens>,
    cost_usd: Option<f64>,
    trouble: Option<RawTrouble>,
}

impl ProgramEvents for KiloEvents {
    fn on_event(&mut self, event: &Value) {
        if let Some(session) = event["sessionID"].as_str() {
            self.session = Some(session.to_owned());
        }
        let part = &event["part"];
        match event["type"].as_str() {
            Some("step_start") => {
                self.is_complete = false;
                // An error that was tried again is over once the model answers.
                self.trouble = None;
                self.answer.set("");
            }
            Some("text") => {
                if !self.answer.is_empty() {
                    self.answer.push("\n");
                }
                self.answer.push(part["text"].as_str().unwrap_or_default());
            }
            Some("step_finish") => {
                self.is_complete = part["reason"] != "tool-calls" && !self.answer.is_empty();
                self.add_use(part);
            }
            Some("error") => self.trouble = Some(trouble_in(&event["error"])),
            _ => {}
        }
    }

    fn conclude(&mut self) -> RawFindings {
        RawFindings {
            answer: self.is_complete.then(|| self.answer.take()),
            model_use: ModelUse {
                session: self.session.take(),
                tokens: self.tokens,
                cost_usd: self.cost_usd,
                ..ModelUse::default()
            },
            trouble: self.trouble.take(),
        }
    }
}

impl KiloEvents {
    fn add_use(&mut self, part: &Value) {
        let told = &part["tokens"];
        if told.is_object() {
            let number = |value: &Value| value.as_u64().unwrap_or(0);
            let (cached, written) = (number(&told["cache"]["read"]), number(&told["cache"]["write"]));
            let step = ModelTokens {
                input: number(&told["input"]).saturating_add(cached).saturating_add(written),
                cached,
                output: number(&told["output"]).saturating_add(number(&told["reasoning"])),
            };
            self.tokens = Some(self.tokens.unwrap_or_default().plus(step));
        }
        if let Some(cost) = part["cost"].as_f64() {
            self.cost_usd = Some(self.cost_usd.unwrap_or(0.0) + cost);
        }
    }
}

/// An error is a sentence, or an object with the provider's answer in it.
fn trouble_in(error: &Value) -> RawTrouble {
    if let Some(text) = error.as_str() {
        return trouble_of(text);
    }
    let data = &error["data"];
    let name = error["name"].as_str().unwrap_or("an error without a name");
    let message = plain_message(data["message"].as_str().unwrap_or(name));
    let body = data["responseBody"].as_str().unwrap_or_default();
    let resets = reset_in_json(body)
        .or_else(|| waiting_time(&data["responseHeaders"]))
        .or_else(|| ResetHint::from_words(&message));
    let is_limit = match data["statusCode"].as_u64() {
        Some(STATUS_UNPAID) => true,
        Some(STATUS_THROTTLED) => resets.is_some() || speaks_of_a_limit(&message) || speaks_of_a_limit(body),
        _ => speaks_of_a_limit(&message),
    };
    if is_limit { RawTrouble::Limit { message, resets } } else { RawTrouble::Failed(message) }
}

/// `retry-after`, if it is more than a pause for breath.
fn waiting_time(headers: &Value) -> Option<ResetHint> {
    let seconds: f64 = headers["retry-after"].as_str()?.parse().ok()?;
    is_long(seconds).then_some(ResetHint::In(seconds))
}
