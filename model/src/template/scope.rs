//! The values that names stand for while one template is rendered.
//!
//! Where the values come from is not here: whoever renders puts them in, and nothing else can be reached.

use serde_json::Value;

use super::names::{Root, dotted, nearest};
use super::problem::RenderError;

/// How many names are compared with an unknown one to find the nearest.
const COMPARED_NAMES_MAX: usize = 1_000;

/// One value per root. A root without one does not exist here.
///
/// | root | its value |
/// |---|---|
/// | `state`, `vars`, `params`, `env`, `outputs` | an object: name to value |
/// | `steps` | an object: step id to an object with (some of) `STEP_FIELDS`; `outputs` is an object |
/// | `run`, `task`, `agent` | an object with (some of) `Root::fields` |
/// | `attempt` | a number |
/// | `prompt`, `workspace` | text |
/// | `item` | anything |
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scope {
    values: [Option<Value>; Root::ALL.len()],
}

impl Scope {
    /// A scope in which no root exists.
    pub fn new() -> Scope {
        Scope::default()
    }

    /// The scope with a root added or replaced.
    pub fn with(mut self, root: Root, value: impl Into<Value>) -> Scope {
        self.set(root, value);
        self
    }

    /// Adds or replaces a root.
    pub fn set(&mut self, root: Root, value: impl Into<Value>) {
        self.values[root as usize] = Some(value.into());
    }

    /// The value of a root, if it exists here.
    pub fn get(&self, root: Root) -> Option<&Value> {
        self.values[root as usize].as_ref()
    }

    /// The value a name stands for.
    pub(super) fn find(&self, root: Root, path: &[String]) -> Option<&Value> {
        path.iter().try_fold(self.get(root)?, |value, part| member(value, part))
    }

    /// Why a name stands for nothing.
    pub(super) fn unknown(&self, root: Root, path: &[String]) -> RenderError {
        let Some(mut value) = self.get(root) else {
            return RenderError::OutOfScope { root };
        };
        let name = dotted(root, path);
        let mut known = 0;
        while let Some(inner) = path.get(known).and_then(|part| member(value, part)) {
            value = inner;
            known += 1;
        }
        let missing = path.get(known).map_or("", String::as_str);
        let owner = dotted(root, &path[..known]);
        let near = match value {
            Value::Object(members) => {
                nearest(missing, members.keys().take(COMPARED_NAMES_MAX).map(String::as_str))
            }
            _ => None,
        };
        let hint = match (near, value) {
            (Some(near), _) => {
                let mut meant = path[..known].to_vec();
                meant.push(near.to_owned());
                format!("did you mean `{}`?", dotted(root, &meant))
            }
            (None, Value::String(_)) if known > 0 => {
                let fields: String = path[known..].iter().map(|part| format!(" | attr({part:?})")).collect();
                format!("`{owner}` is text; what it holds as JSON is read with `{owner} | fromjson{fields}`")
            }
            _ => format!("write `<< {name} | default('…') >>` if it may be missing"),
        };
        RenderError::UnknownName { name, hint }
    }
}

/// A member of an object, or an element of a list by its index in digits.
fn member<'v>(value: &'v Value, part: &str) -> Option<&'v Value> {
    match value {
        Value::Object(members) => members.get(part),
        Value::Array(elements) => elements.get(part.parse::<usize>().ok()?),
        _ => None,
    }
}

/// A value as it stands in a text: text as it is, nothing for null, `true` and `false`, numbers in digits,
/// lists and objects as compact JSON.
pub fn shown_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What kind of value this is, with its article.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
