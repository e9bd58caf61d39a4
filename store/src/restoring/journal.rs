//! How far a restore has come: one hash beside the cluster's pointer, kept until the next restore.

use maestro_model::ids::WorkerName;
use maestro_model::mailbox::StagedFolder;
use maestro_model::snapshot::FileDigest;
use serde::{Deserialize, Serialize};

use crate::cell::{Store, decode};
use crate::error::StoreError;
use crate::keys;

/// The version of a journal.
pub const JOURNAL_VERSION: u32 = 1;

/// Where a restore stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreStage {
    /// Keys and folders are being put beside those in force. If nobody goes on, nothing has happened.
    Loading,
    /// All of them are there.
    Staged,
    /// The new generation is in force; folders are being put into their places. This has to be finished.
    Committed,
    /// Work goes on; what the cluster was before is being removed.
    Clearing,
    /// It is over.
    Done,
}

impl RestoreStage {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            RestoreStage::Loading => "loading",
            RestoreStage::Staged => "staged",
            RestoreStage::Committed => "committed",
            RestoreStage::Clearing => "clearing",
            RestoreStage::Done => "done",
        }
    }

    fn read(word: &str) -> Option<RestoreStage> {
        use RestoreStage::{Clearing, Committed, Done, Loading, Staged};
        [Loading, Staged, Committed, Clearing, Done].into_iter().find(|stage| stage.word() == word)
    }

    /// Whether the new generation is in force, and something is left to be done.
    pub fn is_unfinished(self) -> bool {
        matches!(self, RestoreStage::Committed | RestoreStage::Clearing)
    }
}

/// A folder that lies beside its place, on some worker's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournaledFolder {
    /// Which, and where it belongs.
    #[serde(flatten)]
    pub folder: StagedFolder,
    /// The worker that has it.
    pub worker: WorkerName,
}

/// What is known of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreJournal {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub stage: RestoreStage,
    /// The generation before it.
    pub from: u64,
    /// The generation it loads.
    pub to: u64,
    /// Which archive: the digest of its manifest.
    pub archive: FileDigest,
    /// Who asked for it.
    pub by: String,
    /// Folders that lie beside their places.
    pub folders: Vec<JournaledFolder>,
    /// When whoever carries it out was last heard of, ms since 1970 by Redis' clock.
    pub seen_ms: u64,
}

impl Store {
    fn journal_key(&self) -> String {
        keys::restore_journal(self.namespace())
    }

    /// The newest restore, if there was one.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn restore_journal(&self) -> Result<Option<RestoreJournal>, StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(self.journal_key());
        command.arg(&["v", "id", "stage", "from", "to", "archive", "by", "folders", "seen"]);
        let fields: Vec<Option<String>> =
            decode("the journal of a restore", self.ask_pointer(&command).await?)?;
        let mut fields = fields.into_iter().map(Option::unwrap_or_default);
        let mut next = || fields.next().unwrap_or_default();
        let version = next();
        if version.is_empty() {
            return Ok(None);
        }
        let unreadable = |found: &str| StoreError::unreadable("the journal of a restore", found);
        if version != JOURNAL_VERSION.to_string() {
            return Err(unreadable(&format!("version {version}")));
        }
        let (id, stage, from, to) = (next(), next(), next(), next());
        let (archive, by, folders, seen) = (next(), next(), next(), next());
        Ok(Some(RestoreJournal {
            id,
            stage: RestoreStage::read(&stage).ok_or_else(|| unreadable(&stage))?,
            from: from.parse().map_err(|_| unreadable(&from))?,
            to: to.parse().map_err(|_| unreadable(&to))?,
            archive: archive.clone().try_into().map_err(|_| unreadable(&archive))?,
            by,
            folders: serde_json::from_str(&folders).map_err(|_| unreadable(&folders))?,
            seen_ms: seen.parse().map_err(|_| unreadable(&seen))?,
        }))
    }

    /// Writes all of it, before the commit.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn write_restore_journal(&self, journal: &RestoreJournal) -> Result<(), StoreError> {
        let seen_ms = self.redis_time_ms().await?;
        let mut command = redis::cmd("HSET");
        command.arg(self.journal_key()).arg("v").arg(JOURNAL_VERSION).arg("id").arg(&journal.id);
        command
            .arg("stage")
            .arg(journal.stage.word())
            .arg("from")
            .arg(journal.from)
            .arg("to")
            .arg(journal.to);
        command.arg("archive").arg(journal.archive.to_string()).arg("by").arg(&journal.by);
        command.arg("folders").arg(serde_json::to_string(&journal.folders).expect("plain data"));
        command.arg("seen").arg(seen_ms);
        self.ask_pointer(&command).await.map(drop)
    }

    /// Says that nothing is left to be done.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn close_restore_journal(&self) -> Result<(), StoreError> {
        let done = RestoreStage::Done.word();
        let command = redis::cmd("HSET").arg(self.journal_key()).arg("stage").arg(done).to_owned();
        self.ask_pointer(&command).await.map(drop)
    }

    /// Says that somebody still carries it out.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn touch_restore_journal(&self) -> Result<(), StoreError> {
        let seen_ms = self.redis_time_ms().await?;
        let command = redis::cmd("HSET").arg(self.journal_key()).arg("seen").arg(seen_ms).to_owned();
        self.ask_pointer(&command).await.map(drop)
    }

    /// The wall clock of Redis, ms since 1970.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn redis_time_ms(&self) -> Result<u64, StoreError> {
        let time: (u64, u64) = decode("the time", self.ask_pointer(&redis::cmd("TIME")).await?)?;
        Ok(time.0 * 1000 + time.1 / 1000)
    }
}
