//! Notes of an attempt in a run that is traced: phases, prompt, result, state read and written.
//!
//! Made only for such runs; nothing here is on the path of others. Written before the report, so that a
//! run that has ended has all its notes; a Redis that is slow costs a note, not the task.

use std::time::{Duration, Instant, SystemTime};

use maestro_model::attempt::AttemptReport;
use maestro_model::ids::WorkerName;
use maestro_model::trace::{
    AttemptTrace, TRACE_VERSION, TRACED_VALUES_MAX, TracePhases, TracedValue, traced_text,
};
use maestro_store::Store;
use maestro_store::brought::ReadyGrant;
use maestro_store::step::GatheredValue;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::attempt::AttemptMilestones;
use crate::decide::Rendered;
use crate::side_door::{AccessKind, DoorAccess};

/// Longest wait for Redis to take a note.
const NOTE_WAIT: Duration = Duration::from_secs(2);

/// A note that is being made.
#[derive(Debug)]
pub(crate) struct TraceNotes {
    begun: Instant,
    /// The same moment by the clock that stamps what passes through the side door.
    begun_at: SystemTime,
    trace: AttemptTrace,
    accesses: (mpsc::Sender<DoorAccess>, mpsc::Receiver<DoorAccess>),
}

impl TraceNotes {
    /// Begins one, if the run is traced.
    pub(crate) fn begin(rendered: &Rendered, worker: &WorkerName) -> Option<TraceNotes> {
        let ready = &rendered.ready;
        if !ready.context.trace {
            return None;
        }
        let trace = AttemptTrace {
            v: TRACE_VERSION,
            task: ready.grant.task.clone(),
            attempt: ready.grant.attempt,
            worker: worker.to_string(),
            phases: TracePhases::default(),
            prompt: rendered.prompt.clone(),
            result: None,
            message: None,
            reads: state_read(ready),
            writes: Vec::new(),
        };
        // What does not fit is not in the trace; the agent never waits for it.
        let accesses = mpsc::channel(2 * TRACED_VALUES_MAX);
        Some(TraceNotes { begun: Instant::now(), begun_at: SystemTime::now(), trace, accesses })
    }

    /// Who is told of what passes through the side door.
    pub(crate) fn listener(&self) -> mpsc::Sender<DoorAccess> {
        self.accesses.0.clone()
    }

    /// Adds how it went. What is kept is masked first and cut then, so that no half of a secret stays.
    pub(crate) fn end(self, report: &AttemptReport, milestones: &AttemptMilestones) -> AttemptTrace {
        let TraceNotes { begun, begun_at, mut trace, accesses: (_, mut accesses) } = self;
        let since = |moment: Instant| moment.saturating_duration_since(begun).as_micros() as u64;
        trace.phases = TracePhases {
            workspace_us: milestones.prepared.map(since),
            launched_us: milestones.launched.map(since),
            ended_us: since(Instant::now()),
        };
        trace.result = report.outputs.as_ref().map(|outputs| text_of(&outputs.result));
        trace.message.clone_from(&report.message);
        while let Ok(access) = accesses.try_recv() {
            let at_us = access.at.duration_since(begun_at).unwrap_or_default().as_micros() as u64;
            let (list, value) = match access.kind {
                AccessKind::Read { value } => (&mut trace.reads, value),
                AccessKind::Written { value, .. } => (&mut trace.writes, Some(value)),
                AccessKind::Deleted => (&mut trace.writes, None),
            };
            let value = value.as_ref().map(text_of);
            list.push(TracedValue { key: access.key, value, at_us: Some(at_us) });
        }
        trace.writes.extend(report.publish.iter().map(written));
        trace.reads.truncate(TRACED_VALUES_MAX);
        trace.writes.truncate(TRACED_VALUES_MAX);
        let kept = |text: &mut String| {
            if let Some(mask) = &milestones.mask {
                *text = mask.text(text);
            }
            *text = traced_text(text);
        };
        kept(&mut trace.prompt);
        trace.result.as_mut().map(kept);
        trace.message.as_mut().map(kept);
        trace.reads.iter_mut().chain(&mut trace.writes).filter_map(|one| one.value.as_mut()).for_each(kept);
        trace
    }
}

/// Writes a note, or says that it is missing.
pub(crate) async fn write_note(store: &Store, trace: &AttemptTrace) {
    let task = &trace.task;
    match tokio::time::timeout(NOTE_WAIT, store.append_trace(trace)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%task, "the trace lacks an attempt: {error}"),
        Err(_) => tracing::warn!(%task, "the trace lacks an attempt: redis did not answer in time"),
    }
}

fn state_read(ready: &ReadyGrant) -> Vec<TracedValue> {
    let read = ready.grant.values.iter().filter_map(|value| match value {
        GatheredValue::State { key, value: Some(value), .. } => {
            Some(TracedValue { key: key.clone(), value: Some(value.clone()), at_us: None })
        }
        _ => None,
    });
    read.take(TRACED_VALUES_MAX).collect()
}

fn written((key, value): (&String, &Value)) -> TracedValue {
    TracedValue { key: key.clone(), value: Some(text_of(value)), at_us: None }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
