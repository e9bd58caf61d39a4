//! How one try of a task ended, and what follows from it.
//!
//! The worker decides with these types and the store records what it was told, after checking that
//! the attempt still speaks for its task. Retry rules are in `retry`.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model_use::ModelUse;
use crate::task::Reason;

/// How an attempt ended, as its worker saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum AttemptOutcome {
    /// The agent ended with 0 and its outputs could be read.
    Completed,
    /// `when` was false: the task passes on as skipped.
    Skipped,
    /// The agent or its surroundings failed.
    Failed {
        /// Why.
        reason: Reason,
        /// The agent's own exit code, or 128 + n if signal n ended it; none if it never ran to an end of its own.
        exit_code: Option<i32>,
    },
    /// The agent asked to be called again later (exit code 75).
    ComeBack,
    /// It was ended because the task is being cancelled.
    Cancelled,
    /// It never started, or was ended by a drain: nothing is counted against the task.
    Returned,
}

/// All that an attempt leaves behind in Redis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptReport {
    /// How it ended.
    #[serde(flatten)]
    pub outcome: AttemptOutcome,
    /// One line for people: the error file's text, or what went wrong (at most 2 KiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What later steps may read; only of a completed attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<TaskOutputs>,
    /// Shared state to be written with the report; only of a completed attempt.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub publish: IndexMap<String, Value>,
    /// What its program said it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_use: Option<Box<ModelUse>>,
    /// Trying again earlier is of no use, ms from its end: a usage limit is lifted then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_ms: Option<u64>,
}

impl AttemptReport {
    /// A report that says only how it ended.
    pub fn plain(outcome: AttemptOutcome) -> AttemptReport {
        AttemptReport {
            outcome,
            message: None,
            outputs: None,
            publish: IndexMap::new(),
            model_use: None,
            not_before_ms: None,
        }
    }

    /// A failure with its reason and a line for people.
    pub fn failed(reason: Reason, exit_code: Option<i32>, message: impl Into<String>) -> AttemptReport {
        let outcome = AttemptOutcome::Failed { reason, exit_code };
        AttemptReport { message: Some(message.into()), ..AttemptReport::plain(outcome) }
    }
}

/// What a finished step hands on: `steps.<id>.result` and `steps.<id>.outputs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskOutputs {
    /// The last 64 KiB of standard output, or the answer an adapter found.
    pub result: Value,
    /// The pairs of the output file.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub outputs: IndexMap<String, Value>,
}
