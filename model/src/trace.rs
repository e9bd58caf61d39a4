//! What a worker notes of an attempt in a run that is traced.
//!
//! Phases are counted from the moment the worker took the attempt up, by its own monotonic clock; where
//! they lie in time is told by Redis' clock, when the note is written. How a trace is drawn is the
//! command's business.

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, TaskId};

/// Most bytes kept of a prompt, a result or a value.
pub const TRACED_BYTES_MAX: usize = 4096;
/// Most reads, and most writes, kept of one attempt.
pub const TRACED_VALUES_MAX: usize = 64;
/// Version of the note.
pub const TRACE_VERSION: u8 = 1;

/// What is known of one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptTrace {
    /// `TRACE_VERSION`.
    pub v: u8,
    /// The task.
    pub task: TaskId,
    /// Which try of it.
    pub attempt: Attempt,
    /// The worker's name.
    pub worker: String,
    /// When what was done.
    pub phases: TracePhases,
    /// The prompt as the agent got it.
    pub prompt: String,
    /// The result, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// What went wrong, if something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Shared state that its templates read, and its agent through the side door.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<TracedValue>,
    /// Shared state that its agent wrote through the side door, and its report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<TracedValue>,
}

/// Times since the worker took the attempt up, microseconds. What was not reached is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracePhases {
    /// The workspace was ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_us: Option<u64>,
    /// The agent's process had started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched_us: Option<u64>,
    /// Nothing of the agent was left.
    pub ended_us: u64,
}

/// A key of shared state and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedValue {
    /// The key.
    pub key: String,
    /// The value as text, cut; none = there was none, or it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// When the agent did it, as the phases; none = with the claim, or with the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_us: Option<u64>,
}

/// A text cut to what a trace keeps, with `…` where something is missing.
pub fn traced_text(text: &str) -> String {
    if text.len() <= TRACED_BYTES_MAX {
        return text.to_owned();
    }
    let mut end = TRACED_BYTES_MAX - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traced_text_keeps_to_its_limit_and_its_letters() {
        assert_eq!(traced_text("short"), "short");
        for letters in ["x", "é", "日", "😀"] {
            let cut = traced_text(&letters.repeat(TRACED_BYTES_MAX + 1));
            assert!(cut.len() <= TRACED_BYTES_MAX && cut.ends_with('…'), "{letters}: {}", cut.len());
        }
    }
}
