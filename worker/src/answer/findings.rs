//! What there is to find, the same for every program.

use std::time::Duration;

use jiff::{Timestamp, Zoned};
use maestro_model::model_use::ModelUse;
use serde_json::Value;

use super::reset::ResetHint;

/// Longest answer, bytes, as the longest result of plain text: of a longer one the end counts.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a program's output says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AnswerFindings {
    /// The answer; none unless the program said that it was done.
    pub answer: Option<String>,
    /// Session, tokens, cost.
    pub model_use: ModelUse,
    /// What went wrong, in the program's own words.
    pub trouble: Option<AnswerTrouble>,
    /// Events that were understood as JSON, whatever they said.
    pub events: u64,
}

impl AnswerFindings {
    /// Session, tokens and cost, if anything of them was told.
    pub fn told_use(&self) -> Option<Box<ModelUse>> {
        (!self.model_use.is_empty()).then(|| Box::new(self.model_use.clone()))
    }
}

/// A failure that a program tells of in its output, whatever its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerTrouble {
    /// The account may not use the model for now, or its money is spent: trying again at once is of no use.
    UsageLimit(UsageLimit),
    /// Anything else.
    Failed(String),
}

/// A usage limit that was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageLimit {
    /// What the program said.
    pub message: String,
    /// When it is lifted, if that was said.
    pub reset: Option<LimitReset>,
}

/// When a usage limit is lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitReset {
    /// The moment.
    pub at: Timestamp,
    /// From the program's end until then.
    pub wait: Duration,
}

/// A failure as a program's reader found it: when a limit is lifted may be said relative to now.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RawTrouble {
    Limit { message: String, resets: Option<ResetHint> },
    Failed(String),
}

impl RawTrouble {
    /// With times as moments. `now` is when the program ended, in the zone it showed its times in.
    pub(super) fn resolve(self, now: &Zoned) -> AnswerTrouble {
        match self {
            RawTrouble::Limit { message, resets } => {
                let reset = resets.and_then(|hint| hint.resolve(now)).map(|at| LimitReset {
                    at,
                    wait: at.duration_since(now.timestamp()).try_into().unwrap_or_default(),
                });
                AnswerTrouble::UsageLimit(UsageLimit { message, reset })
            }
            RawTrouble::Failed(message) => AnswerTrouble::Failed(message),
        }
    }
}

/// One program's way of printing.
pub(super) trait ProgramEvents: Send + Sync {
    /// Takes the next event: an object, whatever is in it.
    fn on_event(&mut self, event: &Value);

    /// All that was said, once nothing more comes.
    fn conclude(&mut self) -> RawFindings;
}

/// What a program's reader found.
#[derive(Debug, Default)]
pub(super) struct RawFindings {
    pub(super) answer: Option<String>,
    pub(super) model_use: ModelUse,
    pub(super) trouble: Option<RawTrouble>,
}

/// Text that grows and of which the end is kept.
#[derive(Debug, Clone, Default)]
pub(super) struct AnswerText(String);

impl AnswerText {
    pub(super) fn set(&mut self, text: &str) {
        self.0.clear();
        self.push(text);
    }

    pub(super) fn push(&mut self, text: &str) {
        let text = end_of(text, ANSWER_BYTES_MAX);
        if self.0.len() + text.len() > ANSWER_BYTES_MAX {
            let kept = end_of(&self.0, ANSWER_BYTES_MAX - text.len()).to_owned();
            self.0 = kept;
        }
        self.0.push_str(text);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.0)
    }
}

/// The last bytes of a text, at most so many, from a character on.
fn end_of(text: &str, bytes_max: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_answer_the_end_is_kept_however_it_came() {
        let whole = "€".repeat(ANSWER_BYTES_MAX / 2);
        let mut at_once = AnswerText::default();
        at_once.push(&whole);
        let mut in_pieces = AnswerText::default();
        for piece in whole.as_bytes().chunks(3 * 5_000) {
            in_pieces.push(str::from_utf8(piece).expect("whole characters"));
            assert!(in_pieces.0.len() <= ANSWER_BYTES_MAX);
        }
        assert_eq!(at_once.0.len(), ANSWER_BYTES_MAX / 3 * 3);
        assert_eq!(at_once.take(), in_pieces.take());
    }
}
