//! Lines of standard output of a run that is traced, while they come: `TRACE: [<time>] <step>: <line>`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use maestro_model::ids::{Attempt, RunId, TaskId};
use maestro_store::logs::LogStream;
use maestro_store::{Store, StoreError};

use crate::commands::task::log_lines::{LogCursor, LogLine};
use crate::commands::task::logs::{LAST_LINES_WAIT, LOOK_EVERY};
use crate::output::foreign::harmless;
use crate::output::moment::rfc3339;

/// Logs read in one turn.
const LOGS_PER_TURN: usize = 64;
/// Longest wait for lines that are on their way when the run has ended.
const DRAIN_WAIT: Duration = Duration::from_secs(3);

/// A line as it is shown of a traced run.
pub(crate) fn traced_line(at_ms: u64, label: &str, line: &str) -> String {
    format!("TRACE: [{}] {}: {}", rfc3339(at_ms), harmless(label), harmless(line))
}

/// A line and the task it came from.
pub(crate) struct TracedLine {
    /// The task's index in its run.
    pub(crate) index: u32,
    /// When it was written, ms since 1970.
    pub(crate) at_ms: u64,
    /// The line, without its break.
    pub(crate) text: String,
}

/// The logs of attempts that run, or have only just ended.
pub(crate) struct TracedOutput {
    run: RunId,
    open: BTreeMap<(u32, Attempt), OpenTrace>,
    /// The log after which the next turn begins.
    turn: (u32, Attempt),
}

struct OpenTrace {
    cursor: LogCursor,
    /// When the last line came, or the end of its attempt was told, whatever was later.
    quiet_since: Option<Instant>,
}

impl TracedOutput {
    /// Of a run of which nothing has started yet.
    pub(crate) fn new(run: RunId) -> TracedOutput {
        TracedOutput { run, open: BTreeMap::new(), turn: (0, Attempt(0)) }
    }

    /// An attempt has begun.
    pub(crate) fn on_started(&mut self, index: u32, attempt: Attempt) {
        let task = TaskId { run: self.run.clone(), index };
        let trace = OpenTrace { cursor: LogCursor::new(task, attempt), quiet_since: None };
        self.open.entry((index, attempt)).or_insert(trace);
    }

    /// Whatever ran of a task has ended; its last lines may be on their way.
    pub(crate) fn on_ended(&mut self, index: u32) {
        let range = (index, Attempt(0))..=(index, Attempt(u32::MAX));
        for (_, trace) in self.open.range_mut(range) {
            trace.quiet_since.get_or_insert_with(Instant::now);
        }
    }

    /// Lines that have come meanwhile.
    ///
    /// # Errors
    /// What the store says; asked again, it goes on where it was.
    pub(crate) async fn next_lines(&mut self, store: &Store) -> Result<Vec<TracedLine>, StoreError> {
        let mut keys: Vec<(u32, Attempt)> = self
            .open
            .range((std::ops::Bound::Excluded(self.turn), std::ops::Bound::Unbounded))
            .map(|(key, _)| *key)
            .take(LOGS_PER_TURN)
            .collect();
        if keys.len() < LOGS_PER_TURN {
            let rest = LOGS_PER_TURN - keys.len();
            keys.extend(self.open.range(..=self.turn).map(|(key, _)| *key).take(rest));
        }
        let mut lines = Vec::new();
        for key in keys {
            self.turn = key;
            let Some(trace) = self.open.get_mut(&key) else { continue };
            match trace.cursor.next(store).await? {
                Some(new) => {
                    trace.quiet_since = trace.quiet_since.map(|_| Instant::now());
                    lines.extend(new.iter().filter_map(|line| traced(key.0, line)));
                }
                None if trace.quiet_since.is_some_and(|since| since.elapsed() > LAST_LINES_WAIT) => {
                    lines.extend(trace.cursor.finish().iter().filter_map(|line| traced(key.0, line)));
                    self.open.remove(&key);
                }
                None => {}
            }
        }
        Ok(lines)
    }

    /// Waits for what is on its way when the run has ended.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn last_lines(&mut self, store: &Store) -> Result<Vec<TracedLine>, StoreError> {
        let begun = Instant::now();
        let indexes: Vec<u32> = self.open.keys().map(|(index, _)| *index).collect();
        indexes.into_iter().for_each(|index| self.on_ended(index));
        let mut lines = Vec::new();
        while !self.open.is_empty() && begun.elapsed() < DRAIN_WAIT {
            lines.extend(self.next_lines(store).await?);
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(lines)
    }
}

fn traced(index: u32, line: &LogLine) -> Option<TracedLine> {
    let text = || String::from_utf8_lossy(line.content()).into_owned();
    (line.stream == LogStream::Stdout).then(|| TracedLine { index, at_ms: line.at_ms, text: text() })
}
