//! A shared value as users see it.

use std::time::Duration;

use maestro_store::Refusal;
use maestro_store::state::{STATE_VALUE_BYTES_MAX, SharedValue};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::failure::Failure;
use crate::output::foreign::cut;
use crate::output::moment::duration;
use crate::output::shape::{Column, Field, Shape};

/// Columns of a value in a table.
const VALUE_COLUMNS: usize = 60;

/// A value's record.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StateEntry {
    /// Its key.
    pub(crate) key: String,
    /// Text, or JSON.
    pub(crate) value: Value,
    /// Grows with every write.
    pub(crate) version: u64,
    /// Time it still lives, in seconds; null = stays.
    #[serde(serialize_with = "optional_seconds")]
    pub(crate) ttl: Option<Duration>,
}

fn optional_seconds<S: Serializer>(ttl: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match ttl {
        Some(ttl) => serializer.serialize_some(&ttl.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

impl From<SharedValue> for StateEntry {
    fn from(shared: SharedValue) -> StateEntry {
        StateEntry { key: shared.key, value: shared.value, version: shared.version, ttl: shared.ttl }
    }
}

/// Many values.
pub(crate) const STATE_ROWS: Shape<StateEntry> = Shape {
    columns: &[
        Column::new("KEY", |entry| entry.key.clone().into()),
        Column::new("VALUE", |entry| cut(&value_text(&entry.value), VALUE_COLUMNS).into()),
        Column::new("VERSION", |entry| Field::number(entry.version)),
        Column::new("TTL", |entry| Field::or_none(entry.ttl.map(|ttl| duration(ttl.as_millis() as u64)))),
    ],
    name: |entry| entry.key.clone(),
    none: "no shared state",
};

/// Text as it is, anything else as JSON.
pub(crate) fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Refuses a value that is too large before it is sent anywhere, in the store's words.
pub(crate) fn check_value_size(key: &str, value: &Value) -> Result<(), Refusal> {
    let (size, limit) = (value_text(value).len(), STATE_VALUE_BYTES_MAX);
    if size > limit {
        return Err(Refusal::TooLarge { what: format!("the value of `{key}`"), size, limit });
    }
    Ok(())
}

/// What is said of a key that has no value.
pub(crate) fn no_value(key: &str) -> Failure {
    Failure::not_found(format!("there is no state `{key}`"))
        .hint("`maestro state list` lists what there is; values go when their time to live has passed")
}

/// Refuses (2) an empty key.
pub(crate) fn check_key(key: &str) -> Result<(), Failure> {
    if key.is_empty() {
        return Err(Failure::usage("the key is empty").hint("name it, as in `maestro state get branch`"));
    }
    Ok(())
}
