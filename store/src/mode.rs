//! Pausing the cluster, stopping it, and letting it go on: while it is paused nothing new is claimed, all else goes on;
//! while it is stopped nothing is submitted either.
//!
//! A freeze for a snapshot is a mode as well; who makes it is not here, nor who ends agents when a cluster is stopped.

use crate::cell::{Reply, Store, decode};
use crate::error::{Refusal, StoreError};
use crate::step::CellMode;

/// Longest note that is kept with a mode, bytes.
pub const MODE_NOTE_BYTES_MAX: usize = 1024;

/// What the cell does with work, since when, and who said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeView {
    /// Whether work is claimed.
    pub mode: CellMode,
    /// The mode's own word: `run`, `paused`, `stopped`, `drain`, `freezing`, `frozen`, `recover`, `retired`.
    pub word: String,
    /// Why, in somebody's words; empty if nobody gave any.
    pub note: String,
    /// Who said so; empty if nobody did.
    pub by: String,
    /// When, ms since 1970; none if it was never changed.
    pub at_ms: Option<u64>,
}

/// What became of a request to pause or go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeAnswer {
    /// It has changed.
    Changed,
    /// It was so already.
    Unchanged,
}

impl Store {
    /// Claims wait from now on. `note` and `by` are for people.
    ///
    /// # Errors
    /// `WrongMode` if the cluster is frozen or shut down; `TooLarge` for a long note.
    pub async fn pause(&self, note: &str, by: &str) -> Result<ModeAnswer, StoreError> {
        self.set_mode("paused", note, by).await
    }

    /// Nothing is claimed and nothing is submitted from now on, until somebody says `resume` or a snapshot is
    /// restored. Agents that run go on. `note` and `by` are for people.
    ///
    /// # Errors
    /// `WrongMode` or `Frozen` if the cluster is frozen; `TooLarge` for a long note.
    pub async fn stop_intake(&self, note: &str, by: &str) -> Result<ModeAnswer, StoreError> {
        self.set_mode("stopped", note, by).await
    }

    /// Claims go on, after a pause or a shutdown.
    ///
    /// # Errors
    /// `WrongMode` while the cluster is frozen.
    pub async fn resume(&self, by: &str) -> Result<ModeAnswer, StoreError> {
        self.set_mode("run", "", by).await
    }

    async fn set_mode(&self, mode: &str, note: &str, by: &str) -> Result<ModeAnswer, StoreError> {
        if note.len() > MODE_NOTE_BYTES_MAX {
            let (what, size) = ("the reason".to_owned(), note.len());
            return Err(Refusal::TooLarge { what, size, limit: MODE_NOTE_BYTES_MAX }.into());
        }
        let value = self.eval("set_mode", |command| {
            command.arg(self.epoch()).arg(mode).arg(note).arg(by);
        });
        let reply = Reply::read("set_mode", value.await?)?;
        match reply.word.as_str() {
            "OK" => Ok(ModeAnswer::Changed),
            "DUP" => Ok(ModeAnswer::Unchanged),
            "MODE" => Err(Refusal::WrongMode { mode: reply.text(0)? }.into()),
            "GONE" => Err(Refusal::ClusterGone.into()),
            _ => Err(reply.unexpected()),
        }
    }

    /// What the cell does with work at present.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn mode(&self) -> Result<ModeView, StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(self.keys().ctl()).arg(&["mode", "mode_note", "mode_by", "mode_at"]);
        let (word, note, by, at_ms): (String, Option<String>, Option<String>, Option<u64>) =
            decode("the cell's mode", self.ask(&command).await?)?;
        Ok(ModeView {
            mode: CellMode::read(&word),
            word,
            note: note.unwrap_or_default(),
            by: by.unwrap_or_default(),
            at_ms,
        })
    }
}
