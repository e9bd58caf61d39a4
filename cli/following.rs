//! Follows a run through the audit stream and shows it.
//!
//! The stream says what happened; names, messages and lines of output are read beside it. Losing the
//! connection loses nothing: reading goes on from the last event seen.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use maestro_model::ids::{Attempt, RunId, TaskId};
use maestro_model::task::Reason;
use maestro_store::events::{AuditEvent, EventKind, EventPosition, EventReader, TaskHappening};
use maestro_store::runs::{RunRecord, RunStatus};
use maestro_store::{Store, StoreError};

use crate::cluster::store_failure;
use crate::failure::Failure;
use crate::live::{RunDisplay, RunEnd, StepEvent, StepEventKind};
use crate::output::moment::now_ms;
use crate::traced_output::{TracedLine, TracedOutput};

/// Longest wait for events, and so for a frame.
const EVENTS_WAIT: Duration = Duration::from_millis(100);
/// How often the run itself is looked at, should its last event have been cut from the stream.
const RECORD_EVERY: Duration = Duration::from_secs(2);
/// How often lines of output are fetched, and of how many tasks.
const OUTPUT_EVERY: Duration = Duration::from_millis(250);
const OUTPUT_TASKS_MAX: usize = 64;
/// Pause before the stream is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// A run that is being followed.
pub(crate) struct Following<'a> {
    store: &'a Store,
    run: &'a RunId,
    position: EventPosition,
    labels: HashMap<u32, (String, Option<u32>)>,
    workers: HashMap<String, String>,
    running: HashMap<u32, (Attempt, String)>,
    traced: Option<TracedOutput>,
}

/// How a followed run ended.
#[derive(Debug, Clone)]
pub(crate) struct FollowedEnd {
    /// The run as it is now.
    pub(crate) record: RunRecord,
}

impl<'a> Following<'a> {
    /// Follows from a position on. `labels` names tasks whose step is known: step and item number by index.
    pub(crate) fn new(
        store: &'a Store,
        run: &'a RunId,
        position: EventPosition,
        labels: HashMap<u32, (String, Option<u32>)>,
    ) -> Following<'a> {
        Following {
            store,
            run,
            position,
            labels,
            workers: HashMap::new(),
            running: HashMap::new(),
            traced: None,
        }
    }

    /// With every line of standard output: the run is traced.
    #[must_use]
    pub(crate) fn traced(mut self) -> Following<'a> {
        self.traced = Some(TracedOutput::new(self.run.clone()));
        self
    }

    /// Shows the run until it ends. Dropping the future stops showing, nothing else.
    ///
    /// # Errors
    /// If Redis refuses, or the output cannot be written.
    pub(crate) async fn until_the_end(&mut self, display: &mut RunDisplay) -> Result<FollowedEnd, Failure> {
        let mut reader: Option<EventReader> = None;
        let mut looked_at = Instant::now();
        let mut output_at = Instant::now();
        loop {
            let events = match self.next_events(&mut reader).await {
                Ok(events) => events,
                Err(error) if error.may_pass() => {
                    reader = None;
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(store_failure(error)),
            };
            let ended = self.show(&events, display).await?;
            let due = looked_at.elapsed() > RECORD_EVERY;
            if ended || due {
                looked_at = Instant::now();
                if let Some(record) = self.ended().await? {
                    return self.finish(record, display).await;
                }
            }
            if self.traced.is_some() {
                self.show_traced(display).await?;
            } else if display.wants_output() && output_at.elapsed() > OUTPUT_EVERY {
                output_at = Instant::now();
                self.show_output(display).await?;
            }
            display.tick(now_ms())?;
        }
    }

    async fn next_events(&mut self, reader: &mut Option<EventReader>) -> Result<Vec<AuditEvent>, StoreError> {
        let open = match reader {
            Some(open) => open,
            None => reader.insert(self.store.follow_events(self.position.clone(), EVENTS_WAIT).await?),
        };
        let events = open.next().await?;
        self.position = open.position().clone();
        Ok(events)
    }

    async fn ended(&self) -> Result<Option<RunRecord>, Failure> {
        let record = self.store.run(self.run).await.map_err(store_failure)?;
        let Some(record) = record else {
            return Err(Failure::not_found(format!("run `{}` was removed while it was followed", self.run)));
        };
        Ok(record.status.is_final().then_some(record))
    }

    async fn finish(&mut self, record: RunRecord, display: &mut RunDisplay) -> Result<FollowedEnd, Failure> {
        if let Some(traced) = &mut self.traced {
            let lines = traced.last_lines(self.store).await.map_err(store_failure)?;
            self.show_lines(lines, display)?;
        }
        let end = match record.status {
            RunStatus::Completed => RunEnd::Completed,
            RunStatus::Cancelled => RunEnd::Cancelled,
            _ => RunEnd::Failed,
        };
        display.finish(end, record.finished_at_ms.unwrap_or_else(now_ms))?;
        Ok(FollowedEnd { record })
    }

    async fn show_traced(&mut self, display: &mut RunDisplay) -> Result<(), Failure> {
        let Some(traced) = &mut self.traced else { return Ok(()) };
        match traced.next_lines(self.store).await {
            Ok(lines) => self.show_lines(lines, display),
            Err(error) if error.may_pass() => Ok(()),
            Err(error) => Err(store_failure(error)),
        }
    }

    fn show_lines(&self, lines: Vec<TracedLine>, display: &mut RunDisplay) -> Result<(), Failure> {
        for TracedLine { index, at_ms, text } in lines {
            let Some((step, item)) = self.labels.get(&index).cloned() else { continue };
            let kind = StepEventKind::Output { line: text };
            display.on_event(&StepEvent { at: at_ms, step, item, kind })?;
        }
        Ok(())
    }

    /// Shows events of this run; true if one of them says that it ended.
    async fn show(&mut self, events: &[AuditEvent], display: &mut RunDisplay) -> Result<bool, Failure> {
        let ours: Vec<&AuditEvent> = events.iter().filter(|event| event.run() == Some(self.run)).collect();
        self.learn_labels(&ours).await?;
        let messages = self.messages(&ours).await?;
        let mut ended = false;
        for event in ours {
            match &event.kind {
                EventKind::Run { word, .. } => {
                    ended |= matches!(word.as_str(), "completed" | "failed" | "cancelled" | "collected");
                }
                EventKind::Task { task, attempt, who, what } => {
                    let message = messages.get(&task.index).cloned();
                    self.keep_running(task.index, *attempt, who, what);
                    let Some(kind) = self.step_event(*attempt, who, what, message) else { continue };
                    let Some((step, item)) = self.labels.get(&task.index).cloned() else { continue };
                    display.on_event(&StepEvent { at: event.at_ms, step, item, kind })?;
                }
                EventKind::State { .. } | EventKind::Other { .. } => {}
            }
        }
        Ok(ended)
    }

    fn keep_running(&mut self, index: u32, attempt: u32, who: &str, what: &TaskHappening) {
        match what {
            TaskHappening::Started { worker } => {
                self.workers.insert(who.to_owned(), worker.clone());
                if !who.is_empty() {
                    self.running.insert(index, (Attempt(attempt), String::new()));
                    if let Some(traced) = &mut self.traced {
                        traced.on_started(index, Attempt(attempt));
                    }
                }
            }
            TaskHappening::Cancelling | TaskHappening::Fenced | TaskHappening::Expanded { .. } => {}
            _ => {
                self.running.remove(&index);
                if let Some(traced) = &mut self.traced {
                    traced.on_ended(index);
                }
            }
        }
    }

    fn step_event(
        &self,
        attempt: u32,
        who: &str,
        what: &TaskHappening,
        message: Option<String>,
    ) -> Option<StepEventKind> {
        Some(match what {
            TaskHappening::Queued { .. } => StepEventKind::Queued,
            // A `foreach` starts with its items: that a coordinator took it up is nobody's business.
            TaskHappening::Started { worker } if worker.is_empty() || worker.contains('/') => return None,
            TaskHappening::Started { worker } => StepEventKind::Started { attempt, worker: worker.clone() },
            TaskHappening::Expanded { items } => StepEventKind::Expanded { count: *items },
            TaskHappening::Completed => StepEventKind::Completed,
            TaskHappening::Failed { reason, exit_code } => StepEventKind::Failed {
                reason: reason.unwrap_or(Reason::Exit),
                exit_code: *exit_code,
                message,
            },
            TaskHappening::Skipped => StepEventKind::Skipped,
            TaskHappening::Cancelled => StepEventKind::Cancelled,
            TaskHappening::Parked { reason: Some(reason), until_ms } => {
                StepEventKind::Retrying { reason: *reason, exit_code: None, message, until: *until_ms }
            }
            TaskHappening::Parked { reason: None, until_ms } => StepEventKind::Parked { until: *until_ms },
            TaskHappening::Lost => {
                StepEventKind::Lost { worker: self.workers.get(who).cloned().unwrap_or_default() }
            }
            TaskHappening::Returned => StepEventKind::Returned,
            // What follows a retry is told by the queue.
            TaskHappening::Cancelling | TaskHappening::Retried | TaskHappening::Fenced => return None,
        })
    }

    /// Names of tasks that were not in the plan: items of a `foreach` that was expanded meanwhile.
    async fn learn_labels(&mut self, events: &[&AuditEvent]) -> Result<(), Failure> {
        let unknown: HashSet<u32> = events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::Task { task, .. } if !self.labels.contains_key(&task.index) => Some(task.index),
                _ => None,
            })
            .collect();
        for index in unknown {
            let task =
                self.store.task(&TaskId { run: self.run.clone(), index }).await.map_err(store_failure)?;
            self.labels.insert(index, (task.own.step, task.own.number));
        }
        Ok(())
    }

    /// Messages of tasks that failed, by index.
    async fn messages(&self, events: &[&AuditEvent]) -> Result<HashMap<u32, String>, Failure> {
        let failed = |event: &&AuditEvent| match &event.kind {
            EventKind::Task {
                task,
                what: TaskHappening::Failed { .. } | TaskHappening::Parked { .. },
                ..
            } => Some(task.index),
            _ => None,
        };
        let indexes: Vec<u32> = events.iter().filter_map(failed).collect();
        if indexes.is_empty() {
            return Ok(HashMap::new());
        }
        let outputs = self.store.outputs(self.run, &indexes).await.map_err(store_failure)?;
        let messages = indexes.into_iter().zip(outputs);
        Ok(messages.filter_map(|(index, output)| Some((index, output?.message?))).collect())
    }

    async fn show_output(&mut self, display: &mut RunDisplay) -> Result<(), Failure> {
        let attempts: Vec<(TaskId, Attempt)> = self
            .running
            .iter()
            .take(OUTPUT_TASKS_MAX)
            .map(|(index, (attempt, _))| (TaskId { run: self.run.clone(), index: *index }, *attempt))
            .collect();
        if attempts.is_empty() {
            return Ok(());
        }
        let pieces = match self.store.last_log_pieces(&attempts).await {
            Ok(pieces) => pieces,
            Err(error) if error.may_pass() => return Ok(()),
            Err(error) => return Err(store_failure(error)),
        };
        for ((task, _), piece) in attempts.iter().zip(pieces) {
            let Some(piece) = piece else { continue };
            let Some((_, last_id)) = self.running.get_mut(&task.index) else { continue };
            if *last_id == piece.id {
                continue;
            }
            last_id.clone_from(&piece.id);
            let text = String::from_utf8_lossy(&piece.bytes);
            let Some(line) = text.lines().rfind(|line| !line.trim().is_empty()) else { continue };
            let Some((step, item)) = self.labels.get(&task.index).cloned() else { continue };
            let kind = StepEventKind::Output { line: line.to_owned() };
            display.on_event(&StepEvent { at: piece.at_ms, step, item, kind })?;
        }
        Ok(())
    }
}
