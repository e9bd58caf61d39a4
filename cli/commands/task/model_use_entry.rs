//! What tasks took of a model as users see it: session, tokens, cost.
//!
//! Programs that do not say leave the fields empty; nothing is reckoned here beyond adding up.

use maestro_model::model_use::{ModelTokens, ModelUse};
use serde::Serialize;

use crate::output::moment::as_optional_rfc3339;

/// Fields of a task's record, and of a run's for all its steps together.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct ModelUseEntry {
    /// The conversation, as the program calls it.
    pub(crate) session: Option<String>,
    /// Tokens.
    pub(crate) tokens: Option<ModelTokens>,
    /// US dollars, by the program's own reckoning.
    pub(crate) cost_usd: Option<f64>,
    /// When the usage limit that ended it is lifted.
    #[serde(serialize_with = "as_optional_rfc3339")]
    pub(crate) resets_at: Option<u64>,
}

impl From<Option<ModelUse>> for ModelUseEntry {
    fn from(used: Option<ModelUse>) -> ModelUseEntry {
        let ModelUse { session, tokens, cost_usd, resets_at_ms, .. } = used.unwrap_or_default();
        ModelUseEntry { session, tokens, cost_usd, resets_at: resets_at_ms }
    }
}

/// Tokens and cost of several together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct ModelUseTotal {
    /// Tokens of all that told theirs.
    pub(crate) tokens: Option<ModelTokens>,
    /// US dollars of all that told theirs.
    pub(crate) cost_usd: Option<f64>,
}

impl ModelUseTotal {
    /// Adds them up.
    pub(crate) fn of<'e>(entries: impl IntoIterator<Item = &'e ModelUseEntry>) -> ModelUseTotal {
        let sum = entries.into_iter().fold(ModelUse::default(), |sum, entry| {
            sum.plus(&ModelUse { tokens: entry.tokens, cost_usd: entry.cost_usd, ..ModelUse::default() })
        });
        ModelUseTotal { tokens: sum.tokens, cost_usd: sum.cost_usd }
    }

    /// `450 in (90 cached), 21 out, $0.0014`; none if nobody told anything.
    pub(crate) fn text(&self) -> Option<String> {
        let parts: Vec<String> =
            [self.tokens.map(tokens_text), self.cost_usd.map(cost_text)].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl ModelUseEntry {
    /// `450 in (90 cached), 21 out`.
    pub(crate) fn tokens_text(&self) -> Option<String> {
        self.tokens.map(tokens_text)
    }

    /// `$0.0014`.
    pub(crate) fn cost_text(&self) -> Option<String> {
        self.cost_usd.map(cost_text)
    }
}

fn tokens_text(tokens: ModelTokens) -> String {
    let cached = if tokens.cached > 0 { format!(" ({} cached)", tokens.cached) } else { String::new() };
    format!("{} in{cached}, {} out", tokens.input, tokens.output)
}

fn cost_text(cost_usd: f64) -> String {
    // A cent is a lot for one answer.
    if cost_usd < 1.0 { format!("${cost_usd:.4}") } else { format!("${cost_usd:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_told_is_not_shown_as_nothing() {
        assert_eq!(ModelUseTotal::of([]).text(), None);
        assert_eq!(ModelUseTotal::of([&ModelUseEntry::default()]).text(), None);
    }

    #[test]
    fn tokens_and_cost_add_up() {
        let tokens = |input, cached, output| Some(ModelTokens { input, cached, output });
        let one = ModelUseEntry { tokens: tokens(150, 30, 7), cost_usd: Some(1.0), ..Default::default() };
        let two = ModelUseEntry { tokens: tokens(300, 0, 14), ..Default::default() };
        assert_eq!(
            ModelUseTotal::of([&one, &two]).text().as_deref(),
            Some("450 in (30 cached), 21 out, $1.00")
        );
        assert_eq!(two.tokens_text().as_deref(), Some("300 in, 14 out"));
        assert_eq!(cost_text(0.000134), "$0.0001");
    }
}
