//! What is said through the side door: paths, records and errors as JSON, for both ends.
//!
//! Fields are only ever added. The records are those that `maestro state … --format json` prints.

use hyper::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The list of shared values; below it each of them by its key.
pub const STATE_PATH: &str = "/v1/state";
/// Changes of shared values, a line each, as they happen.
pub const WATCH_PATH: &str = "/v1/watch";
/// Who asks.
pub const TASK_PATH: &str = "/v1/task";

/// What stands for itself in a path.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// The path of a shared value.
pub fn state_path(key: &str) -> String {
    format!("{STATE_PATH}/{}", query_text(key))
}

/// A text as it stands in a path or as a value in a query.
pub fn query_text(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}

/// A shared value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValueRecord {
    /// Its key.
    pub key: String,
    /// Text, or JSON.
    pub value: Value,
    /// Grows with every write.
    pub version: u64,
    /// Time it still lives, in seconds; null = stays.
    pub ttl: Option<f64>,
}

/// A task's result, read under the name `task:<id>:result`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// The name it was asked for.
    pub key: String,
    /// The result.
    pub value: Value,
    /// The task's id.
    pub task: String,
}

/// What a write came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenRecord {
    /// The key.
    pub key: String,
    /// The version it has now.
    pub version: u64,
}

/// A portion of a list, by key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListPage {
    /// The values.
    pub items: Vec<ValueRecord>,
    /// What to ask for with `after=` for the next portion; null at the end.
    pub next: Option<String>,
}

/// A change of a shared value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeRecord {
    /// When, RFC 3339 UTC.
    pub at: String,
    /// `set` or `deleted`.
    pub event: String,
    /// The key.
    pub key: String,
    /// The version it has now; null if deleted.
    pub version: Option<u64>,
    /// The value it has now; null if deleted.
    pub value: Option<Value>,
    /// Who did it: `<task>.<attempt>`, or `cli`.
    pub by: String,
}

/// What kind of error it is: the words of the command's JSON errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoorErrorKind {
    /// The request is wrong.
    Usage,
    /// What was named does not exist.
    NotFound,
    /// A rule forbids it.
    Refused,
    /// The cluster cannot be reached, or failed.
    Unavailable,
    /// Not now; later it may pass.
    NothingToRunIt,
}

/// What a program can go by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum DoorErrorCause {
    /// The value has another version than the one asked for.
    VersionConflict {
        /// The key.
        key: String,
        /// The version it has; 0 = there is none.
        current: u64,
    },
    /// The value is too large.
    TooLarge {
        /// What it is.
        what: String,
        /// Its bytes.
        size: usize,
        /// The most it may have.
        limit: usize,
    },
    /// The attempt asks too often.
    TooOften {
        /// When it may ask again, ms.
        wait_ms: u64,
    },
    /// The attempt does not speak for its task any more, or never did for who asks.
    Fenced,
}

/// An error as it is answered: `{"error": {…}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct DoorError {
    /// What kind it is.
    pub kind: DoorErrorKind,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
    /// For programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<DoorErrorCause>,
    #[serde(skip, default)]
    pub(super) status: StatusCode,
}

/// The body of an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: DoorError,
}

impl DoorError {
    pub(super) fn new(kind: DoorErrorKind, message: impl Into<String>) -> DoorError {
        let status = match kind {
            DoorErrorKind::Usage => StatusCode::BAD_REQUEST,
            DoorErrorKind::NotFound => StatusCode::NOT_FOUND,
            DoorErrorKind::Refused => StatusCode::FORBIDDEN,
            DoorErrorKind::Unavailable | DoorErrorKind::NothingToRunIt => StatusCode::SERVICE_UNAVAILABLE,
        };
        DoorError { kind, message: message.into(), hint: None, details: None, status }
    }

    pub(super) fn usage(message: impl Into<String>) -> DoorError {
        DoorError::new(DoorErrorKind::Usage, message)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> DoorError {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn because(mut self, cause: DoorErrorCause) -> DoorError {
        self.status = match &cause {
            DoorErrorCause::VersionConflict { .. } => StatusCode::CONFLICT,
            DoorErrorCause::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            DoorErrorCause::TooOften { .. } => StatusCode::TOO_MANY_REQUESTS,
            DoorErrorCause::Fenced => StatusCode::FORBIDDEN,
        };
        self.details = Some(cause);
        self
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> DoorError {
        self.status = status;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_as_it_was_written() {
        let cause = DoorErrorCause::VersionConflict { key: "k".to_owned(), current: 3 };
        let error = DoorError::new(DoorErrorKind::Refused, "no").hint("look").because(cause);
        assert_eq!(error.status, StatusCode::CONFLICT);
        let text = serde_json::to_string(&ErrorBody { error: error.clone() }).expect("JSON");
        assert_eq!(
            text,
            r#"{"error":{"kind":"refused","message":"no","hint":"look","details":{"cause":"version_conflict","key":"k","current":3}}}"#
        );
        let back: ErrorBody = serde_json::from_str(&text).expect("its own words");
        assert_eq!(back.error.with_status(StatusCode::CONFLICT), error);
    }

    #[test]
    fn a_key_becomes_one_segment_of_a_path() {
        assert_eq!(state_path("task:a.1:result"), "/v1/state/task:a.1:result");
        assert_eq!(state_path("a/b c?ü"), "/v1/state/a%2Fb%20c%3F%C3%BC");
    }
}
