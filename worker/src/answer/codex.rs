//! Codex: `exec --json`, one event a line.
//!
//! The answer is the last `agent_message` before `turn.completed`, which brings the tokens of the whole turn,
//! those from a cache included. `turn.failed` is the end of one that failed. An `error` by itself may be a
//! connection that was made again, and counts only if nothing better follows. Codex tells no cost.

use maestro_model::model_use::{ModelTokens, ModelUse};
use serde_json::Value;

use super::failure::trouble_of;
use super::findings::{AnswerText, ProgramEvents, RawFindings};

#[derive(Default)]
pub(super) struct CodexEvents {
    thread: Option<String>,
    answer: AnswerText,
    tokens: Option<ModelTokens>,
    is_complete: bool,
    failed: Option<String>,
    last_error: Option<String>,
}

impl ProgramEvents for CodexEvents {
    fn on_event(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("thread.started") => self.thread = event["thread_id"].as_str().map(str::to_owned),
            Some("turn.started") => self.is_complete = false,
            Some("item.completed") if event["item"]["type"] == "agent_message" => {
                self.answer.set(event["item"]["text"].as_str().unwrap_or_default());
            }
            Some("turn.completed") => {
                self.is_complete = true;
                (self.failed, self.last_error) = (None, None);
                self.tokens = tokens_of(&event["usage"]).or(self.tokens);
            }
            Some("turn.failed") => {
                self.tokens = tokens_of(&event["usage"]).or(self.tokens);
                self.failed = Some(text_of(&event["error"]).unwrap_or_else(|| "the turn failed".to_owned()));
            }
            Some("error") => self.last_error = text_of(event),
            _ => {}
        }
    }

    fn conclude(&mut self) -> RawFindings {
        let trouble = self.failed.take().or_else(|| self.last_error.take());
        let model_use = ModelUse { session: self.thread.take(), tokens: self.tokens, ..ModelUse::default() };
        RawFindings {
            answer: self.is_complete.then(|| self.answer.take()),
            model_use,
            trouble: trouble.map(|message| trouble_of(&message)),
        }
    }
}

fn text_of(error: &Value) -> Option<String> {
    error["message"].as_str().or_else(|| error.as_str()).map(str::to_owned)
}

fn tokens_of(usage: &Value) -> Option<ModelTokens> {
    let number = |name: &str| usage[name].as_u64().unwrap_or(0);
    usage.is_object().then(|| ModelTokens {
        input: number("input_tokens"),
        cached: number("cached_input_tokens"),
        output: number("output_tokens"),
    })
}
