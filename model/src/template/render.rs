//! A text with expressions in it, and whole values full of such texts.

use indexmap::IndexMap;
use serde_json::Value;

use super::expression::Expression;
use super::names::NameUse;
use super::problem::{RenderError, TemplateError};
use super::scan::{Part, is_plain_text, scan};
use super::scope::{Scope, shown_text};

/// The largest rendered text, bytes.
pub const RENDERED_BYTES_MAX: usize = 256 * 1024;
/// How deep in a value texts are looked for.
const VALUE_DEPTH_MAX: usize = 100;

/// A text that has been read once and can be rendered often, on any thread.
#[derive(Debug, Clone)]
pub struct Template {
    parts: Vec<Part>,
    names: Vec<NameUse>,
    suspicions: Vec<TemplateError>,
}

impl Template {
    /// Takes a text apart. Only what is certainly meant as an expression can be wrong; see `suspicions`.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        if is_plain_text(text) {
            let parts = vec![Part::Text(text.to_owned())];
            return Ok(Template { parts, names: Vec::new(), suspicions: Vec::new() });
        }
        let scanned = scan(text)?;
        let names = expressions(&scanned.parts).flat_map(|expression| expression.names().to_vec()).collect();
        Ok(Template { parts: scanned.parts, names, suspicions: scanned.suspicions })
    }

    /// The names it reads, in order.
    pub fn names(&self) -> &[NameUse] {
        &self.names
    }

    /// What looks like a slip, though it is plain text: `<< sate.x >>`, `{{ state.x }}`. The validator makes
    /// errors of these; rendering leaves them as they are.
    pub fn suspicions(&self) -> &[TemplateError] {
        &self.suspicions
    }

    /// Whether there is no expression in it, so that rendering needs no scope.
    pub fn is_plain(&self) -> bool {
        expressions(&self.parts).next().is_none()
    }

    /// Renders it. A text that is exactly one expression, but for white space around, keeps the type of its
    /// value; everything else becomes text.
    pub fn render(&self, scope: &Scope) -> Result<Value, RenderError> {
        let Some(expression) = self.only_expression() else {
            return self.render_text(scope).map(Value::String);
        };
        let value = expression.evaluate(scope)?;
        let bytes = match &value {
            Value::String(text) => text.len(),
            Value::Array(_) | Value::Object(_) => value.to_string().len(),
            _ => 0,
        };
        if bytes > RENDERED_BYTES_MAX {
            return Err(RenderError::TooLarge { limit: RENDERED_BYTES_MAX });
        }
        Ok(value)
    }

    /// Renders it as text, white space included.
    ///
    /// Text stands as it is, null as nothing, numbers and booleans as in JSON, lists and objects as compact
    /// JSON.
    pub fn render_text(&self, scope: &Scope) -> Result<String, RenderError> {
        let mut rendered = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Expression(expression) => match expression.evaluate(scope)? {
                    Value::String(text) => rendered.push_str(&text),
                    other => rendered.push_str(&shown_text(&other)),
                },
            }
            if rendered.len() > RENDERED_BYTES_MAX {
                return Err(RenderError::TooLarge { limit: RENDERED_BYTES_MAX });
            }
        }
        Ok(rendered)
    }

    /// The expression, if there is one and only white space beside it.
    fn only_expression(&self) -> Option<&Expression> {
        let mut found = expressions(&self.parts);
        let only = found.next()?;
        let bare = self.parts.iter().all(|part| match part {
            Part::Text(text) => text.trim().is_empty(),
            Part::Expression(_) => true,
        });
        (bare && found.next().is_none()).then_some(only)
    }
}

fn expressions(parts: &[Part]) -> impl Iterator<Item = &Expression> {
    parts.iter().filter_map(|part| match part {
        Part::Expression(expression) => Some(expression),
        Part::Text(_) => None,
    })
}

/// Renders every text inside a value, each once. Texts that are one expression keep the type of its value;
/// the names of members stay as they are.
pub fn render_value(value: &Value, scope: &Scope) -> Result<Value, RenderError> {
    render_within(value, scope, VALUE_DEPTH_MAX)
}

/// Renders every text inside the values of a map, as `publish` holds it.
pub fn render_value_map(
    values: &IndexMap<String, Value>,
    scope: &Scope,
) -> Result<IndexMap<String, Value>, RenderError> {
    values.iter().map(|(name, value)| Ok((name.clone(), render_value(value, scope)?))).collect()
}

/// Renders the values of a map to text, as `env` holds it.
pub fn render_text_map(
    texts: &IndexMap<String, String>,
    scope: &Scope,
) -> Result<IndexMap<String, String>, RenderError> {
    texts.iter().map(|(name, text)| Ok((name.clone(), Template::parse(text)?.render_text(scope)?))).collect()
}

fn render_within(value: &Value, scope: &Scope, depth: usize) -> Result<Value, RenderError> {
    let inner = depth.checked_sub(1).ok_or(RenderError::TooDeep { limit: VALUE_DEPTH_MAX })?;
    match value {
        Value::String(text) if is_plain_text(text) => Ok(value.clone()),
        Value::String(text) => Template::parse(text)?.render(scope),
        Value::Array(elements) => elements
            .iter()
            .map(|element| render_within(element, scope, inner))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| Ok((name.clone(), render_within(member, scope, inner)?)))
            .collect::<Result<_, _>>()
            .map(Value::Object),
        plain => Ok(plain.clone()),
    }
}
