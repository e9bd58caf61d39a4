//! What an agent's conversation with its model took: session, tokens, cost.
//!
//! Found by the worker in what the agent printed (`answer` there) and kept with the task's output in Redis.
//! How programs say it differs; here it means the same for all of them. Prices are the program's own: what it
//! does not say is not calculated.

use serde::{Deserialize, Serialize};

/// Which form of this is stored. Fields are only ever added; a reader leaves out what it does not know.
const MODEL_USE_VERSION: u32 = 1;

/// What a task used, as far as its program said: tokens and cost of all its attempts, the rest of the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelUse {
    /// The stored form.
    #[serde(rename = "v")]
    pub version: u32,
    /// The conversation, by the name under which the program can take it up again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Tokens, all requests together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<ModelTokens>,
    /// What it cost by the program's own reckoning, US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// When a usage limit that ended it is lifted, ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at_ms: Option<u64>,
}

/// Tokens of one attempt, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelTokens {
    /// What the model read, whether from a cache or not.
    pub input: u64,
    /// The part of it that came from a cache.
    pub cached: u64,
    /// What it wrote, thoughts included.
    pub output: u64,
}

impl Default for ModelUse {
    fn default() -> ModelUse {
        ModelUse {
            version: MODEL_USE_VERSION,
            session: None,
            tokens: None,
            cost_usd: None,
            resets_at_ms: None,
        }
    }
}

impl ModelUse {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == ModelUse::default()
    }

    /// Tokens and cost of both together; sessions and reset times belong to one attempt each and are left out.
    #[must_use]
    pub fn plus(&self, other: &ModelUse) -> ModelUse {
        let tokens = match (self.tokens, other.tokens) {
            (Some(one), Some(two)) => Some(one.plus(two)),
            (one, two) => one.or(two),
        };
        let cost_usd = match (self.cost_usd, other.cost_usd) {
            (Some(one), Some(two)) => Some(one + two),
            (one, two) => one.or(two),
        };
        ModelUse { tokens, cost_usd, ..ModelUse::default() }
    }

    /// The same with what earlier attempts of the task have taken: all of it was paid for.
    #[must_use]
    pub fn after(self, earlier: &ModelUse) -> ModelUse {
        let ModelUse { tokens, cost_usd, .. } = self.plus(earlier);
        ModelUse { tokens, cost_usd, ..self }
    }
}

impl ModelTokens {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: ModelTokens) -> ModelTokens {
        ModelTokens {
            input: self.input.saturating_add(other.input),
            cached: self.cached.saturating_add(other.cached),
            output: self.output.saturating_add(other.output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_leads_back_and_says_its_form() {
        let tokens = ModelTokens { input: 10, cached: 4, output: 2 };
        let full = ModelUse { session: Some("s".to_owned()), tokens: Some(tokens), ..ModelUse::default() };
        let json = serde_json::to_string(&full).expect("plain data");
        assert_eq!(json, r#"{"v":1,"session":"s","tokens":{"input":10,"cached":4,"output":2}}"#);
        assert_eq!(serde_json::from_str::<ModelUse>(&json).expect("our own"), full);
        let newer = r#"{"v":2,"session":"s","weather":"fine"}"#;
        assert!(serde_json::from_str::<ModelUse>(newer).is_ok(), "fields are added and never renamed");
    }

    #[test]
    fn a_total_has_no_session() {
        let one = ModelUse { session: Some("s".to_owned()), cost_usd: Some(0.25), ..ModelUse::default() };
        let tokens = Some(ModelTokens { input: 1, cached: 0, output: 1 });
        let two = ModelUse { tokens, cost_usd: Some(0.5), ..ModelUse::default() };
        assert_eq!(one.plus(&two), ModelUse { tokens, cost_usd: Some(0.75), ..ModelUse::default() });
        assert!(ModelUse::default().plus(&ModelUse::default()).is_empty());
    }

    #[test]
    fn a_later_attempt_keeps_its_session_and_adds_to_the_cost() {
        let used = |session: &str, cost| ModelUse {
            session: Some(session.to_owned()),
            cost_usd: Some(cost),
            ..ModelUse::default()
        };
        assert_eq!(used("two", 0.5).after(&used("one", 0.25)), used("two", 0.75));
        assert_eq!(used("two", 0.5).after(&ModelUse::default()), used("two", 0.5));
    }
}
