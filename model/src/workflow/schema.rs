//! The JSON Schema of a workflow file, for editors and `maestro workflow schema`.
//!
//! Generated from the types of `definition`; here are only the forms in which single values are
//! written, and the last touches. A schema cannot say what `check` says: an editor that is content
//! does not replace `maestro workflow validate`.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::definition::Workflow;

macro_rules! written_form {
    ($(#[$doc:meta])* $name:ident, $schema:tt) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

written_form!(
    /// A name as `ids` allows it.
    NameText, { "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$" }
);
written_form!(
    /// A text that may be written as a number or truth value.
    TextOrNumber, { "type": ["string", "number", "boolean"] }
);
written_form!(
    /// A duration: `90s`, `1h30m`, or bare seconds.
    DurationText, { "type": ["string", "number"], "examples": ["90s", "1h30m", 600] }
);
written_form!(
    /// A whole number from 1.
    Positive, { "type": "integer", "minimum": 1, "maximum": u32::MAX }
);
written_form!(
    /// One step id or a list.
    OneOrMany, {
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
    }
);
written_form!(
    /// An expression or a plain truth value.
    ConditionText, { "type": ["string", "boolean"] }
);
written_form!(
    /// A literal list or an expression.
    ForeachText, { "type": ["array", "string"] }
);
written_form!(
    /// Which folder.
    WorkspaceText, { "type": "string", "examples": ["task", "run"] }
);
written_form!(
    /// One of two words or both.
    ContinueOnWords, {
        "anyOf": [
            { "enum": ["failed", "skipped"] },
            { "type": "array", "items": { "enum": ["failed", "skipped"] } }
        ]
    }
);

written_form!(
    /// One kind of failure or a list.
    RetryOnWords, {
        "anyOf": [
            { "enum": ["exit", "timeout", "stalled", "oom", "budget"] },
            { "type": "array", "items": { "enum": ["exit", "timeout", "stalled", "oom", "budget"] } }
        ]
    }
);

/// The JSON Schema (draft 2020-12) of a workflow file.
pub fn workflow_schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Workflow>();
    RecursiveTransform(without_null).transform(&mut schema);
    schema.to_value()
}

/// A key may be left out, but not be given without a value: null is no value of any key.
fn without_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            object.extend(only);
        }
    }
}
