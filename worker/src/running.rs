//! Attempts whose agents run: launching them, ending them, and telling how they ended.
//!
//! Each runs in a task of its own; what its end means for the worker is decided in `dispatcher`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use maestro_model::attempt::{AttemptOutcome, AttemptReport};
use maestro_model::ids::WorkerName;
use maestro_model::task::Reason;
use maestro_store::Store;
use tokio::sync::{mpsc, watch};

use crate::attempt::{AttemptEnd, AttemptHandle, AttemptRun, AttemptRunner, StopKind};
use crate::decide::{Rendered, with_publish};
use crate::events::{Breakage, EndCause, WorkerEvent};
use crate::held::AttemptKey;
use crate::janitor::mark_ended;
use crate::launch_order::launch_order;
use crate::log_capture::LogSender;
use crate::log_shipper::{LogEnd, LogEnds};
use crate::settings::WorkerSettings;

/// Starts attempts and has a hold on each that runs.
pub struct RunningAttempts {
    settings: Arc<WorkerSettings>,
    worker: WorkerName,
    runner: AttemptRunner,
    handles: Arc<Mutex<HashMap<AttemptKey, AttemptHandle>>>,
    logs: LogSender,
    log_ends: LogEnds,
    store: watch::Receiver<Store>,
    events: mpsc::UnboundedSender<WorkerEvent>,
}

impl RunningAttempts {
    /// None runs yet.
    pub fn new(
        settings: Arc<WorkerSettings>,
        worker: WorkerName,
        runner: AttemptRunner,
        (logs, log_ends): (LogSender, LogEnds),
        store: watch::Receiver<Store>,
        events: mpsc::UnboundedSender<WorkerEvent>,
    ) -> RunningAttempts {
        RunningAttempts { settings, worker, runner, handles: Arc::default(), logs, log_ends, store, events }
    }

    /// Launches an agent. Its handle is there before this returns, so that whatever comes after finds it.
    pub fn launch(&self, rendered: Rendered) {
        let ready = &rendered.ready;
        let key = (ready.grant.task.clone(), ready.grant.attempt);
        let (slug, shared) = (ready.agent.slug.clone(), ready.shared.clone());
        let order = match launch_order(&rendered, &self.settings, self.runner.root(), &self.worker) {
            Ok(order) => order,
            Err(report) => {
                let _ = self.events.send(WorkerEvent::AttemptEnded(key, *report, None));
                return;
            }
        };
        let paths = self.runner.root().paths(&slug, &key.0, key.1, order.order.place);
        let attempt = self.runner.attempt(order.order, Some(self.logs.clone()));
        self.handles.lock().expect("no holder panics").insert(key.clone(), attempt.handle());
        let (handles, log_ends, events) = (self.handles.clone(), self.log_ends.clone(), self.events.clone());
        let store = self.store.clone();
        tokio::spawn(async move {
            let (report, broken) = run_guarded(attempt).await;
            let report = with_publish(report, &shared, &order.scope);
            handles.lock().expect("no holder panics").remove(&key);
            mark_ended(&paths, store.borrow().cluster_id());
            let failed = matches!(report.outcome, AttemptOutcome::Failed { .. });
            // With the queue full the log only stays longer than it must.
            let _ = log_ends.try_send(LogEnd { task: key.0.clone(), attempt: key.1, failed });
            let broken = broken.map(|part| Breakage::of(part, &slug));
            let _ = events.send(WorkerEvent::AttemptEnded(key, report, broken));
        });
    }

    /// Ends an attempt. One without a handle has ended, and its end is on its way.
    pub fn end(&self, key: &AttemptKey, cause: EndCause) {
        let handles = self.handles.lock().expect("no holder panics");
        let Some(handle) = handles.get(key) else { return };
        match cause {
            EndCause::Cancel => handle.stop(StopKind::Cancel),
            EndCause::Return => handle.stop(StopKind::Return),
            EndCause::Discard => handle.stop_now(StopKind::Return),
        }
    }
}

/// Runs an attempt so that a bug in it costs that attempt, and not its slot for ever.
async fn run_guarded(attempt: AttemptRun) -> (AttemptReport, Option<crate::attempt::BrokenPart>) {
    match tokio::spawn(attempt.run()).await {
        Ok(AttemptEnd { report, broken, .. }) => (report, broken),
        Err(error) => {
            tracing::error!("an attempt broke down: {error}");
            let message = "the worker broke down while it ran the agent";
            (AttemptReport::failed(Reason::Infra, None, message), None)
        }
    }
}
