//! Claude Code: `--output-format stream-json --verbose`, or `json`.
//!
//! The line of type `result` says it all and ends the answer; without it the output was cut off. A rejected
//! `rate_limit_event` before a failure is a usage limit, with the moment it is lifted. Tokens are those of
//! `modelUsage`, in which sub-agents and requests that were tried again are counted; `usage` is only the
//! main conversation's. What is read from a cache, or written to one, was read by the model: it is in `input`.

use maestro_model::model_use::{ModelTokens, ModelUse};
use serde_json::Value;

use super::failure::{speaks_of_a_limit, trouble_of};
use super::findings::{AnswerText, ProgramEvents, RawFindings, RawTrouble};
use super::reset::ResetHint;

#[derive(Default)]
pub(super) struct ClaudeEvents {
    session: Option<String>,
    answer: AnswerText,
    ended: Option<Ended>,
    /// Of a limit that turned a request away.
    limit: Option<Option<ResetHint>>,
    /// The last message that the program itself wrote in place of the model's.
    api_error: Option<String>,
    /// As far as single messages told, for an output that is cut off.
    so_far: ModelTokens,
    last_message: Option<String>,
}

/// What the line of type `result` said.
struct Ended {
    trouble: Option<String>,
    is_spent: bool,
    tokens: Option<ModelTokens>,
    cost_usd: Option<f64>,
}

impl ProgramEvents for ClaudeEvents {
    fn on_event(&mut self, event: &Value) {
        if let Some(session) = event["session_id"].as_str() {
            self.session = Some(session.to_owned());
        }
        match event["type"].as_str() {
            Some("result") => self.on_result(event),
            Some("assistant") => self.on_message(event),
            Some("rate_limit_event") => self.on_limit(&event["rate_limit_info"]),
            _ => {}
        }
    }

    fn conclude(&mut self) -> RawFindings {
        let session = self.session.take();
        let Some(ended) = self.ended.take() else {
            let tokens = Some(self.so_far).filter(|tokens| *tokens != ModelTokens::default());
            let trouble = self.api_error.take().map(|message| self.trouble(&message, false));
            let model_use = ModelUse { session, tokens, ..ModelUse::default() };
            return RawFindings { answer: None, model_use, trouble };
        };
        let trouble = ended.trouble.map(|message| self.trouble(&message, ended.is_spent));
        let model_use =
            ModelUse { session, tokens: ended.tokens, cost_usd: ended.cost_usd, ..ModelUse::default() };
        RawFindings { answer: Some(self.answer.take()), model_use, trouble }
    }
}

impl ClaudeEvents {
    fn on_limit(&mut self, info: &Value) {
        // With extra usage bought, a limit that is reached turns nothing away.
        if info["status"] == "rejected" && info["isUsingOverage"] != true {
            self.limit = Some(info["resetsAt"].as_f64().and_then(ResetHint::from_number));
        }
    }

    fn on_message(&mut self, event: &Value) {
        let message = &event["message"];
        if event["is_api_error_message"] == true || event["error"].is_string() {
            self.api_error = message["content"][0]["text"].as_str().map(str::to_owned);
            if event["api_error"] == "usage_limit_reached" {
                self.on_limit(&event["api_error_params"]["rate_limit_info"]);
            }
        }
        // One message comes in several lines, each with the tokens of the whole.
        let id = message["id"].as_str();
        if id.is_some() && self.last_message.as_deref() != id {
            self.last_message = id.map(str::to_owned);
            self.so_far = self.so_far.plus(tokens_of(&message["usage"], &USAGE_NAMES));
        }
    }

    fn on_result(&mut self, event: &Value) {
        let subtype = event["subtype"].as_str().unwrap_or("success");
        let said = event["result"].as_str().unwrap_or_default();
        let failed = event["is_error"] == true || subtype != "success";
        let trouble = failed.then(|| {
            let errors: Vec<&str> =
                event["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            match (said, errors.join("; ")) {
                ("", errors) if errors.is_empty() => format!("it ended with `{subtype}`"),
                ("", errors) => errors,
                (said, _) => said.to_owned(),
            }
        });
        let by_model = event["modelUsage"].as_object().filter(|models| !models.is_empty());
        let tokens = match by_model {
            Some(models) => models
                .values()
                .map(|model| tokens_of(model, &MODEL_USAGE_NAMES))
                .fold(ModelTokens::default(), ModelTokens::plus),
            None => tokens_of(&event["usage"], &USAGE_NAMES),
        };
        let is_told = by_model.is_some() || event["usage"].is_object();
        self.answer.set(said);
        self.ended = Some(Ended {
            trouble,
            is_spent: subtype == "error_max_budget_usd",
            tokens: is_told.then_some(tokens),
            cost_usd: event["total_cost_usd"].as_f64(),
        });
    }

    /// What a failure means: a limit that turned a request away is told apart from all else.
    fn trouble(&self, message: &str, is_spent: bool) -> RawTrouble {
        let in_words = ResetHint::from_words(message);
        match self.limit {
            Some(resets) => RawTrouble::Limit { message: message.to_owned(), resets: resets.or(in_words) },
            None if is_spent || speaks_of_a_limit(message) => {
                RawTrouble::Limit { message: message.to_owned(), resets: in_words }
            }
            None => trouble_of(message),
        }
    }
}

/// Names of input, cache writes, cache reads, output.
type TokenNames = [&'static str; 4];

const USAGE_NAMES: TokenNames =
    ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"];
const MODEL_USAGE_NAMES: TokenNames =
    ["inputTokens", "cacheCreationInputTokens", "cacheReadInputTokens", "outputTokens"];

fn tokens_of(usage: &Value, names: &TokenNames) -> ModelTokens {
    let [fresh, written, cached, output] = names.map(|name| usage[name].as_u64().unwrap_or(0));
    ModelTokens { input: fresh.saturating_add(written).saturating_add(cached), cached, output }
}
