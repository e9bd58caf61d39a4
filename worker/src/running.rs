//! Attempts whose agents run: launching them, ending them, and telling how they ended.
//!
//! Each runs in a task of its own; what its end means for the worker is decided in `dispatcher`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use maestro_model::agent_type::OutputFormat;
use maestro_model::attempt::{AttemptOutcome, AttemptReport};
use maestro_model::ids::{AgentId, AgentSlug, Incarnation, WorkerName};
use maestro_model::task::Reason;
use maestro_store::Store;
use maestro_store::worker::KilledAgent;
use maestro_vitals::tally::tally;
use tokio::sync::{mpsc, watch};

use crate::attempt::{AttemptEnd, AttemptHandle, AttemptRun, AttemptRunner, BrokenPart, StopKind};
use crate::decide::{Rendered, with_publish};
use crate::events::{Breakage, EndCause, WorkerEvent};
use crate::failsafe::FolderUsers;
use crate::held::AttemptKey;
use crate::janitor::mark_ended;
use crate::killed::KilledAgents;
use crate::launch::MainEnd;
use crate::launch_order::launch_order;
use crate::log_capture::LogSender;
use crate::log_shipper::{LogEnd, LogEnds};
use crate::settings::WorkerSettings;
use crate::side_door::{SideDoors, SideDoorsSettings};
use crate::standstill::Standstill;
use crate::step_copy::Bringer;
use crate::trace_notes::{TraceNotes, write_note};
use crate::workspace::WorkspacePaths;

/// Longest that the end of a further attempt waits for what the earlier ones have used.
const EARLIER_USE_WAIT: Duration = Duration::from_secs(2);

/// An attempt that is being launched, runs, or is being ended.
#[derive(Clone)]
pub struct LiveAttempt {
    /// The hold on it.
    pub handle: AttemptHandle,
    /// Its agent's type.
    pub agent: AgentSlug,
    /// The agent, if one is assigned.
    pub assigned: Option<AgentId>,
    /// Where it works.
    pub paths: WorkspacePaths,
    /// Without output for so long it is ended.
    pub stall_timeout: Option<Duration>,
}

/// All of them; the mailbox and whoever samples look at them from aside.
pub type LiveAttempts = Arc<Mutex<HashMap<AttemptKey, LiveAttempt>>>;

/// Starts attempts and has a hold on each that runs.
pub struct RunningAttempts {
    settings: Arc<WorkerSettings>,
    worker: WorkerName,
    runner: AttemptRunner,
    live: LiveAttempts,
    logs: LogSender,
    log_ends: LogEnds,
    store: watch::Receiver<Store>,
    /// In whose name agents speak through their side doors.
    incarnation: Incarnation,
    doors: SideDoors,
    bringer: Bringer,
    standstill: Standstill,
    killed: KilledAgents,
    /// Who works in folders that go on from task to task.
    users: FolderUsers,
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
        incarnation: Incarnation,
        events: mpsc::UnboundedSender<WorkerEvent>,
    ) -> RunningAttempts {
        let doors = SideDoorsSettings {
            short_folders: settings.short_folders.clone(),
            owner: format!("{}\0{worker}", runner.root().path().display()),
            state_ttl: settings.state_ttl,
        };
        let doors = SideDoors::new(doors, store.clone());
        // A worker that restarts is back within its lease, or it is gone.
        let bringer = Bringer::new(store.clone(), runner.root().clone(), settings.lease);
        RunningAttempts {
            settings,
            worker,
            runner,
            live: LiveAttempts::default(),
            logs,
            log_ends,
            store,
            incarnation,
            doors,
            bringer,
            standstill: Standstill::default(),
            killed: KilledAgents::default(),
            users: FolderUsers::default(),
            events,
        }
    }

    /// Attempts that are launched from now on are another incarnation's.
    pub fn speak_as(&mut self, incarnation: Incarnation) {
        self.incarnation = incarnation;
    }

    /// What runs, for whoever looks from aside.
    pub fn live(&self) -> LiveAttempts {
        self.live.clone()
    }

    /// Whether all of them are to stand still, and do.
    pub fn standstill(&self) -> Standstill {
        self.standstill.clone()
    }

    /// Agents that somebody killed.
    pub fn killed(&self) -> KilledAgents {
        self.killed.clone()
    }

    /// Launches an agent. Its handle is there before this returns, so that whatever comes after finds it.
    pub fn launch(&self, rendered: Rendered) {
        let ready = &rendered.ready;
        let key = (ready.grant.task.clone(), ready.grant.attempt);
        let (slug, shared) = (ready.agent.slug.clone(), ready.shared.clone());
        let notes = TraceNotes::begin(&rendered, &self.worker);
        let traced = notes.is_some();
        let order = match launch_order(&rendered, &self.settings, self.runner.root(), &self.worker) {
            Ok(order) => order,
            Err(report) => {
                let _ = self.events.send(WorkerEvent::AttemptEnded(key, *report, None));
                return;
            }
        };
        let stall_timeout = order.order.stall_timeout;
        let paths = self.runner.root().paths(&slug, &key.0, key.1, order.order.place.clone());
        let pass = self.doors.pass(key.0.clone(), key.1, self.incarnation.clone());
        let pass = match &notes {
            Some(notes) => pass.telling(notes.listener()),
            None => pass,
        };
        let attempt = self.runner.attempt(order.order, Some(self.logs.clone())).with_door(pass);
        let mover = Arc::new(self.standstill.mover());
        let attempt = attempt.with_bringer(self.bringer.clone()).moving_as(mover.clone());
        let live = LiveAttempt {
            handle: attempt.handle(),
            agent: slug.clone(),
            assigned: shared.assigned.clone(),
            paths: paths.clone(),
            stall_timeout,
        };
        self.live.lock().expect("no holder panics").insert(key.clone(), live);
        let (live, log_ends, events) = (self.live.clone(), self.log_ends.clone(), self.events.clone());
        let (store, killed) = (self.store.clone(), self.killed.clone());
        let speaks = ready.agent.output != OutputFormat::Text;
        let has_own_path = rendered.env.contains_key("PATH");
        let (mode, users) = (self.settings.failsafe, self.users.clone());
        tokio::spawn(async move {
            let work = async {
                let begun = Instant::now();
                let (report, broken, signal) = run_guarded(attempt).await;
                let (report, broken) =
                    if has_own_path { of_its_own_path(report, broken) } else { (report, broken) };
                tally().agent_worked(begun.elapsed());
                tell_how_it_did(&killed, &key, (&slug, shared.assigned.as_ref()), &report, signal);
                let present = store.borrow().clone();
                let report = match speaks && key.1.0 > 1 {
                    true => with_earlier_use(report, &present, &key).await,
                    false => report,
                };
                (with_publish(report, &shared, &order.scope), broken)
            };
            let (report, broken) = users.guard(mode, &mover, &paths, &key.0, work).await;
            let ended = live.lock().expect("no holder panics").remove(&key);
            if let Some((notes, ended)) = notes.zip(ended) {
                let note = notes.end(&report, &ended.handle.milestones());
                let store = store.borrow().clone();
                write_note(&store, &note).await;
            }
            mark_ended(&paths, store.borrow().cluster_id());
            let keeps_more = traced || matches!(report.outcome, AttemptOutcome::Failed { .. });
            // With the queue full the log only stays longer than it must.
            let _ = log_ends.try_send(LogEnd { task: key.0.clone(), attempt: key.1, keeps_more });
            let broken = broken.map(|part| Breakage::of(part, &slug, shared.assigned.as_ref()));
            let _ = events.send(WorkerEvent::AttemptEnded(key, report, broken));
            // Only now: whoever hears that all stand still has heard of this end before.
            drop(mover);
        });
    }

    /// Ends an attempt. One without a handle has ended, and its end is on its way.
    pub fn end(&self, key: &AttemptKey, cause: EndCause) {
        let live = self.live.lock().expect("no holder panics");
        let Some(LiveAttempt { handle, .. }) = live.get(key) else { return };
        match cause {
            EndCause::Cancel => handle.stop(StopKind::Cancel),
            EndCause::Return => handle.stop(StopKind::Return),
            EndCause::Kill => handle.stop_now(StopKind::Cancel),
            EndCause::Discard => handle.stop_now(StopKind::Return),
        }
    }

    /// Ends an attempt with a grace of its own, so that its task is given back.
    pub fn end_within(&self, key: &AttemptKey, grace: Duration) {
        let live = self.live.lock().expect("no holder panics");
        if let Some(LiveAttempt { handle, .. }) = live.get(key) {
            handle.stop_within(StopKind::Return, grace);
        }
    }
}

/// Adds what earlier attempts have taken of the model, as the record of the last one says. Without an answer the
/// report goes without it: it must not wait.
async fn with_earlier_use(report: AttemptReport, store: &Store, (task, _): &AttemptKey) -> AttemptReport {
    let index = [task.index];
    let asked = store.outputs(&task.run, &index);
    let Ok(Ok(outputs)) = tokio::time::timeout(EARLIER_USE_WAIT, asked).await else { return report };
    let earlier = outputs.into_iter().flatten().find_map(|output| output.model_use);
    let Some(earlier) = earlier else { return report };
    let used = report.model_use.as_deref().cloned().unwrap_or_default().after(&earlier);
    AttemptReport { model_use: Some(Box::new(used)), ..report }
}

/// A program that is not found on the PATH that a task was given says nothing about the host, and another try would
/// end alike.
fn of_its_own_path(report: AttemptReport, broken: Option<BrokenPart>) -> (AttemptReport, Option<BrokenPart>) {
    if broken != Some(BrokenPart::Binary) {
        return (report, broken);
    }
    let outcome = AttemptOutcome::Failed { reason: Reason::Config, exit_code: None };
    (AttemptReport { outcome, ..report }, None)
}

/// Runs an attempt so that a bug in it costs that attempt, and not its slot for ever. With what of the host is broken,
/// and the signal that ended its first process.
async fn run_guarded(attempt: AttemptRun) -> (AttemptReport, Option<BrokenPart>, Option<i32>) {
    match tokio::spawn(attempt.run()).await {
        Ok(AttemptEnd { report, broken, tree, .. }) => {
            let signal = tree.and_then(|tree| match tree.main {
                MainEnd::Signaled(signal) => Some(signal),
                MainEnd::Exited(_) => None,
            });
            (report, broken, signal)
        }
        Err(error) => {
            tracing::error!("an attempt broke down: {error}");
            let message = "the worker broke down while it ran the agent";
            (AttemptReport::failed(Reason::Infra, None, message), None, None)
        }
    }
}

/// An agent that was ended by a signal and not by its worker, which would have another reason, was killed.
fn tell_how_it_did(
    killed: &KilledAgents,
    (task, attempt): &AttemptKey,
    (agent, assigned): (&AgentSlug, Option<&AgentId>),
    report: &AttemptReport,
    signal: Option<i32>,
) {
    match (&report.outcome, signal) {
        (AttemptOutcome::Completed, _) => killed.did_well(agent, assigned),
        (AttemptOutcome::Failed { reason: Reason::Exit | Reason::Oom, .. }, Some(signal)) => {
            let (agent, assigned) = (agent.clone(), assigned.cloned());
            killed.add(KilledAgent { agent, assigned, task: task.clone(), attempt: *attempt, signal });
        }
        _ => {}
    }
}
