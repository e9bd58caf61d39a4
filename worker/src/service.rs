//! The worker as a process: feeds events to the dispatcher and carries out what it says.
//!
//! Nothing is decided here, and the loop waits for nothing but events: every action that takes time runs
//! in a task of its own and comes back as an event.

use std::sync::Arc;
use std::time::Duration;

use maestro_model::ids::{AgentSlug, WorkerName};
use maestro_model::plan::QueueName;
use maestro_store::step::{Grant, StepRequest};
use maestro_store::{Refusal, Store, StoreError, StoreOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::attaching::Attachment;
use crate::attempt::{AttemptRunner, HostEnvironment};
use crate::beats::{BeatSettings, BeatTopic, BeatWires, SharedStatus, start_beats};
use crate::bells::{BellTopic, OwnBell, listen};
use crate::causes::with_sources;
use crate::confinement::Confinement;
use crate::container::{ContainerEngine, EngineGreeting};
use crate::dispatcher::{Dispatcher, DispatcherSettings};
use crate::events::{FetchFailure, Life, WorkerAction, WorkerEvent};
use crate::freezing::FreezeDuty;
use crate::identity::{HeldName, IdentityError, attach, hold_name};
use crate::janitor::{Janitor, JanitorSettings};
use crate::journal::{Journal, JournalOwner, JournalPlace, sync_every_second};
use crate::launch::{Launcher, LauncherCommand};
use crate::log_capture::log_channel;
use crate::log_shipper::{LAST_PIECES_WAIT, log_ends, ship};
use crate::mailbox::{MailDesk, MailRoom};
use crate::recovery::speak_for_predecessors;
use crate::running::RunningAttempts;
use crate::sampler::Sampler;
use crate::serving::{Served, known_types, probe, watch_served};
use crate::settings::{LeaseTooShort, WorkerSettings};
use crate::under_way::StepsUnderWay;
use crate::workspace::{WorkspaceError, WorkspaceRoot};
use crate::workspace_size::measure_now_and_then;

use standing::sweep_now_and_then;

pub use crate::serving::servable;

/// First and longest wait before a request that got no answer is sent again.
const RESEND_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Time to report what was ended, beyond the grace period of the agents.
const LAST_REPORTS_WAIT: Duration = Duration::from_secs(5);
/// Time to take leave.
const DETACH_WAIT: Duration = Duration::from_secs(3);
/// The main loop turns at least so often, also when nothing happens.
const TURN_EVERY: Duration = Duration::from_secs(1);
/// Wait before the runs bound to this worker are asked for again, if there was no answer.
const ASK_AGAIN_WAIT: Duration = Duration::from_secs(1);

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It has no name.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Redis refused, or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The workspace root cannot be used.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The lease is too short.
    #[error(transparent)]
    Lease(#[from] LeaseTooShort),
    /// The host refuses something a worker cannot do without.
    #[error("cannot {what}")]
    Host {
        /// What it refused.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What may be said to a running worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerSignal {
    /// End: first time after running tasks have ended, second time at once.
    Terminate,
}

/// What is told once the worker serves.
#[derive(Debug, Clone)]
pub struct WorkerReady {
    /// Its name.
    pub name: WorkerName,
    /// Agent types it serves.
    pub types: Vec<String>,
    /// Types it knows but cannot serve, and why.
    pub unserved: Vec<(String, String)>,
    /// What confines its agents.
    pub confinement: Option<Confinement>,
    /// Where its containers come from, or why there are none.
    pub containers: Result<EngineGreeting, String>,
}

impl WorkerReady {
    fn of(
        settings: &WorkerSettings,
        name: &WorkerName,
        types: &[AgentSlug],
        unserved: Vec<(String, String)>,
    ) -> WorkerReady {
        WorkerReady {
            name: name.clone(),
            types: types.iter().map(AgentSlug::to_string).collect(),
            unserved,
            confinement: settings.confinement.clone(),
            containers: settings.engine.ask(),
        }
    }
}

/// Runs a worker until it has been told to end and all its tasks have ended.
///
/// # Errors
/// `WorkerError` if it cannot start. Once it serves, whatever happens to Redis or the host is tried again.
pub async fn run_worker(
    settings: WorkerSettings,
    options: StoreOptions,
    signals: mpsc::UnboundedReceiver<WorkerSignal>,
    on_ready: impl FnOnce(&WorkerReady),
) -> Result<(), WorkerError> {
    settings.check_lease()?;
    HostEnvironment::hide_from_agents();
    let root = WorkspaceRoot::open(&settings.workspace_root)?;
    let name = hold_name(root.path(), settings.name.as_deref())?;
    let launcher = Launcher::new(LauncherCommand::this_program());
    let host = HostEnvironment::of_this_process();
    let containers = ContainerEngine::new(settings.engine.clone());
    let runner = AttemptRunner::new(launcher.clone(), root, host)
        .map_err(|source| WorkerError::Host { what: "prepare launching agents", source })?
        .with_containers(containers.clone());
    let settings = WorkerSettings { confinement: Some(runner.confine_as(&name.name).await), ..settings };
    let (mut service, ready) = Service::set_up(settings, options, name, launcher.clone(), runner).await?;
    service.keep(containers.clone().remove_leftovers_again_and_again());
    on_ready(&ready);
    service.serve(signals).await;
    launcher.close().await;
    containers.close().await;
    Ok(())
}

struct Service {
    settings: Arc<WorkerSettings>,
    options: StoreOptions,
    name: HeldName,
    root: WorkspaceRoot,
    launcher: Launcher,
    attached: Attachment,
    /// The present store, for loops that outlive an incarnation.
    store: watch::Sender<Store>,
    registry: watch::Sender<u64>,
    dispatcher: Dispatcher,
    running: RunningAttempts,
    steps: StepsUnderWay,
    events: (mpsc::UnboundedSender<WorkerEvent>, mpsc::UnboundedReceiver<WorkerEvent>),
    attachments: (mpsc::UnboundedSender<Attachment>, mpsc::UnboundedReceiver<Attachment>),
    beats: watch::Sender<BeatTopic>,
    bells: watch::Sender<BellTopic>,
    status: SharedStatus,
    shipper: JoinHandle<()>,
    journal: Journal,
    freezing: FreezeDuty,
    /// Loops that end with the worker.
    loops: JoinSet<()>,
}

impl Service {
    async fn set_up(
        settings: WorkerSettings,
        options: StoreOptions,
        name: HeldName,
        launcher: Launcher,
        runner: AttemptRunner,
    ) -> Result<(Service, WorkerReady), WorkerError> {
        let settings = Arc::new(settings);
        let store = Store::connect(&options).await?;
        store.register_missing(&settings.local_agents).await?;
        let known = known_types(&settings, &store).await?;
        let Served { types, unserved } = Served::find(&settings, &known);
        let ready = WorkerReady::of(&settings, &name.name, &types, unserved);
        let place = JournalPlace::of(runner.root().path(), &name.name);
        let ttl = settings.state_ttl.as_millis() as u64;
        speak_for_predecessors(&store, &name.name, &place, ttl).await;
        let incarnation = attach(&store, &settings, &name.name, &types).await?;
        standing::claim_containers(&runner, &store, &name.name, &incarnation);
        let journal = Journal::begin(place, JournalOwner::new(store.cluster_id(), &incarnation));
        let dispatcher_settings = DispatcherSettings {
            concurrency: settings.concurrency,
            name: name.name.clone(),
            state_ttl_ms: ttl,
            random: rand::random,
        };
        let dispatcher = Dispatcher::new(dispatcher_settings, types.clone());
        let events = mpsc::unbounded_channel();
        let ((logs, chunks), (log_ends, ends)) = (log_channel(), log_ends());
        let (root, present) = (runner.root().clone(), watch::Sender::new(store.clone()));
        let running = RunningAttempts::new(
            settings.clone(),
            name.name.clone(),
            runner,
            (logs, log_ends),
            present.subscribe(),
            incarnation.clone(),
            events.0.clone(),
        );
        let attached = Attachment { life: Life::FIRST, store: store.clone(), incarnation };
        let (beats, bells) = standing::topics(&attached, types);
        let mut service = Service {
            shipper: tokio::spawn(ship(present.subscribe(), chunks, ends)),
            registry: watch::Sender::new(0),
            attachments: mpsc::unbounded_channel(),
            status: telling::first_status(&settings),
            loops: JoinSet::new(),
            settings,
            options,
            name,
            root,
            launcher,
            attached,
            store: present,
            dispatcher,
            freezing: FreezeDuty::new(running.standstill()),
            running,
            steps: StepsUnderWay::default(),
            journal,
            events,
            beats,
            bells,
        };
        service.start_loops()?;
        Ok((service, ready))
    }

    fn start_loops(&mut self) -> Result<(), WorkerError> {
        let own_bell = OwnBell::default();
        let beat_settings = BeatSettings {
            store: StoreOptions { patience: Duration::ZERO, ..self.options.clone() },
            heartbeat: self.settings.heartbeat,
            lease: self.settings.lease,
            fence_after: self.settings.fence_after(),
        };
        let wires = BeatWires {
            topic: self.beats.subscribe(),
            beat_now: own_bell.beat_now.clone(),
            held: self.dispatcher.held_attempts(),
            status: self.status.clone(),
            events: self.events.0.clone(),
        };
        start_beats(beat_settings, wires)
            .map_err(|source| WorkerError::Host { what: "start the thread that beats", source })?;
        let events = || self.events.0.clone();
        let store = || self.store.subscribe();
        self.loops.spawn(listen(self.bells.subscribe(), own_bell.clone(), events()));
        self.loops.spawn(sweep_now_and_then(store()));
        let who = self.name.name.to_string();
        self.loops.spawn(self.freezing.follow(who, store(), events()));
        self.loops.spawn(sync_every_second(self.journal.file()));
        let (settings, name) = (self.settings.clone(), self.name.name.clone());
        self.loops.spawn(watch_served(settings, name, store(), self.registry.subscribe(), events()));
        let desk = MailDesk {
            settings: self.settings.clone(),
            name: self.name.name.clone(),
            root: self.root.clone(),
            live: self.running.live(),
            held: self.dispatcher.held_attempts(),
            standstill: self.running.standstill(),
            status: self.status.clone(),
            store: store(),
            events: events(),
        };
        self.loops.spawn(MailRoom::new(desk, self.bells.subscribe(), own_bell.mail).run());
        let sampler = Sampler {
            settings: self.settings.clone(),
            name: self.name.name.clone(),
            live: self.running.live(),
            standstill: self.running.standstill(),
            killed: self.running.killed(),
            status: self.status.clone(),
        };
        self.loops.spawn(sampler.run(store(), self.registry.subscribe()));
        if self.settings.pulse.is_some() {
            self.loops.spawn(measure_now_and_then(self.root.path().to_owned()));
        }
        let janitor_settings = JanitorSettings { retention: self.settings.workspace_retention };
        let janitor = Janitor::new(janitor_settings, self.root.clone(), self.dispatcher.held_attempts());
        self.loops.spawn(janitor.run(store()));
        Ok(())
    }

    async fn serve(mut self, mut signals: mpsc::UnboundedReceiver<WorkerSignal>) {
        self.events.0.send(WorkerEvent::BellRang).expect("the receiver is ours");
        let mut signals_open = true;
        let mut tick = tokio::time::interval(TURN_EVERY);
        loop {
            self.tell_pulse();
            let event = tokio::select! {
                event = self.steps.next() => event,
                _ = tick.tick() => continue,
                event = self.events.1.recv() => event.expect("a sender is ours"),
                attached = self.attachments.1.recv() => self.take_attachment(attached.expect("a sender is ours")),
                signal = signals.recv(), if signals_open => match signal {
                    Some(WorkerSignal::Terminate) => WorkerEvent::Terminate,
                    None => {
                        signals_open = false;
                        continue;
                    }
                },
            };
            self.look_at(&event);
            let actions = self.dispatcher.handle_event(event);
            self.keep_outcomes();
            if !self.dispatcher.owes_reports() {
                self.freezing.on_all_reported(&self.attached);
            }
            self.tell_status();
            for action in actions {
                if matches!(action, WorkerAction::Finish) {
                    return self.finish().await;
                }
                self.carry_out(action);
            }
        }
    }

    fn carry_out(&mut self, action: WorkerAction) {
        match action {
            WorkerAction::SendStep(request, wait) => self.send_step(request, wait),
            WorkerAction::Fetch(grant) => self.fetch(grant),
            WorkerAction::Launch(rendered) => {
                self.tell_launch(&rendered);
                self.running.launch(*rendered);
            }
            WorkerAction::EndAttempt(key, cause) => self.running.end(&key, cause),
            WorkerAction::EndAttemptWithin(key, grace) => self.running.end_within(&key, grace),
            WorkerAction::Recover => self.recover(),
            WorkerAction::Reattach => self.reattach(),
            WorkerAction::Serve(types) => self.beats.send_modify(|topic| topic.types = types),
            WorkerAction::Listen(queues) => self.listen(queues),
            WorkerAction::Probe(part) => {
                tracing::error!(
                    "{}; nothing that needs it is claimed for now",
                    self.dispatcher.trouble().unwrap_or_default()
                );
                let (settings, root, launcher) =
                    (self.settings.clone(), self.root.clone(), self.launcher.clone());
                let (store, events) = (self.store.subscribe(), self.events.0.clone());
                self.keep(probe(part, settings, root, launcher, store, events));
            }
            WorkerAction::AskBoundRuns(wait) => self.ask_bound_runs(wait),
            WorkerAction::StartDrainTimer(number, deadline) => {
                let deadline = deadline.unwrap_or(self.settings.drain_deadline);
                self.start_timer(deadline, WorkerEvent::DrainDeadline(number));
            }
            WorkerAction::StartLastTimer => {
                self.start_timer(self.settings.grace + LAST_REPORTS_WAIT, WorkerEvent::LastDeadline);
            }
            WorkerAction::Finish => unreachable!("`serve` returns on it"),
        }
    }

    /// Runs something until it ends or the worker does.
    fn keep(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        while self.loops.try_join_next().is_some() {}
        self.loops.spawn(work);
    }

    fn start_timer(&mut self, time: Duration, event: WorkerEvent) {
        let events = self.events.0.clone();
        self.keep(async move {
            tokio::time::sleep(time).await;
            let _ = events.send(event);
        });
    }

    fn send_step(&mut self, request: StepRequest, wait: Duration) {
        let events = self.events.0.clone();
        let Attachment { life, store, incarnation } = self.attached.clone();
        self.steps.start(request.lane, async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let mut pause = RESEND_WAIT.0;
            loop {
                return match store.step(&incarnation, &request).await {
                    Ok(reply) => WorkerEvent::StepAnswered(request.lane, request.request_id, reply),
                    Err(StoreError::Refused(Refusal::Paused)) => {
                        WorkerEvent::StepPaused(request.lane, request.request_id)
                    }
                    Err(StoreError::Refused(Refusal::Recover)) => {
                        let _ = events.send(WorkerEvent::RecoveryAsked(life));
                        WorkerEvent::StepPaused(request.lane, request.request_id)
                    }
                    Err(StoreError::Refused(Refusal::Epoch { .. } | Refusal::ClusterGone)) => {
                        WorkerEvent::Fenced(life)
                    }
                    Err(error) => {
                        // Nothing is lost: the same words are sent until they are answered.
                        tracing::warn!("reports and claims wait: {}", with_sources(&error));
                        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                        pause = (pause * 2).min(RESEND_WAIT.1);
                        continue;
                    }
                };
            }
        });
    }

    fn fetch(&self, grant: Box<Grant>) {
        let (store, events) = (self.attached.store.clone(), self.events.0.clone());
        tokio::spawn(async move {
            let event = match store.grant_parts(&grant).await {
                Ok((known, groups)) => WorkerEvent::Fetched(grant, known, groups),
                Err(error) => {
                    let message = with_sources(&error);
                    tracing::warn!(task = %grant.task, "cannot read what the task needs: {message}");
                    let passes =
                        error.may_pass() || matches!(error, StoreError::Refused(Refusal::NotFound { .. }));
                    let failure =
                        if passes { FetchFailure::Passing(message) } else { FetchFailure::Lasting(message) };
                    WorkerEvent::FetchFailed(grant, failure)
                }
            };
            let _ = events.send(event);
        });
    }

    fn listen(&self, queues: Vec<QueueName>) {
        self.bells.send_modify(|topic| topic.queues = queues);
    }

    fn ask_bound_runs(&mut self, wait: Duration) {
        let store = self.attached.store.clone();
        let (name, events) = (self.name.name.clone(), self.events.0.clone());
        self.keep(async move {
            tokio::time::sleep(wait).await;
            loop {
                match store.bound_runs(name.as_str()).await {
                    Ok(count) => {
                        let _ = events.send(WorkerEvent::RunsBound(count));
                        return;
                    }
                    Err(error) => tracing::warn!("cannot ask which runs wait for this worker: {error}"),
                }
                tokio::time::sleep(ASK_AGAIN_WAIT).await;
            }
        });
    }

    async fn finish(mut self) {
        self.loops.abort_all();
        self.beats.send_modify(|topic| topic.who = None);
        // With the last sender gone the shipper ends once it has sent what it has.
        drop(self.running);
        if tokio::time::timeout(LAST_PIECES_WAIT, self.shipper).await.is_err() {
            tracing::warn!("the last pieces of logs did not reach redis; they are in agent.log");
        }
        let Attachment { store, incarnation, .. } = self.attached;
        match tokio::time::timeout(DETACH_WAIT, store.detach(&incarnation)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("ends without taking leave: {}", with_sources(&error)),
            Err(_) => {
                tracing::warn!("ends without taking leave: redis does not answer; the lease will run out")
            }
        }
    }
}

mod standing;
mod telling;
