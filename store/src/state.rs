//! Shared state: keys, values, versions, times to live.

use std::time::Duration;

use redis::Value;

use crate::cell::{Reply, Store, decode};
use crate::error::{Refusal, StoreError};

/// Largest value, in bytes.
pub const STATE_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Longest key, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 512;

/// One shared value.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedValue {
    /// Its key.
    pub key: String,
    /// Text, or JSON.
    pub value: serde_json::Value,
    /// Grows with every write, also across deletion.
    pub version: u64,
    /// Until it goes; none = stays.
    pub ttl: Option<Duration>,
}

/// What a conditional write demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteCondition {
    /// Nothing.
    Always,
    /// That there is none yet.
    Absent,
    /// That it has this version.
    Version(u64),
}

/// How a value is stored: text as it is, anything else as JSON with a mark.
pub(crate) fn stored_form(value: &serde_json::Value) -> (String, &'static str) {
    match value {
        serde_json::Value::String(text) => (text.clone(), "s"),
        other => (other.to_string(), "j"),
    }
}

/// A value as it was stored.
pub fn from_stored(text: String, json: bool) -> serde_json::Value {
    if json {
        serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))
    } else {
        serde_json::Value::String(text)
    }
}

impl Store {
    /// Writes a value; its version.
    ///
    /// # Errors
    /// `TooLarge`, `VersionConflict`, `OutOfMemory`.
    pub async fn set_state(
        &self,
        key: &str,
        value: &serde_json::Value,
        ttl: Option<Duration>,
        condition: WriteCondition,
        who: &str,
    ) -> Result<u64, StoreError> {
        check_size("the key", key.len(), STATE_KEY_BYTES_MAX)?;
        let (text, kind) = stored_form(value);
        check_size(&format!("the value of `{key}`"), text.len(), STATE_VALUE_BYTES_MAX)?;
        let condition = match condition {
            WriteCondition::Always => String::new(),
            WriteCondition::Absent => "0".to_owned(),
            WriteCondition::Version(version) => version.to_string(),
        };
        let value = self.eval("state_set", |command| {
            command.arg(self.epoch()).arg(key).arg(text).arg(kind);
            command.arg(ttl.map_or(0, |ttl| ttl.as_millis() as u64)).arg(condition).arg(who);
        });
        let reply = Reply::read("state_set", value.await?)?;
        match reply.word.as_str() {
            "OK" => reply.get(0),
            "CONFLICT" => {
                Err(Refusal::VersionConflict { key: key.to_owned(), current: reply.get(0)? }.into())
            }
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn state(&self, key: &str) -> Result<Option<SharedValue>, StoreError> {
        Ok(self.read_states(vec![key.to_owned()]).await?.pop())
    }

    /// All values whose key begins with `prefix`, by key.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn states(&self, prefix: &str) -> Result<Vec<SharedValue>, StoreError> {
        let time: (u64, u64) = decode("the time", self.ask(&redis::cmd("TIME")).await?)?;
        let now_ms = time.0 * 1000 + time.1 / 1000;
        let states = self.keys().states();
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZREMRANGEBYSCORE").arg(&states).arg("-inf").arg(format!("({now_ms}"));
        pipeline.cmd("ZRANGE").arg(&states).arg(0).arg(-1);
        let names = self.ask_all(&pipeline).await?.pop().unwrap_or(Value::Nil);
        let mut names: Vec<String> = decode("the names of shared values", names)?;
        names.retain(|name| name.starts_with(prefix));
        names.sort();
        self.read_states(names).await
    }

    async fn read_states(&self, names: Vec<String>) -> Result<Vec<SharedValue>, StoreError> {
        let mut found = Vec::new();
        for portion in names.chunks(500) {
            let mut pipeline = redis::pipe();
            for name in portion {
                pipeline.cmd("HMGET").arg(self.keys().state(name)).arg(&["v", "t", "n"]);
                pipeline.cmd("PTTL").arg(self.keys().state(name));
            }
            let mut values = self.ask_all(&pipeline).await?.into_iter();
            for name in portion {
                let fields: Vec<Option<String>> =
                    decode("a shared value", values.next().unwrap_or(Value::Nil))?;
                let ttl: i64 = decode("a time to live", values.next().unwrap_or(Value::Int(-2)))?;
                let [Some(text), Some(kind), Some(version)] = &fields[..] else { continue };
                found.push(SharedValue {
                    key: name.clone(),
                    value: from_stored(text.clone(), kind == "j"),
                    version: version.parse().map_err(|_| StoreError::unreadable("a version", version))?,
                    ttl: u64::try_from(ttl).ok().map(Duration::from_millis),
                });
            }
        }
        Ok(found)
    }

    /// Removes a value; false if there was none.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn delete_state(&self, key: &str, who: &str) -> Result<bool, StoreError> {
        let value = self.eval("state_delete", |command| {
            command.arg(self.epoch()).arg(key).arg(who);
        });
        let reply = Reply::read("state_delete", value.await?)?;
        match reply.word.as_str() {
            "OK" => Ok(true),
            "NONE" => Ok(false),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }
}

fn check_size(what: &str, size: usize, limit: usize) -> Result<(), StoreError> {
    if size > limit {
        return Err(Refusal::TooLarge { what: what.to_owned(), size, limit }.into());
    }
    Ok(())
}
