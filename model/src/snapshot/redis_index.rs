//! `redis/index.json`: where each key's value lies in `dump.rdb`, so that it can be restored without reading RDB.

use serde::{Deserialize, Serialize};

use super::fault::ArchiveFault;
use super::key_shape::KeyType;
use super::limits::PAYLOAD_BYTES_MAX;

/// The version of an index.
pub const INDEX_VERSION: u32 = 1;

/// Every key of `dump.rdb`, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisIndex {
    /// `INDEX_VERSION`.
    pub v: u32,
    /// The RDB version of the values, as DUMP writes it behind each.
    pub rdb_version: u16,
    /// The keys, by rising offset.
    pub keys: Vec<KeyEntry>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// The whole key, with the namespace.
    pub key: String,
    /// Its type.
    #[serde(rename = "type")]
    pub key_type: KeyType,
    /// What was left of its time to live when the snapshot was taken, ms; counted again from a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The first byte of what DUMP gave: how the value is written.
    pub encoding: u8,
    /// Where the value begins in `dump.rdb`: behind encoding and key.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

impl RedisIndex {
    /// Whether this version can read it, and whether the values follow each other within `dump_bytes`.
    ///
    /// # Errors
    /// `Newer`, `Contradiction`.
    pub fn check(&self, dump_bytes: u64) -> Result<(), ArchiveFault> {
        if self.v > INDEX_VERSION {
            return Err(ArchiveFault::Newer { of: "the index of keys", found: self.v, known: INDEX_VERSION });
        }
        let mut behind = 0;
        for entry in &self.keys {
            let contradiction = |what: &str| {
                Err(ArchiveFault::Contradiction { what: format!("the value of key `{}` {what}", entry.key) })
            };
            if entry.length > PAYLOAD_BYTES_MAX {
                return contradiction("is larger than 512 MiB");
            }
            if entry.offset < behind {
                return contradiction("lies in another one, or before it");
            }
            behind = entry.offset.saturating_add(entry.length);
            if behind > dump_bytes {
                return contradiction("lies outside of `dump.rdb`");
            }
            if !entry.key_type.has_encoding(entry.encoding) {
                return contradiction("is not written as its type is");
            }
        }
        Ok(())
    }
}
