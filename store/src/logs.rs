//! Tails of logs: what agents print, while they print it, kept within bounds.
//!
//! The whole log is the worker's file; here is its last part, readable also after the worker is gone.

use std::time::Duration;

use maestro_model::ids::{Attempt, TaskId};
use redis::Value;

use crate::cell::{Store, decode};
use crate::error::StoreError;

/// Which stream of the agent a piece came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Maestro's own words about the log, such as what is missing.
    Note,
}

impl LogStream {
    fn letter(self) -> &'static str {
        match self {
            LogStream::Stdout => "o",
            LogStream::Stderr => "e",
            LogStream::Note => "n",
        }
    }

    fn from_letter(letter: &str) -> LogStream {
        match letter {
            "o" => LogStream::Stdout,
            "e" => LogStream::Stderr,
            _ => LogStream::Note,
        }
    }
}

/// One piece of a log, bytes as the agent printed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece {
    /// Its place in the log; grows.
    pub id: String,
    /// When it was written, ms since 1970.
    pub at_ms: u64,
    /// Where it came from.
    pub stream: LogStream,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Keys outlive the longest retention by a day, and go even if nobody collects them.
const LOG_LIFE: Duration = Duration::from_secs(8 * 24 * 3600);
/// An entry as Redis answers it: its id, and bytes by the letter of their stream.
type LogEntry = (String, Vec<(String, Vec<u8>)>);

/// Pieces read at one time.
const PIECES_PER_READ: usize = 200;

impl Store {
    /// Appends pieces and cuts the log to what `keep_from` (an id) leaves; the new ids.
    ///
    /// # Errors
    /// `Unreachable`, `Refused` (also at the memory limit: the file has it all).
    pub async fn append_log(
        &self,
        task: &TaskId,
        attempt: Attempt,
        pieces: &[(LogStream, &[u8])],
        keep_from: Option<&str>,
    ) -> Result<Vec<String>, StoreError> {
        let key = self.keys().log(task, attempt);
        let mut pipeline = redis::pipe();
        for (stream, bytes) in pieces {
            pipeline.cmd("XADD").arg(&key).arg("*").arg(stream.letter()).arg(*bytes);
        }
        if let Some(first) = keep_from {
            pipeline.cmd("XTRIM").arg(&key).arg("MINID").arg(first).ignore();
        }
        pipeline.cmd("EXPIRE").arg(&key).arg(LOG_LIFE.as_secs()).ignore();
        let values = self.ask_all(&pipeline).await?;
        values.into_iter().take(pieces.len()).map(|value| decode("the id of a log piece", value)).collect()
    }

    /// Cuts a log to what `keep_from` leaves.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn trim_log(&self, task: &TaskId, attempt: Attempt, keep_from: &str) -> Result<(), StoreError> {
        let command =
            redis::cmd("XTRIM").arg(self.keys().log(task, attempt)).arg("MINID").arg(keep_from).to_owned();
        self.ask(&command).await.map(drop)
    }

    /// Pieces after an id (`0` = from the start of what is kept), a portion at a time.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn read_log(
        &self,
        task: &TaskId,
        attempt: Attempt,
        after: &str,
    ) -> Result<Vec<LogPiece>, StoreError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys().log(task, attempt)).arg(format!("({after}")).arg("+");
        command.arg("COUNT").arg(PIECES_PER_READ);
        let entries: Vec<LogEntry> = decode("a log", self.ask(&command).await?)?;
        Ok(entries.into_iter().flat_map(|(id, fields)| read_pieces(&id, fields)).collect())
    }

    /// The last piece of each log, for the live view; none where there is no log.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn last_log_pieces(
        &self,
        attempts: &[(TaskId, Attempt)],
    ) -> Result<Vec<Option<LogPiece>>, StoreError> {
        let mut pipeline = redis::pipe();
        for (task, attempt) in attempts {
            let key = self.keys().log(task, *attempt);
            pipeline.cmd("XREVRANGE").arg(key).arg("+").arg("-").arg("COUNT").arg(1);
        }
        let values = self.ask_all(&pipeline).await?;
        values.into_iter().map(read_last).collect()
    }
}

fn read_last(value: Value) -> Result<Option<LogPiece>, StoreError> {
    let entries: Vec<LogEntry> = decode("a log", value)?;
    Ok(entries.into_iter().flat_map(|(id, fields)| read_pieces(&id, fields)).next_back())
}

fn read_pieces(id: &str, fields: Vec<(String, Vec<u8>)>) -> Vec<LogPiece> {
    let at_ms = id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
    let piece = |(letter, bytes): (String, Vec<u8>)| LogPiece {
        id: id.to_owned(),
        at_ms,
        stream: LogStream::from_letter(&letter),
        bytes,
    };
    fields.into_iter().map(piece).collect()
}
