//! Gemini: `--output-format stream-json`, or `json`.
//!
//! As a stream the answer comes in pieces of text; what the model said before it used a tool belongs to the
//! work and not to the answer. `result` ends it and brings the tokens of all models together. As one object,
//! `response` is the answer and `stats.models` has the tokens of each. Gemini tells no cost.
//! A daily quota that is used up is told without the moment it returns.

use maestro_model::model_use::{ModelTokens, ModelUse};
use serde_json::Value;

use super::failure::trouble_of;
use super::findings::{AnswerText, ProgramEvents, RawFindings};

#[derive(Default)]
pub(super) struct GeminiEvents {
    session: Option<String>,
    answer: AnswerText,
    /// A tool was used since the last piece of text: the next one begins anew.
    begins_anew: bool,
    is_complete: bool,
    tokens: Option<ModelTokens>,
    failed: Option<String>,
    last_error: Option<String>,
}

impl ProgramEvents for GeminiEvents {
    fn on_event(&mut self, event: &Value) {
        if let Some(session) = event["session_id"].as_str() {
            self.session = Some(session.to_owned());
        }
        match event["type"].as_str() {
            Some("message") if event["role"] == "assistant" => self.on_text(event),
            Some("tool_use" | "tool_result") => self.begins_anew = true,
            Some("error") if event["severity"] != "warning" => self.last_error = text_of(event),
            Some("result") => self.on_result(event),
            Some(_) => {}
            // The whole output in one object has no type.
            None if event["response"].is_string() || event["error"].is_object() => self.on_document(event),
            None => {}
        }
    }

    fn conclude(&mut self) -> RawFindings {
        let trouble = self.failed.take().or_else(|| self.last_error.take().filter(|_| !self.is_complete));
        let model_use = ModelUse { session: self.session.take(), tokens: self.tokens, ..ModelUse::default() };
        RawFindings {
            answer: self.is_complete.then(|| self.answer.take()),
            model_use,
            trouble: trouble.map(|message| trouble_of(&message)),
        }
    }
}

impl GeminiEvents {
    fn on_text(&mut self, event: &Value) {
        let text = event["content"].as_str().unwrap_or_default();
        if self.begins_anew && !text.is_empty() {
            self.begins_anew = false;
            self.answer.set("");
        }
        if event["delta"] == true {
            self.answer.push(text);
        } else {
            self.answer.set(text);
        }
    }

    fn on_result(&mut self, event: &Value) {
        let stats = &event["stats"];
        if stats.is_object() {
            let number = |name: &str| stats[name].as_u64().unwrap_or(0);
            let (input, cached, total) = (number("input_tokens"), number("cached"), number("total_tokens"));
            // Thoughts are in the total alone.
            let output = number("output_tokens").max(total.saturating_sub(input));
            self.tokens = Some(ModelTokens { input, cached, output });
        }
        if event["status"] == "error" || event["error"].is_object() {
            self.failed =
                Some(text_of(&event["error"]).unwrap_or_else(|| "it ended with an error".to_owned()));
        } else {
            self.is_complete = true;
        }
    }

    fn on_document(&mut self, event: &Value) {
        self.tokens = event["stats"]["models"].as_object().map(|models| {
            let of_model = |model: &Value| {
                let number = |name: &str| model["tokens"][name].as_u64().unwrap_or(0);
                let output = number("candidates").saturating_add(number("thoughts"));
                ModelTokens { input: number("prompt"), cached: number("cached"), output }
            };
            models.values().map(of_model).fold(ModelTokens::default(), ModelTokens::plus)
        });
        if event["error"].is_object() {
            self.failed =
                Some(text_of(&event["error"]).unwrap_or_else(|| "it ended with an error".to_owned()));
            return;
        }
        self.answer.set(event["response"].as_str().unwrap_or_default());
        self.is_complete = true;
    }
}

fn text_of(error: &Value) -> Option<String> {
    error["message"].as_str().map(str::to_owned)
}
