//! Keys of a snapshot under a generation that nobody uses yet, and what becomes of their tasks.

use maestro_model::snapshot::{KeyEntry, KeyFate, KeyShape, Manifest};
use redis::Pipeline;

use crate::cell::{Reply, SCHEMA, Store, decode, info_field};
use crate::error::{Refusal, StoreError};
use crate::queues::glob_literal;

/// Bytes of values sent in one go; one value may be larger.
const BATCH_BYTES: usize = 1 << 20;
/// Keys sent in one go.
const BATCH_KEYS: usize = 500;
/// Tasks queued again by one call.
const RECLAIM_PORTION: u32 = 50;
/// Names of shared values whose end is moved in one go.
const STATES_PORTION: usize = 1000;
/// A value takes about so many times the room that it has in a snapshot.
const MEMORY_PER_BYTE: u64 = 2;
/// The setting that makes Redis look at a value before it takes it.
const CHECK_SETTING: &str = "sanitize-dump-payload";

/// Why this Redis cannot take a snapshot. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum LoadRefusal {
    /// A later Redis made it.
    #[error("redis reads values up to version {known}, and the snapshot's have version {found}")]
    RedisTooOld {
        /// Of the snapshot.
        found: u16,
        /// Of this Redis.
        known: u16,
    },
    /// What is stored has another format.
    #[error("the snapshot's keys have format {found}, and this version reads format {SCHEMA}")]
    Schema {
        /// The format found.
        found: String,
    },
    /// Both generations do not fit.
    #[error("redis has room for {free} bytes more, and about {needed} are needed beside what is there")]
    NoRoom {
        /// Below `maxmemory`.
        free: u64,
        /// Estimated.
        needed: u64,
    },
    /// Redis cannot be told to check what it is given.
    #[error("redis does not let its checks of values be turned on: {message}")]
    ChecksRefused {
        /// Redis' own words.
        message: String,
    },
    /// The keys of a cluster lie on several nodes.
    #[error("a Redis Cluster cannot be restored into: the step that changes over needs one node")]
    ManyNodes,
    /// Redis refused, or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether Redis looks at values before it takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadChecks {
    /// It did before.
    WereOn,
    /// They were turned on; this is what the setting was.
    TurnedOn {
        /// To be set again.
        before: String,
    },
    /// It does not, because whoever restores trusts the archive.
    Trusted,
}

impl Store {
    /// Whether this Redis can take a snapshot beside what it holds.
    ///
    /// # Errors
    /// See [`LoadRefusal`].
    pub async fn check_loadable(
        &self,
        manifest: &Manifest,
        rdb_version: u16,
        dump_bytes: u64,
    ) -> Result<(), LoadRefusal> {
        if self.has_far_pointer() {
            return Err(LoadRefusal::ManyNodes);
        }
        if manifest.schema != SCHEMA {
            return Err(LoadRefusal::Schema { found: manifest.schema.clone() });
        }
        let dump = redis::cmd("DUMP").arg(self.keys().ctl()).to_owned();
        let payload: Option<Vec<u8>> = decode("a value", self.ask(&dump).await?)?;
        let payload = payload.ok_or(StoreError::Refused(Refusal::ClusterGone))?;
        let Some(version) = payload.len().checked_sub(10).map(|at| [payload[at], payload[at + 1]]) else {
            return Err(StoreError::unreadable("a value", payload.len()).into());
        };
        let known = u16::from_le_bytes(version);
        if rdb_version > known {
            return Err(LoadRefusal::RedisTooOld { found: rdb_version, known });
        }
        let info: String = decode("INFO", self.ask(redis::cmd("INFO").arg("memory")).await?)?;
        let number = |name| info_field(&info, name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let (most, used) = (number("maxmemory"), number("used_memory"));
        let (free, needed) = (most.saturating_sub(used), dump_bytes.saturating_mul(MEMORY_PER_BYTE));
        if most > 0 && needed > free {
            return Err(LoadRefusal::NoRoom { free, needed });
        }
        Ok(())
    }

    /// Makes Redis look at values before it takes them.
    ///
    /// # Errors
    /// `ChecksRefused`.
    pub async fn check_payloads(&self) -> Result<PayloadChecks, LoadRefusal> {
        let get = redis::cmd("CONFIG").arg("GET").arg(CHECK_SETTING).to_owned();
        let refused = |error: StoreError| match error {
            StoreError::Refused(refusal) => LoadRefusal::ChecksRefused { message: refusal.to_string() },
            other => other.into(),
        };
        let found: Vec<String> = decode("a setting", self.ask(&get).await.map_err(refused)?)?;
        let Some(before) = found.get(1).cloned() else {
            return Err(LoadRefusal::ChecksRefused {
                message: format!("it has no setting `{CHECK_SETTING}`"),
            });
        };
        if before == "yes" {
            return Ok(PayloadChecks::WereOn);
        }
        self.set_payload_checks("yes").await.map_err(refused)?;
        Ok(PayloadChecks::TurnedOn { before })
    }

    /// The setting as it was.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn reset_payload_checks(&self, checks: &PayloadChecks) -> Result<(), StoreError> {
        match checks {
            PayloadChecks::TurnedOn { before } => self.set_payload_checks(before).await,
            PayloadChecks::WereOn | PayloadChecks::Trusted => Ok(()),
        }
    }

    async fn set_payload_checks(&self, word: &str) -> Result<(), StoreError> {
        let set = redis::cmd("CONFIG").arg("SET").arg(CHECK_SETTING).arg(word).to_owned();
        self.ask(&set).await.map(drop)
    }

    /// Removes every key of generations other than that in force: what a restore has loaded and nobody put in
    /// force, or what one has replaced. How many there were.
    ///
    /// # Errors
    /// `Unreachable` (some may be gone), `Refused`.
    pub async fn collect_generations(&self) -> Result<u64, StoreError> {
        let present = format!("{}:{{{}.", self.namespace(), self.generation());
        let pattern = format!("{}:{{*", glob_literal(self.namespace()));
        let mut cursor = "0".to_owned();
        let mut count = 0;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(BATCH_KEYS);
            let (next, found): (String, Vec<Vec<u8>>) = decode("a scan", self.ask(&scan).await?)?;
            let mut pipeline = redis::pipe();
            for key in found.iter().filter(|key| !key.starts_with(present.as_bytes())) {
                pipeline.cmd("UNLINK").arg(key);
            }
            for gone in self.ask_all(&pipeline).await? {
                count += decode::<u64>("a number of keys", gone)?;
            }
            if next == "0" {
                return Ok(count);
            }
            cursor = next;
        }
    }
}

/// A cell that is being filled.
pub struct LoadingCell {
    store: Store,
    batch: Pipeline,
    batch_keys: usize,
    batch_bytes: usize,
    holders: Vec<String>,
    loaded: u64,
}

impl LoadingCell {
    /// Begins to fill the cell of a generation that is not in force, over whatever an earlier try has left.
    pub fn begin(store: &Store, generation: u64) -> LoadingCell {
        LoadingCell {
            store: store.in_generation(generation),
            batch: redis::pipe(),
            batch_keys: 0,
            batch_bytes: 0,
            holders: Vec::new(),
            loaded: 0,
        }
    }

    /// Takes one key. What speaks of processes that are gone is left out.
    ///
    /// # Errors
    /// `Refused` with Redis' words for a value that it does not take.
    pub async fn add(&mut self, entry: &KeyEntry, payload: Vec<u8>) -> Result<(), StoreError> {
        // The pointer itself is not loaded: it is what the commit changes.
        let Some((_, name)) = entry.key.split_once("}:") else { return Ok(()) };
        let fate = KeyShape::of(name).map(|shape| shape.fate);
        if fate != Some(KeyFate::Kept) {
            return Ok(());
        }
        if let Some(holder) = name.strip_prefix("own:") {
            self.holders.push(holder.to_owned());
        }
        let key = format!("{}{name}", self.store.keys().prefix());
        self.batch_bytes += payload.len();
        self.batch_keys += 1;
        // One that has just run out would stay for ever with a time to live of nothing.
        let ttl_ms = entry.ttl_ms.map_or(0, |ttl_ms| ttl_ms.max(1));
        self.batch.cmd("RESTORE").arg(key).arg(ttl_ms).arg(payload).arg("REPLACE").ignore();
        if self.batch_bytes >= BATCH_BYTES || self.batch_keys >= BATCH_KEYS {
            self.send().await?;
        }
        Ok(())
    }

    /// Sends what waits to be sent.
    ///
    /// # Errors
    /// As `add`.
    pub async fn send(&mut self) -> Result<(), StoreError> {
        let batch = std::mem::replace(&mut self.batch, redis::pipe());
        self.loaded += std::mem::take(&mut self.batch_keys) as u64;
        self.batch_bytes = 0;
        self.store.ask_all(&batch).await.map(drop)
    }

    /// Makes of what was frozen something that can go on; how many tasks are queued again.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn finish(mut self, cluster: &str) -> Result<u64, StoreError> {
        self.send().await?;
        let value = self.store.eval("restore_open", |command| {
            command.arg(cluster);
        });
        let reply = Reply::read("restore_open", value.await?)?;
        if reply.word != "OK" {
            return Err(reply.unexpected());
        }
        let since: i64 = reply.get(0)?;
        self.move_states(since).await?;
        let mut tasks = 0;
        for holder in std::mem::take(&mut self.holders) {
            loop {
                let value = self.store.eval("restore_reclaim", |command| {
                    command.arg(&holder).arg(RECLAIM_PORTION);
                });
                let reply = Reply::read("restore_reclaim", value.await?)?;
                if reply.word != "OK" {
                    return Err(reply.unexpected());
                }
                tasks += reply.get::<u64>(0)?;
                if reply.get::<u32>(1)? == 0 {
                    break;
                }
            }
        }
        Ok(tasks)
    }

    /// Shared values live on for as long as they had left: the index of their ends moves with them.
    async fn move_states(&self, since_ms: i64) -> Result<(), StoreError> {
        let key = self.store.keys().states();
        let all = redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).arg("WITHSCORES").to_owned();
        let all: Vec<(String, f64)> = decode("names of shared values", self.store.ask(&all).await?)?;
        let ending: Vec<_> = all.into_iter().filter(|(_, end)| end.is_finite()).collect();
        for portion in ending.chunks(STATES_PORTION) {
            let mut command = redis::cmd("ZADD");
            command.arg(&key);
            for (name, end) in portion {
                command.arg(end + since_ms as f64).arg(name);
            }
            self.store.ask(&command).await?;
        }
        Ok(())
    }
}
