//! Shared state: keys, values, versions, times to live.

use std::time::Duration;

use maestro_model::ids::{Attempt, Incarnation, TaskId};
use redis::{Cmd, Value};

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

/// Who changes shared state.
#[derive(Debug, Clone, Copy)]
pub enum StateActor<'a> {
    /// A person or a process, by the name that the audit stream shows.
    Named(&'a str),
    /// An attempt, which is heard only while it speaks for its task and its worker's lease lives.
    Attempt(&'a TaskVoice),
}

/// Which attempt speaks, and for which process it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskVoice {
    /// The task.
    pub task: TaskId,
    /// Which try of it.
    pub attempt: Attempt,
    /// The worker that was granted it.
    pub incarnation: Incarnation,
}

impl StateActor<'_> {
    /// The arguments with which scripts are told: who, for the audit, and whose voice is to be checked.
    fn tell(self, command: &mut Cmd) {
        match self {
            StateActor::Named(who) => {
                command.arg(who).arg("").arg("").arg("").arg("");
            }
            StateActor::Attempt(TaskVoice { task, attempt, incarnation }) => {
                command.arg(format!("{task}.{attempt}")).arg(incarnation.as_str());
                command.arg(task.run.as_str()).arg(task.index).arg(attempt.0);
            }
        }
    }
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
    /// `UnlawfulKey`, `TooLarge`, `VersionConflict`, `Fenced`, `OutOfMemory`.
    pub async fn set_state(
        &self,
        key: &str,
        value: &serde_json::Value,
        ttl: Option<Duration>,
        condition: WriteCondition,
        actor: StateActor<'_>,
    ) -> Result<u64, StoreError> {
        check_state_key(key)?;
        let (text, kind) = stored_form(value);
        check_size(&format!("the value of `{key}`"), text.len(), STATE_VALUE_BYTES_MAX)?;
        let condition = match condition {
            WriteCondition::Always => String::new(),
            WriteCondition::Absent => "0".to_owned(),
            WriteCondition::Version(version) => version.to_string(),
        };
        let value = self.eval("state_set", |command| {
            command.arg(self.epoch()).arg(key).arg(text).arg(kind);
            command.arg(ttl.map_or(0, |ttl| ttl.as_millis() as u64)).arg(condition);
            actor.tell(command);
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
        Ok(self.states_of(vec![key.to_owned()]).await?.pop())
    }

    /// All values whose key begins with `prefix`, by key.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn states(&self, prefix: &str) -> Result<Vec<SharedValue>, StoreError> {
        let names = self.state_keys(prefix).await?;
        self.states_of(names).await
    }

    /// The keys that begin with `prefix`, in order. Some may have gone by the time they are read.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn state_keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
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
        Ok(names)
    }

    /// The values of these keys; what has none is left out.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn states_of(&self, names: Vec<String>) -> Result<Vec<SharedValue>, StoreError> {
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
    /// `Unreachable`, `Fenced`.
    pub async fn delete_state(&self, key: &str, actor: StateActor<'_>) -> Result<bool, StoreError> {
        let value = self.eval("state_delete", |command| {
            command.arg(self.epoch()).arg(key);
            actor.tell(command);
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

/// Refuses what cannot be a key of shared state: the empty text, control characters (the audit stream is
/// made of lines and tabs), and what is longer than [`STATE_KEY_BYTES_MAX`].
///
/// # Errors
/// `UnlawfulKey`, `TooLarge`.
pub fn check_state_key(key: &str) -> Result<(), Refusal> {
    if key.is_empty() || key.contains(char::is_control) {
        return Err(Refusal::UnlawfulKey { key: key.escape_debug().take(STATE_KEY_BYTES_MAX).collect() });
    }
    check_size("the key", key.len(), STATE_KEY_BYTES_MAX)
}

fn check_size(what: &str, size: usize, limit: usize) -> Result<(), Refusal> {
    if size > limit {
        return Err(Refusal::TooLarge { what: what.to_owned(), size, limit });
    }
    Ok(())
}
