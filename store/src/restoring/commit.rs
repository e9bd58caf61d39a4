//! Another generation in force, in one step, and going on with it.

use crate::cell::{Reply, Store};
use crate::error::{Refusal, StoreError};
use crate::freezing::FreezeId;
use crate::keys::{self, Keys};

use super::journal::RestoreJournal;

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// The new generation is in force, in this epoch.
    InForce(String),
    /// The freeze had ended: nothing has changed.
    Thawed,
}

/// A restore whose keys and folders are all beside their places.
#[derive(Debug)]
pub struct RestoreCommit<'a> {
    /// How it stands.
    pub journal: &'a RestoreJournal,
    /// The freeze under which it was made.
    pub freeze: &'a FreezeId,
}

impl Store {
    /// Puts the loaded generation in force.
    ///
    /// # Errors
    /// `Unreachable`: ask again with the same words; `Busy` if another restore came first.
    pub async fn commit_restore(&self, commit: &RestoreCommit<'_>) -> Result<Committed, StoreError> {
        let journal = commit.journal;
        let loaded = Keys::new(self.namespace(), journal.to, 0);
        let keys = [keys::pointer(self.namespace()), loaded.ctl(), keys::restore_journal(self.namespace())];
        let value = self.eval_with_keys("restore_commit", &keys, |command| {
            command.arg(commit.freeze.as_str()).arg(journal.from).arg(journal.to).arg(&journal.id);
        });
        let reply = Reply::read("restore_commit", value.await?)?;
        match reply.word.as_str() {
            "OK" | "DUP" => Ok(Committed::InForce(reply.text(0)?)),
            "LOST" => Ok(Committed::Thawed),
            "MOVED" => Err(Refusal::Busy { what: "the cluster's generation".to_owned() }.into()),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }

    /// The restored cell, which this store has opened, goes on. Asked again it changes nothing.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn finish_restore(&self, journal: &RestoreJournal, detail: &str) -> Result<(), StoreError> {
        let keys = [keys::restore_journal(self.namespace())];
        let value = self.eval_with_keys("restore_finish", &keys, |command| {
            command.arg(&journal.id).arg(&journal.by).arg(detail);
        });
        let reply = Reply::read("restore_finish", value.await?)?;
        match reply.word.as_str() {
            "OK" | "DUP" => Ok(()),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }
}
