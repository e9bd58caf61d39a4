//! Ending an attempt from outside, and looking at it while it runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::log_capture::SecretMask;

/// Why the dispatcher ends an attempt. A later kind replaces an earlier one, never the other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopKind {
    /// The worker drains, or lost its lease: the task goes back.
    Return,
    /// The task is cancelled.
    Cancel,
}

/// What has been asked of an attempt so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StopRequest {
    pub(super) kind: Option<StopKind>,
    pub(super) hurry: bool,
    /// In place of the order's own grace.
    pub(super) grace: Option<Duration>,
}

/// What there is to see of an attempt.
#[derive(Debug, Clone)]
pub struct LiveView {
    /// The agent's first process, while it runs.
    pub pid: Option<u32>,
    /// When it wrote something last; the launch, before it has written anything.
    pub last_output: Instant,
    /// Bytes written so far.
    pub output_bytes: u64,
    /// The last line it wrote, fit for a terminal, at most 200 bytes.
    pub last_line: String,
}

/// How far an attempt came and when, for a trace.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttemptMilestones {
    /// Its workspace was ready.
    pub(crate) prepared: Option<Instant>,
    /// Its agent had started.
    pub(crate) launched: Option<Instant>,
    /// What hides its secrets, once they are known.
    pub(crate) mask: Option<Arc<SecretMask>>,
}

/// A hold on an attempt that runs elsewhere. Clones hold the same one; dropping them does nothing.
#[derive(Clone)]
pub struct AttemptHandle {
    pub(super) stop: watch::Sender<StopRequest>,
    pub(super) live: Arc<LiveOutput>,
}

impl AttemptHandle {
    /// Ends the attempt: SIGTERM for the whole tree, the order's grace, SIGKILL. One that has not launched
    /// its agent yet never will. Asking again is harmless.
    pub fn stop(&self, kind: StopKind) {
        self.stop.send_modify(|request| request.kind = request.kind.max(Some(kind)));
    }

    /// The same without grace, also for one that is being ended already.
    pub fn stop_now(&self, kind: StopKind) {
        self.stop.send_modify(|request| {
            request.kind = request.kind.max(Some(kind));
            request.hurry = true;
        });
    }

    /// The same with another grace than the order's. Of an attempt that is being ended already the shorter time
    /// counts, from now on.
    pub fn stop_within(&self, kind: StopKind, grace: Duration) {
        self.stop.send_modify(|request| {
            request.kind = request.kind.max(Some(kind));
            request.grace = Some(grace);
        });
    }

    /// How it looks at this moment.
    pub fn live(&self) -> LiveView {
        self.live.view()
    }

    /// How far it has come.
    pub(crate) fn milestones(&self) -> AttemptMilestones {
        self.live.1.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the attempt's future tells its handles.
pub(super) struct LiveOutput(Mutex<LiveView>, Mutex<AttemptMilestones>);

impl LiveOutput {
    pub(super) fn new() -> LiveOutput {
        let view =
            LiveView { pid: None, last_output: Instant::now(), output_bytes: 0, last_line: String::new() };
        LiveOutput(Mutex::new(view), Mutex::default())
    }

    pub(super) fn view(&self) -> LiveView {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how far it has come.
    pub(super) fn reach(&self, note: impl FnOnce(&mut AttemptMilestones)) {
        note(&mut self.1.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut LiveView)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
