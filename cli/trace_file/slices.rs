//! Slices of a trace: for each task its waits and attempts, within an attempt its phases.
//!
//! Slices of one task must lie within each other or apart, or a viewer draws nonsense; audit events are
//! in whole milliseconds, notes in microseconds. So each phase is kept within its attempt, in order.

use std::collections::HashMap;

use maestro_model::ids::Attempt;
use maestro_model::task::Reason;
use maestro_model::trace::{AttemptTrace, TracedValue};
use maestro_store::events::{AuditEvent, EventKind, TaskHappening};
use maestro_store::runs::RunRecord;
use maestro_store::trace::WrittenTrace;
use serde_json::{Value, json};

/// All slices of a run. Times in them are microseconds since its submission.
pub(super) fn of_run(
    run: &RunRecord,
    events: &[AuditEvent],
    notes: &[WrittenTrace],
    until_ms: u64,
) -> Vec<Value> {
    let notes = notes.iter().map(|note| ((note.trace.task.index, note.trace.attempt), note)).collect();
    let mut drawing = Drawing { zero_ms: run.created_at_ms, notes, open: HashMap::new(), slices: Vec::new() };
    for event in events {
        if let EventKind::Task { task, attempt, what, .. } = &event.kind {
            drawing.on_event(task.index, *attempt, what, event.at_ms);
        }
    }
    drawing.finish(until_ms)
}

/// What a task is at, and since when (ms since 1970).
enum Doing {
    Waiting { since_ms: u64, queue: String },
    Parked { since_ms: u64, why: &'static str },
    Working { since_ms: u64, attempt: u32, worker: String },
}

struct Drawing<'a> {
    zero_ms: u64,
    notes: HashMap<(u32, Attempt), &'a WrittenTrace>,
    open: HashMap<u32, Doing>,
    slices: Vec<Value>,
}

impl Drawing<'_> {
    fn on_event(&mut self, index: u32, attempt: u32, what: &TaskHappening, at_ms: u64) {
        let next = match what {
            TaskHappening::Queued { queue } => Some(Doing::Waiting { since_ms: at_ms, queue: queue.clone() }),
            TaskHappening::Started { worker } => {
                Some(Doing::Working { since_ms: at_ms, attempt, worker: worker.clone() })
            }
            TaskHappening::Parked { reason, .. } => {
                Some(Doing::Parked { since_ms: at_ms, why: reason.map_or("come back", Reason::word) })
            }
            TaskHappening::Returned | TaskHappening::Lost | TaskHappening::Retried => None,
            TaskHappening::Completed
            | TaskHappening::Failed { .. }
            | TaskHappening::Skipped
            | TaskHappening::Cancelled => None,
            // Of these the task goes on as it was.
            TaskHappening::Cancelling | TaskHappening::Fenced | TaskHappening::Expanded { .. } => return,
        };
        // A task that is told twice where it waits (in front of its run's gate, then in a queue) waits on.
        if let (Some(Doing::Waiting { queue, .. }), Some(Doing::Waiting { queue: new, .. })) =
            (self.open.get_mut(&index), &next)
        {
            queue.clone_from(new);
            return;
        }
        if let Some(doing) = self.open.remove(&index) {
            self.close(index, doing, at_ms, Some(what));
        }
        self.open.extend(next.map(|doing| (index, doing)));
    }

    /// What is still going on ends where the trace does.
    fn finish(mut self, until_ms: u64) -> Vec<Value> {
        let mut open: Vec<(u32, Doing)> = self.open.drain().collect();
        open.sort_by_key(|(index, _)| *index);
        for (index, doing) in open {
            self.close(index, doing, until_ms, None);
        }
        self.slices
    }

    fn micros(&self, at_ms: u64) -> u64 {
        at_ms.saturating_sub(self.zero_ms) * 1000
    }

    fn close(&mut self, index: u32, doing: Doing, at_ms: u64, end: Option<&TaskHappening>) {
        match doing {
            Doing::Waiting { since_ms, queue } => {
                let span = (self.micros(since_ms), self.micros(at_ms));
                self.slice(index, "queue wait", "wait", span, json!({ "queue": queue }));
            }
            Doing::Parked { since_ms, why } => {
                let span = (self.micros(since_ms), self.micros(at_ms));
                self.slice(index, "parked", "wait", span, json!({ "reason": why }));
            }
            // A `foreach` has no worker; its items are drawn for themselves.
            Doing::Working { since_ms, worker, .. } if worker.is_empty() => {
                let span = (self.micros(since_ms), self.micros(at_ms));
                self.slice(index, "items", "foreach", span, json!({}));
            }
            Doing::Working { since_ms, attempt, worker } => {
                let span = (self.micros(since_ms), self.micros(at_ms));
                self.attempt(index, attempt, &worker, span, end);
            }
        }
    }

    fn attempt(
        &mut self,
        index: u32,
        attempt: u32,
        worker: &str,
        span: (u64, u64),
        end: Option<&TaskHappening>,
    ) {
        let note = self.notes.get(&(index, Attempt(attempt))).copied();
        let mut args = json!({ "attempt": attempt, "worker": worker });
        if let Some(end) = end {
            args["ended"] = end.word().into();
        }
        if let Some(TaskHappening::Failed { reason, exit_code }) = end {
            args["reason"] = json!(reason.map(Reason::word));
            args["exit_code"] = json!(exit_code);
        }
        if let Some(WrittenTrace { trace, .. }) = note {
            args["prompt"] = trace.prompt.as_str().into();
            for (name, text) in [("result", &trace.result), ("message", &trace.message)] {
                if let Some(text) = text {
                    args[name] = text.as_str().into();
                }
            }
        }
        self.slice(index, &format!("attempt {attempt}"), "attempt", span, args);
        if let Some(note) = note {
            self.phases(index, note, span);
        }
    }

    /// What a worker noted, within the attempt.
    fn phases(&mut self, index: u32, note: &WrittenTrace, (from, to): (u64, u64)) {
        let AttemptTrace { phases, reads, writes, .. } = &note.trace;
        // The note was written at the agent's end; from there its other times are counted back.
        let taken_up = self.micros(note.at_ms).saturating_sub(phases.ended_us).clamp(from, to);
        let moments = [
            ("claim", Some(taken_up)),
            ("workspace", phases.workspace_us.map(|us| taken_up + us)),
            ("launch", phases.launched_us.map(|us| taken_up + us)),
            ("run", Some(taken_up + phases.ended_us)),
            ("report", Some(to)),
        ];
        let mut since = from;
        for (name, moment) in moments {
            let Some(moment) = moment.map(|moment| moment.clamp(since, to)) else { continue };
            self.slice(index, name, "phase", (since, moment), json!({}));
            since = moment;
        }
        let ended = (taken_up + phases.ended_us).min(to);
        for (verb, values, at) in [("read", reads, taken_up), ("write", writes, ended)] {
            for TracedValue { key, value, at_us } in values {
                let at = at_us.map_or(at, |us| (taken_up + us).clamp(from, to));
                self.slices.push(json!({
                    "ph": "i", "s": "t", "pid": 1, "tid": index + 1, "ts": at, "cat": "state",
                    "name": format!("{verb} {key}"), "args": { "key": key, "value": value },
                }));
            }
        }
    }

    fn slice(&mut self, index: u32, name: &str, category: &str, (from, to): (u64, u64), args: Value) {
        self.slices.push(json!({
            "ph": "X", "pid": 1, "tid": index + 1, "ts": from, "dur": to.saturating_sub(from),
            "name": name, "cat": category, "args": args,
        }));
    }
}
