//! Reading all keys of the cluster as Redis itself writes them, a bounded portion at a time.
//!
//! What comes out belongs together only while the cell is frozen; this does not freeze it. What an archive makes of
//! the payloads is decided elsewhere.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use redis::Value;

use crate::cell::{Store, decode};
use crate::error::StoreError;
use crate::keys::pointer;
use crate::queues::glob_literal;

/// Keys looked at in one step of the walk.
const SCAN_COUNT: u32 = 500;
/// Keys whose values are fetched in one go.
const PORTION_KEYS: usize = 16;

/// Which keys are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogChoice {
    /// All but logs of attempts.
    Without,
    /// Logs as well.
    With,
}

/// A key as `DUMP` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpedKey {
    /// Its name.
    pub key: Vec<u8>,
    /// Type byte, value, two bytes of version and eight of CRC-64.
    pub payload: Vec<u8>,
    /// Its remaining time to live, ms.
    pub ttl_ms: Option<u64>,
}

/// A walk over the keys.
pub struct KeyDump {
    store: Store,
    logs: LogChoice,
    cursor: Option<String>,
    waiting: Vec<Vec<u8>>,
    /// A walk may come by a key twice. Two digests of each stand for it, to keep this small.
    seen: HashSet<(u64, u64)>,
    hashers: (RandomState, RandomState),
    pointer_is_out: bool,
}

impl Store {
    /// Begins a walk over the keys of the cell in force and the pointer to it. Left out are wake-up tokens, letters
    /// and the freeze itself: they mean nothing later.
    pub fn dump_keys(&self, logs: LogChoice) -> KeyDump {
        KeyDump {
            store: self.clone(),
            logs,
            cursor: Some("0".to_owned()),
            waiting: Vec::new(),
            seen: HashSet::new(),
            hashers: (RandomState::new(), RandomState::new()),
            pointer_is_out: false,
        }
    }

    /// The wall clock of Redis, ms since 1970.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn server_time_ms(&self) -> Result<u64, StoreError> {
        let (seconds, micros): (u64, u64) = decode("the time", self.ask(&redis::cmd("TIME")).await?)?;
        Ok(seconds * 1000 + micros / 1000)
    }

    /// The version of Redis, as it says itself.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn server_version(&self) -> Result<String, StoreError> {
        let info: String = decode("INFO", self.ask(redis::cmd("INFO").arg("server")).await?)?;
        Ok(crate::cell::info_field(&info, "redis_version").unwrap_or("unknown").to_owned())
    }
}

impl KeyDump {
    /// The next keys, in no order; none when all have come. One that has expired meanwhile is left out.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn next(&mut self) -> Result<Option<Vec<DumpedKey>>, StoreError> {
        if !self.pointer_is_out {
            self.pointer_is_out = true;
            return Ok(Some(self.dump_pointer().await?));
        }
        while self.waiting.is_empty() {
            let Some(cursor) = self.cursor.take() else { return Ok(None) };
            self.walk_on(&cursor).await?;
        }
        let from = self.waiting.len().saturating_sub(PORTION_KEYS);
        let portion = self.waiting.split_off(from);
        let mut pipeline = redis::pipe();
        for key in &portion {
            pipeline.cmd("PTTL").arg(key);
            pipeline.cmd("DUMP").arg(key);
        }
        read_dumps(portion, self.store.ask_all(&pipeline).await?).map(Some)
    }

    async fn walk_on(&mut self, cursor: &str) -> Result<(), StoreError> {
        let prefix = self.store.keys().prefix();
        let mut command = redis::cmd("SCAN");
        command
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{}*", glob_literal(prefix)))
            .arg("COUNT")
            .arg(SCAN_COUNT);
        let (next, found): (String, Vec<Vec<u8>>) = decode("a scan", self.store.ask(&command).await?)?;
        for key in found {
            let digest = (self.hashers.0.hash_one(&key), self.hashers.1.hash_one(&key));
            if is_kept(&key[prefix.len()..], self.logs) && self.seen.insert(digest) {
                self.waiting.push(key);
            }
        }
        self.cursor = (next != "0").then_some(next);
        Ok(())
    }

    async fn dump_pointer(&self) -> Result<Vec<DumpedKey>, StoreError> {
        let key = pointer(self.store.namespace()).into_bytes();
        let ttl = self.store.ask_pointer(redis::cmd("PTTL").arg(&key)).await?;
        let payload = self.store.ask_pointer(redis::cmd("DUMP").arg(&key)).await?;
        read_dumps(vec![key], vec![ttl, payload])
    }
}

/// Whether a key of the cell, its prefix cut off, is worth keeping.
fn is_kept(key: &[u8], logs: LogChoice) -> bool {
    let passing: [&[u8]; 3] = [b"bell:", b"ask:", b"answer:"];
    let is_log = key.starts_with(b"log:");
    key != b"freeze"
        && !passing.iter().any(|start| key.starts_with(start))
        && (logs == LogChoice::With || !is_log)
}

fn read_dumps(keys: Vec<Vec<u8>>, values: Vec<Value>) -> Result<Vec<DumpedKey>, StoreError> {
    let mut values = values.into_iter();
    let mut dumped = Vec::with_capacity(keys.len());
    for key in keys {
        let ttl: i64 = decode("a time to live", values.next().unwrap_or(Value::Nil))?;
        let payload = match values.next() {
            Some(Value::BulkString(payload)) => payload,
            Some(Value::Nil) => continue,
            other => return Err(StoreError::unreadable("a dumped key", other)),
        };
        dumped.push(DumpedKey { key, payload, ttl_ms: u64::try_from(ttl).ok() });
    }
    Ok(dumped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_left_out_and_logs_are_a_choice() {
        for key in ["bell:a:noop", "ask:7", "answer:7", "freeze"] {
            assert!(!is_kept(key.as_bytes(), LogChoice::With), "{key}");
        }
        for key in ["ctl", "r:0abc:task", "state:freeze", "agents", "w:1"] {
            assert!(is_kept(key.as_bytes(), LogChoice::Without), "{key}");
        }
        assert!(is_kept(b"log:0abc.1.1", LogChoice::With) && !is_kept(b"log:0abc.1.1", LogChoice::Without));
    }
}
