//! Notes that workers leave of the attempts of a traced run.
//!
//! A run that is not traced has no such key. The notes go with the run.

use std::time::Duration;

use maestro_model::ids::RunId;
use maestro_model::trace::AttemptTrace;

use crate::cell::{Store, decode};
use crate::error::StoreError;

/// Notes kept of one run; the oldest go first.
pub const TRACE_NOTES_MAX: usize = 5_000;
/// The key outlives the longest retention by a day, and goes even if nobody collects it.
const TRACE_LIFE: Duration = Duration::from_secs(8 * 24 * 3600);
/// Notes read at one time.
const NOTES_PER_READ: usize = 100;

/// A note, and when it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenTrace {
    /// By Redis' clock, ms since 1970.
    pub at_ms: u64,
    /// The note.
    pub trace: AttemptTrace,
}

impl Store {
    /// Adds a note.
    ///
    /// # Errors
    /// `Unreachable`, `Refused` (also at the memory limit: then the trace lacks it).
    pub async fn append_trace(&self, trace: &AttemptTrace) -> Result<(), StoreError> {
        let key = self.keys().run_trace(&trace.task.run);
        let note = serde_json::to_string(trace).expect("a note is plain data");
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("XADD")
            .arg(&key)
            .arg("MAXLEN")
            .arg("~")
            .arg(TRACE_NOTES_MAX)
            .arg("*")
            .arg("a")
            .arg(note);
        pipeline.cmd("EXPIRE").arg(&key).arg(TRACE_LIFE.as_secs());
        self.ask_all(&pipeline).await.map(drop)
    }

    /// All notes of a run, oldest first. Those of a newer version are passed over.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn read_trace(&self, run: &RunId) -> Result<Vec<WrittenTrace>, StoreError> {
        let mut notes = Vec::new();
        let mut after = "0".to_owned();
        loop {
            let mut command = redis::cmd("XRANGE");
            command.arg(self.keys().run_trace(run)).arg(format!("({after}")).arg("+");
            command.arg("COUNT").arg(NOTES_PER_READ);
            type Entries = Vec<(String, Vec<(String, String)>)>;
            let entries: Entries = decode("a trace", self.ask(&command).await?)?;
            let Some((last, _)) = entries.last() else { return Ok(notes) };
            after.clone_from(last);
            for (id, fields) in entries {
                let at_ms = id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
                let texts = fields.into_iter().map(|(_, text)| text);
                notes.extend(texts.filter_map(|text| {
                    Some(WrittenTrace { at_ms, trace: serde_json::from_str(&text).ok()? })
                }));
            }
        }
    }
}
