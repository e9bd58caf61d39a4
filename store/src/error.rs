//! What can go wrong between Maestro and Redis, sorted by what the caller can do about it.

use std::time::Duration;

use crate::address::AddressError;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer came: it is unknown whether it happened. Ask again with the same words.
    #[error("cannot reach redis at {address}")]
    Unreachable {
        /// Where it was looked for, without the password.
        address: String,
        /// What the connection said.
        #[source]
        source: redis::RedisError,
    },
    /// It did not happen, and here is why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What is stored cannot be read: a person must look.
    #[error("cannot read {what}: {found}")]
    Unreadable {
        /// What was to be read.
        what: String,
        /// What was there instead.
        found: String,
    },
}

/// Why something did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The cell is frozen, or its intake is closed.
    #[error("the cluster does not take work now: it is paused or frozen")]
    Paused,
    /// The cell is held still for a snapshot or a restore, and was for as long as this request could wait.
    #[error("the cluster stands still for a snapshot or a restore (asked for by {by})")]
    Frozen {
        /// Who asked for it.
        by: String,
    },
    /// A restore took place since this process looked.
    #[error("the cluster was restored meanwhile: its epoch is {current}")]
    Epoch {
        /// The epoch that holds now.
        current: String,
    },
    /// Redis does not know the cluster any more.
    #[error("redis holds no cluster under this namespace any more")]
    ClusterGone,
    /// What is stored was written by another version.
    #[error("the cluster is stored in format {found}, and this version reads format 1")]
    Schema {
        /// The format found.
        found: String,
    },
    /// There is no such run, task, key or definition.
    #[error("there is no {what}")]
    NotFound {
        /// What was looked for, in the user's words.
        what: String,
    },
    /// The run id is in use for something else.
    #[error("run `{run}` exists with another plan")]
    RunConflict {
        /// The run.
        run: String,
    },
    /// It changes so fast that what was worked out never fits. Ask again later.
    #[error("{what} changes too fast at the moment")]
    Busy {
        /// What does, in the user's words.
        what: String,
    },
    /// The cell's mode does not allow it.
    #[error("the cluster is {mode}: that has to end first")]
    WrongMode {
        /// The mode's word.
        mode: String,
    },
    /// More tasks wait for a run than it can tell of its end.
    #[error("{waiting} tasks of other runs wait for run `{run}` already, which is the limit")]
    TooManyWait {
        /// The run.
        run: String,
        /// How many.
        waiting: u64,
    },
    /// A conditional write found another version.
    #[error("`{key}` has version {current}, not the one asked for")]
    VersionConflict {
        /// The key.
        key: String,
        /// The version it has; 0 = there is none.
        current: u64,
    },
    /// Another live process goes by this name.
    #[error("a worker named `{name}` is alive: {about}, last heard of {age:.1?} ago")]
    NameTaken {
        /// The name.
        name: String,
        /// Host and process of the holder.
        about: String,
        /// Since its last beat.
        age: Duration,
    },
    /// The lease of this process ran out: it speaks for nothing any more.
    #[error("the lease has expired: another process may hold the work")]
    Fenced,
    /// Redis was restarted or replaced, and this process must first say what it holds.
    #[error("redis has changed: what this process holds has to be compared first")]
    Recover,
    /// Redis is at its memory limit.
    #[error("redis is out of memory (`maxmemory` reached)")]
    OutOfMemory,
    /// Redis wants another user or password.
    #[error("redis refuses the user or password: {message}")]
    Credentials {
        /// Redis' own words.
        message: String,
    },
    /// Redis is too old.
    #[error("redis is version {found}; maestro needs 7.0 or newer, or valkey")]
    TooOld {
        /// The version found.
        found: String,
    },
    /// Redis may evict keys.
    #[error("redis may evict keys: `maxmemory-policy` is `{policy}`")]
    Evicting {
        /// The policy found.
        policy: String,
    },
    /// A value is over its limit.
    #[error("{what} has {size} bytes; the limit is {limit}")]
    TooLarge {
        /// What it is, in the user's words.
        what: String,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// What cannot be the key of a shared value.
    #[error("`{key}` cannot be a key: it is empty, or holds a control character")]
    UnlawfulKey {
        /// The key, its control characters escaped.
        key: String,
    },
    /// The address cannot be used.
    #[error(transparent)]
    Address(AddressError),
    /// Sentinels answer, and know no such master.
    #[error("no sentinel knows a master named `{name}`")]
    UnknownMaster {
        /// The name in the address.
        name: String,
    },
    /// Anything else that Redis itself refuses, in its own words.
    #[error("redis refuses: {message}")]
    Server {
        /// Redis' own words.
        message: String,
    },
}

impl StoreError {
    /// An answer that no script gives.
    pub(crate) fn unreadable(what: impl Into<String>, found: impl std::fmt::Debug) -> StoreError {
        let found = format!("{found:?}").chars().take(300).collect();
        StoreError::Unreadable { what: what.into(), found }
    }

    pub(crate) fn not_found(what: impl Into<String>) -> StoreError {
        StoreError::Refused(Refusal::NotFound { what: what.into() })
    }

    /// Whether the same request may be sent again with hope.
    pub fn may_pass(&self) -> bool {
        matches!(self, StoreError::Unreachable { .. })
    }
}
