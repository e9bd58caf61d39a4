//! Finding the answer in what an agent program prints.
//!
//! `output: claude-json` and its like name programs that print JSON: one object, or one line per event. Each
//! has a file of its own that knows which of them say something: the answer, the session, tokens and cost, and
//! what went wrong. What it does not know it passes over: programs add events with every release.
//!
//! Bytes in, findings out: nothing here reads a pipe, a file or a clock. `log_capture` feeds it with what it
//! has read, secrets masked; what the findings mean for the task is decided in `attempt::ending`.
//! Memory is bounded whatever is printed: by the longest line that is looked at and the longest answer.

mod claude;
mod codex;
mod events;
mod failure;
mod findings;
mod gemini;
mod kilo;
mod notice;
mod reader;
mod reset;

pub use findings::{ANSWER_BYTES_MAX, AnswerFindings, AnswerTrouble, LimitReset, UsageLimit};
pub use notice::FallbackNotice;
pub use reader::AnswerReader;
