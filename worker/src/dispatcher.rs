//! What a worker does when something happens: events in, actions out.
//!
//! No I/O, no clock, no async: `service` feeds events in and carries actions out, and the tests call
//! `handle_event` with every pair of events. What must stay true after each event:
//!
//! - an attempt is held, or its end waits to be recorded, or neither; never both;
//! - the beat sees exactly the held attempts that still speak for their task;
//! - held attempts and those that requests under way may bring never exceed the concurrency;
//! - a lane has one request at a time;
//! - the worker finishes only when nothing is held and nothing is unreported, or time is up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use maestro_model::attempt::{AttemptOutcome, AttemptReport};
use maestro_model::ids::{AgentSlug, WorkerName};
use maestro_model::plan::{QueueName, SharedSpec};
use maestro_model::task::Reason;
use maestro_store::brought::{GroupOutputs, KnownRun, ReadyGrant, make_ready};
use maestro_store::step::{CellMode, Grant, ReportAnswer, StepReply, StepRequest};

use crate::assigned::AgentsHere;
use crate::decide::{Decision, Rendered, Tries, decide, step_report};
use crate::events::{Breakage, DrainNumber, EndCause, FetchFailure, Life, WorkerAction, WorkerEvent};
use crate::held::{AttemptKey, HeldAttempts};
use crate::intake::Intake;
use crate::known_runs::KnownRuns;
use crate::requests::Requests;

/// Wait before intake is tried again while the cluster is frozen.
pub const PAUSE_POLL: Duration = Duration::from_secs(1);
/// Wait between two looks at the runs that a draining worker waits for.
pub const BOUND_POLL: Duration = Duration::from_secs(1);

/// How a worker is set up, as far as deciding goes.
#[derive(Debug, Clone)]
pub struct DispatcherSettings {
    /// Tasks at one time.
    pub concurrency: usize,
    /// The worker's name, for templates and its own queue.
    pub name: WorkerName,
    /// Time to live of published values, ms.
    pub state_ttl_ms: u64,
    /// A number in 0..1 for the jitter of retries.
    pub random: fn() -> f64,
}

#[derive(Debug)]
struct Holding {
    tries: Tries,
    ending: Option<EndCause>,
    stage: Stage,
}

/// How far an attempt has come here.
#[derive(Debug)]
enum Stage {
    /// What it needs is being read.
    Fetching,
    /// It is launched as soon as an earlier attempt of its task is gone from this worker.
    Waiting(Box<Rendered>),
    /// Its agent runs, or is about to.
    Launched { shared: Arc<SharedSpec>, keeps_on: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// All is claimed that there is room for.
    Serving,
    /// Running tasks end by themselves; only runs that are bound to this worker still get tasks.
    Draining,
    /// Running tasks are ended.
    Ending,
    Finished,
}

/// Who has asked a worker to end, so far.
#[derive(Debug, Clone, Copy, Default)]
struct DrainCourse {
    /// The last drain; its deadline counts.
    number: DrainNumber,
    /// Whether somebody has asked who will not ask in so many words: a second time means at once.
    terminated: bool,
}

/// Whom a lease in danger ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sparing {
    Nobody,
    /// Agents that the type says are to go on.
    Keepers,
}

/// The state of a worker.
#[derive(Debug)]
pub struct Dispatcher {
    settings: DispatcherSettings,
    intake: Intake,
    held: BTreeMap<AttemptKey, Holding>,
    visible: HeldAttempts,
    waiting: Vec<AttemptKey>,
    requests: Requests,
    hungry: bool,
    paused: bool,
    life: Life,
    attached: bool,
    recovering: bool,
    listening: Vec<QueueName>,
    phase: Phase,
    drain: DrainCourse,
    bound_runs: Option<usize>,
    known: KnownRuns,
    suspects: HashMap<AttemptKey, u64>,
}

impl Dispatcher {
    /// A worker that has attached and holds nothing.
    pub fn new(settings: DispatcherSettings, types: Vec<AgentSlug>) -> Dispatcher {
        Dispatcher {
            intake: Intake::new(&settings.name, types),
            settings,
            held: BTreeMap::new(),
            visible: HeldAttempts::default(),
            waiting: Vec::new(),
            requests: Requests::default(),
            hungry: true,
            paused: false,
            life: Life::FIRST,
            attached: true,
            recovering: false,
            listening: Vec::new(),
            phase: Phase::Serving,
            drain: DrainCourse::default(),
            bound_runs: None,
            known: KnownRuns::default(),
            suspects: HashMap::new(),
        }
    }

    /// What is held, for the beat.
    pub fn held_attempts(&self) -> HeldAttempts {
        self.visible.clone()
    }

    /// Tasks that run at present.
    pub fn running(&self) -> usize {
        self.held.len()
    }

    /// Whether it takes no new tasks.
    pub fn is_draining(&self) -> bool {
        self.phase != Phase::Serving
    }

    /// Whether an attempt's outcome is still to be recorded.
    pub fn owes_reports(&self) -> bool {
        self.requests.owes_reports()
    }

    /// What is wrong with this host, if anything.
    pub fn trouble(&self) -> Option<String> {
        self.intake.trouble()
    }

    /// Changes state and says what is to be done.
    pub fn handle_event(&mut self, event: WorkerEvent) -> Vec<WorkerAction> {
        let mut actions = Vec::new();
        if self.phase == Phase::Finished {
            return actions;
        }
        match event {
            WorkerEvent::StepAnswered(lane, id, reply) => {
                self.on_step_answered(lane, id, reply, &mut actions)
            }
            WorkerEvent::StepPaused(lane, id) => self.on_step_paused(lane, id, &mut actions),
            WorkerEvent::Fetched(grant, known, groups) => self.on_fetched(*grant, known, groups),
            WorkerEvent::FetchFailed(grant, failure) => self.on_fetch_failed(&grant, failure),
            WorkerEvent::AttemptEnded(key, report, broken) => {
                self.on_attempt_ended(&key, report, broken, &mut actions);
            }
            WorkerEvent::BellRang => self.hungry = true,
            WorkerEvent::BeatAnswered(life, listed, reply) => {
                self.on_beat_answered(life, &listed, &reply, &mut actions);
            }
            WorkerEvent::Fenced(life) => self.on_fenced(life, &mut actions),
            WorkerEvent::LeaseInDanger(life) => self.on_lease_in_danger(life, &mut actions),
            WorkerEvent::RecoveryAsked(life) => self.on_recovery_asked(life, &mut actions),
            WorkerEvent::Recovered(life) => self.on_recovered(life),
            WorkerEvent::Attached(life) => self.on_attached(life),
            WorkerEvent::TypesServed(types) => self.on_types_served(types, &mut actions),
            WorkerEvent::AgentsHere(agents) => self.on_agents_here(agents),
            WorkerEvent::ProbePassed(part) => self.on_probe_passed(&part, &mut actions),
            WorkerEvent::RunsBound(count) => self.on_runs_bound(count, &mut actions),
            WorkerEvent::EndAgents(grace) => self.on_end_agents(grace, &mut actions),
            WorkerEvent::Terminate => self.on_terminate(&mut actions),
            WorkerEvent::Drain(order) => self.on_drain(order, &mut actions),
            WorkerEvent::DrainDeadline(number) => self.on_drain_deadline(number, &mut actions),
            // What is to be done then is the service's business.
            WorkerEvent::AgentsStill(_) => {}
            WorkerEvent::LastDeadline => self.on_last_deadline(&mut actions),
        }
        self.launch_waiting(&mut actions);
        self.pump(&mut actions);
        self.adjust_listening(&mut actions);
        self.finish_if_done(&mut actions);
        actions
    }

    fn on_step_answered(&mut self, lane: u8, id: u64, reply: StepReply, actions: &mut Vec<WorkerAction>) {
        // The answer to a request of an incarnation before concerns nobody any more.
        let Some(request) = self.requests.answered(lane, id) else { return };
        for (report, answer) in request.reports.iter().zip(&reply.answers) {
            self.suspects.remove(&(report.task.clone(), report.attempt));
            if *answer == ReportAnswer::Stale {
                tracing::warn!(task = %report.task, attempt = %report.attempt, "a late report was refused");
            }
        }
        self.on_mode(reply.mode);
        let full = reply.grants.len() == request.want && request.want > 0;
        // A bell that rang while the request was under way may speak of work that came after it.
        self.hungry = self.hungry || reply.more || full;
        if reply.fenced {
            self.on_fenced(self.life, actions);
        }
        for grant in reply.grants {
            self.on_grant(grant, &request, actions);
        }
    }

    /// While the cluster is paused nothing is claimed; the change is told once, not with every bell.
    fn on_mode(&mut self, mode: CellMode) {
        let paused = mode != CellMode::Run;
        match (self.paused, paused) {
            (false, true) => tracing::info!("the cluster is paused: no new tasks are claimed"),
            (true, false) => tracing::info!("the cluster goes on: tasks are claimed again"),
            _ => {}
        }
        self.paused = paused;
    }

    fn on_step_paused(&mut self, lane: u8, id: u64, actions: &mut Vec<WorkerAction>) {
        let Some(request) = self.requests.under_way(lane, id) else { return };
        // Not carried out: the very same words are sent again later.
        actions.push(WorkerAction::SendStep(request.clone(), PAUSE_POLL));
        self.paused = true;
    }

    fn on_grant(&mut self, grant: Grant, request: &StepRequest, actions: &mut Vec<WorkerAction>) {
        if !self.attached {
            // Granted in a lease that is over: the cluster takes it back by itself.
            return;
        }
        let is_wanted = match self.phase {
            Phase::Serving => true,
            Phase::Draining => request.queues == [self.intake.own_queue().clone()],
            Phase::Ending | Phase::Finished => false,
        };
        let key = (grant.task.clone(), grant.attempt);
        if self.held.contains_key(&key) {
            return;
        }
        if !is_wanted {
            let report = AttemptReport::plain(AttemptOutcome::Returned);
            return self.report(&key, Tries::of(&grant), None, report);
        }
        let known = self.known.get(&grant.task.run);
        match make_ready(grant, known, HashMap::new()) {
            Ok(ready) => self.on_ready(*ready),
            Err(grant) => {
                self.hold(key, Tries::of(&grant), Stage::Fetching);
                actions.push(WorkerAction::Fetch(grant));
            }
        }
    }

    fn hold(&mut self, key: AttemptKey, tries: Tries, stage: Stage) {
        self.suspects.remove(&key);
        self.visible.lock().expect("no holder panics").insert(key.clone());
        self.held.insert(key, Holding { tries, ending: None, stage });
    }

    fn on_ready(&mut self, ready: ReadyGrant) {
        let key = (ready.grant.task.clone(), ready.grant.attempt);
        let tries = Tries::of(&ready.grant);
        let shared = ready.shared.clone();
        match decide(ready, self.settings.name.as_str()) {
            Decision::Report(report) => {
                self.forget(&key);
                self.report(&key, tries, Some(&shared), *report);
            }
            Decision::Launch(rendered) => {
                self.hold(key.clone(), tries, Stage::Waiting(rendered));
                self.waiting.push(key);
            }
        }
    }

    fn on_fetched(&mut self, grant: Grant, known: KnownRun, groups: HashMap<u32, GroupOutputs>) {
        let key = (grant.task.clone(), grant.attempt);
        let Some(Holding { stage: Stage::Fetching, ending, tries }) = self.held.get(&key) else { return };
        if let Some(cause) = *ending {
            let tries = *tries;
            return self.end_unlaunched(&key, tries, cause);
        }
        self.known.remember(&grant.task.run, known);
        let known = self.known.get(&grant.task.run);
        match make_ready(grant, known, groups) {
            Ok(ready) => self.on_ready(*ready),
            Err(grant) => {
                let message = "the stored parts of its run are incomplete".to_owned();
                self.on_fetch_failed(&grant, FetchFailure::Lasting(message));
            }
        }
    }

    fn on_fetch_failed(&mut self, grant: &Grant, failure: FetchFailure) {
        let key = (grant.task.clone(), grant.attempt);
        let Some(Holding { stage: Stage::Fetching, ending, tries }) = self.held.get(&key) else { return };
        let (ending, tries) = (*ending, *tries);
        if let Some(cause) = ending {
            return self.end_unlaunched(&key, tries, cause);
        }
        self.forget(&key);
        let report = match failure {
            FetchFailure::Passing(_) => AttemptReport::plain(AttemptOutcome::Returned),
            // Counted, or the task would go round for ever.
            FetchFailure::Lasting(message) => {
                AttemptReport::failed(Reason::Infra, None, format!("cannot read the task: {message}"))
            }
        };
        self.report(&key, tries, None, report);
    }

    fn end_unlaunched(&mut self, key: &AttemptKey, tries: Tries, cause: EndCause) {
        self.forget(key);
        let outcome = match cause {
            EndCause::Discard => return,
            EndCause::Cancel | EndCause::Kill => AttemptOutcome::Cancelled,
            EndCause::Return => AttemptOutcome::Returned,
        };
        self.report(key, tries, None, AttemptReport::plain(outcome));
    }

    fn report(&mut self, key: &AttemptKey, tries: Tries, shared: Option<&SharedSpec>, report: AttemptReport) {
        let random = (self.settings.random)();
        if let Some(shared) = shared {
            self.requests.name(key, &shared.agent);
        }
        self.requests.report(step_report(key, tries, shared, report, random));
    }

    fn forget(&mut self, key: &AttemptKey) -> Option<Holding> {
        let holding = self.held.remove(key)?;
        self.visible.lock().expect("no holder panics").remove(key);
        // Its slot is free, and whether work waits for it is not known.
        self.hungry = true;
        Some(holding)
    }

    fn on_attempt_ended(
        &mut self,
        key: &AttemptKey,
        report: AttemptReport,
        broken: Option<Breakage>,
        actions: &mut Vec<WorkerAction>,
    ) {
        if let Some(part) = broken {
            self.on_broken(part, &report, actions);
        }
        let Some(Holding { stage: Stage::Launched { .. }, .. }) = self.held.get(key) else { return };
        let Holding { tries, ending, stage } = self.forget(key).expect("it was just seen");
        if ending == Some(EndCause::Discard) {
            return;
        }
        let Stage::Launched { shared, .. } = stage else { return };
        self.report(key, tries, Some(&shared), report);
    }

    fn on_broken(&mut self, part: Breakage, report: &AttemptReport, actions: &mut Vec<WorkerAction>) {
        let message = report.message.clone().unwrap_or_else(|| "it failed an attempt".to_owned());
        if self.intake.break_down(part.clone(), message) {
            actions.push(WorkerAction::Probe(part));
            actions.push(WorkerAction::Serve(self.intake.serves()));
        }
    }

    fn on_probe_passed(&mut self, part: &Breakage, actions: &mut Vec<WorkerAction>) {
        if self.intake.mend(part) {
            self.hungry = true;
            actions.push(WorkerAction::Serve(self.intake.serves()));
        }
    }

    fn on_types_served(&mut self, types: Vec<AgentSlug>, actions: &mut Vec<WorkerAction>) {
        if self.intake.set_types(types) {
            self.hungry = true;
            actions.push(WorkerAction::Serve(self.intake.serves()));
        }
    }

    fn on_agents_here(&mut self, agents: AgentsHere) {
        if self.intake.set_agents(agents) {
            self.hungry = true;
        }
    }

    fn end_attempt(&mut self, key: &AttemptKey, cause: EndCause, actions: &mut Vec<WorkerAction>) {
        let Some(holding) = self.held.get_mut(key) else { return };
        // A weaker cause never replaces a stronger one.
        if holding.ending.is_some_and(|known| known >= cause) {
            return;
        }
        holding.ending = Some(cause);
        if cause == EndCause::Discard {
            // It holds its slot until its processes are gone, but speaks for nothing.
            self.visible.lock().expect("no holder panics").remove(key);
        }
        match holding.stage {
            // The answer to the reading ends it.
            Stage::Fetching => {}
            Stage::Waiting(_) => {
                let tries = holding.tries;
                self.waiting.retain(|other| other != key);
                self.end_unlaunched(key, tries, cause);
            }
            Stage::Launched { .. } => actions.push(WorkerAction::EndAttempt(key.clone(), cause)),
        }
    }

    fn end_all(&mut self, cause: EndCause, sparing: Sparing, actions: &mut Vec<WorkerAction>) {
        let is_spared = |holding: &Holding| {
            sparing == Sparing::Keepers && matches!(holding.stage, Stage::Launched { keeps_on: true, .. })
        };
        let chosen: Vec<AttemptKey> =
            self.held.iter().filter(|(_, holding)| !is_spared(holding)).map(|(key, _)| key.clone()).collect();
        for key in chosen {
            self.end_attempt(&key, cause, actions);
        }
    }

    fn free_slots(&self) -> usize {
        self.settings.concurrency.saturating_sub(self.held.len() + self.requests.promised())
    }

    /// Where tasks are claimed in this phase, room or not.
    fn claimed_queues(&self) -> Vec<QueueName> {
        let mut queues = self.intake.queues();
        match self.phase {
            Phase::Serving => {}
            Phase::Draining if self.bound_runs.is_some_and(|count| count > 0) => {
                queues.retain(|queue| queue == self.intake.own_queue());
            }
            Phase::Draining | Phase::Ending | Phase::Finished => queues.clear(),
        }
        queues
    }

    /// Fills free lanes: with reports, and with a claim for every free slot.
    fn pump(&mut self, actions: &mut Vec<WorkerAction>) {
        while self.attached
            && let Some(lane) = self.requests.free_lane()
        {
            let free = if self.paused { 0 } else { self.free_slots() };
            let has_reports = self.requests.has_reports();
            let is_hungry = self.hungry && free > 0;
            if !has_reports && !is_hungry {
                return;
            }
            let queues = if free > 0 { self.claimed_queues() } else { Vec::new() };
            let want = if queues.is_empty() { 0 } else { free };
            if want > 0 {
                self.hungry = false;
            } else if !has_reports {
                return;
            }
            let request = self.requests.fill(lane, want, queues, self.settings.state_ttl_ms);
            actions.push(WorkerAction::SendStep(request, Duration::ZERO));
        }
    }

    /// Only a worker with a free slot listens to queues: a token it cannot use would wake nobody. While a
    /// claim is under way it is left open whether a slot is free, so that steady work changes nothing.
    fn adjust_listening(&mut self, actions: &mut Vec<WorkerAction>) {
        let is_full = self.held.len() >= self.settings.concurrency;
        let is_open = self.requests.promised() > 0 && self.listening.is_empty();
        let wanted = if is_full || is_open { Vec::new() } else { self.claimed_queues() };
        if wanted != self.listening {
            self.listening.clone_from(&wanted);
            actions.push(WorkerAction::Listen(wanted));
        }
    }
}

mod ending;
mod launching;
mod lease;
mod outcomes;
#[cfg(test)]
mod tests;
