//! What a provider's error means, where a program only passes it on.

use serde_json::Value;

use super::findings::RawTrouble;
use super::reset::ResetHint;

/// Longest message, bytes; a report is cut to less, a log line need not be.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// From so many seconds on, a wait that is asked for is a limit and not a throttle that passes by itself.
const LIMIT_SECONDS_MIN: f64 = 60.0;
/// Words that providers use for a limit of the account, not of the moment.
const LIMIT_WORDS: [&str; 12] = [
    "usage limit",
    "limit reached|",
    "exhausted your",
    "exceeded your current quota",
    "quota will reset",
    "quota exceeded",
    "insufficient_quota",
    "insufficient credit",
    "add credits",
    "credit balance is too low",
    "out of usage credits",
    "spend limit",
];

/// The failure that a text tells of: a usage limit if it says so.
pub(super) fn trouble_of(text: &str) -> RawTrouble {
    let message = plain_message(text);
    if speaks_of_a_limit(&message) || speaks_of_a_limit(text) {
        let resets = ResetHint::from_words(&message).or_else(|| reset_in_json(text));
        return RawTrouble::Limit { message, resets };
    }
    RawTrouble::Failed(message)
}

/// Whether a wait, in seconds, is too long to be sat out by the program itself.
pub(super) fn is_long(seconds: f64) -> bool {
    seconds >= LIMIT_SECONDS_MIN
}

/// Whether a text speaks of an account's limit.
pub(super) fn speaks_of_a_limit(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    LIMIT_WORDS.iter().any(|words| text.contains(words))
}

/// `resets_at` or `resets_in_seconds` of a provider's answer, wherever they stand in it.
pub(super) fn reset_in_json(text: &str) -> Option<ResetHint> {
    fn look(value: &Value) -> Option<ResetHint> {
        let map = value.as_object()?;
        let number = |name: &str| map.get(name).and_then(Value::as_f64);
        let here = number("resets_at")
            .or_else(|| number("resetsAt"))
            .and_then(ResetHint::from_number)
            .or_else(|| number("resets_in_seconds").map(ResetHint::In));
        here.or_else(|| map.values().find_map(look))
    }
    look(&embedded(text)?)
}

/// The words for people in a provider's error: programs often hand on its JSON as it came.
pub(super) fn plain_message(text: &str) -> String {
    let said = embedded(text).and_then(|value| {
        let error = value.get("error").unwrap_or(&value);
        let message = error.get("message").or_else(|| value.get("message"));
        message.and_then(Value::as_str).map(str::to_owned)
    });
    let text = said.as_deref().unwrap_or(text).trim();
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// The JSON object within a text, such as `[API Error: {…}]`.
fn embedded(text: &str) -> Option<Value> {
    let start = text.find('{')?;
    let end = text.rfind('}')?;
    serde_json::from_str(text.get(start..=end)?).ok().filter(Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_json_is_told_in_its_words() {
        let nested = r#"[API Error: {"error":{"code":400,"message":"scripted: bad","status":"X"}}]"#;
        assert_eq!(plain_message(nested), "scripted: bad");
        assert_eq!(plain_message(r#"{"message":"m"}"#), "m");
        assert_eq!(plain_message("  {broken  "), "{broken");
        assert_eq!(plain_message(r#"{"error":"word"}"#), r#"{"error":"word"}"#);
    }

    #[test]
    fn a_throttle_is_no_usage_limit() {
        for text in ["Rate limit reached for requests", "Too Many Requests", "Overloaded", "rate_limit_error"]
        {
            assert!(matches!(trouble_of(text), RawTrouble::Failed(_)), "{text}");
        }
        for text in ["You’ve hit your usage limit.", "You have exhausted your daily quota on this model."] {
            assert!(matches!(trouble_of(text), RawTrouble::Limit { .. }), "{text}");
        }
        let raw = r#"{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached","resets_in_seconds":90}}"#;
        let RawTrouble::Limit { resets, .. } = trouble_of(raw) else { panic!("a limit") };
        assert_eq!(resets, Some(ResetHint::In(90.0)));
    }
}
