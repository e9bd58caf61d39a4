//! Workers and coordinators as parts of this process: for `worker start`, `coordinator start`, `up` and
//! `workflow run --local`, which all run the same engine.

use std::collections::BTreeMap;
use std::time::Duration;

use indexmap::IndexMap;
use maestro_coordinator::automatic::AutomaticSettings;
use maestro_coordinator::service::{CoordinatorSettings, CoordinatorWires, run_coordinator};
use maestro_model::agent_type::AgentType;
use maestro_model::ids::AgentSlug;
use maestro_store::duties::RetentionPolicy;
use maestro_store::{Store, StoreOptions};
use maestro_worker::confinement::{Confinement, ControlGroups};
use maestro_worker::identity::host_name;
use maestro_worker::launch::{Launcher, LauncherCommand};
use maestro_worker::service::{WorkerError, WorkerReady, WorkerSignal, run_worker};
use maestro_worker::settings::WorkerSettings;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::cluster::store_failure;
use crate::config::settings::Settings;
use crate::failure::Failure;

/// Finished runs kept at most, whatever their age and size.
const FINISHED_RUNS_MAX: u64 = 10_000;

/// How a worker of this process is set up, by the settings.
pub(crate) fn worker_settings(
    settings: &Settings,
    local_agents: IndexMap<AgentSlug, AgentType>,
) -> WorkerSettings {
    let (kilo, kilo_is_given) = settings.kilocode_bin();
    WorkerSettings {
        name: None,
        concurrency: settings.max_concurrent() as usize,
        only_agents: Vec::new(),
        local_agents,
        agents_folders: settings.agents_dirs(),
        labels: BTreeMap::new(),
        workspace_root: settings.workspace_root(),
        short_folders: settings.short_folders(),
        heartbeat: settings.heartbeat(),
        lease: settings.lease(),
        engine: settings.container_engine(),
        grace: settings.grace_period(),
        drain_deadline: settings.drain_deadline(),
        state_ttl: settings.state_ttl(),
        kilo_program: kilo_is_given.then_some(kilo),
        snapshot_folder: settings.snapshot_dir(),
        confinement: None,
        failsafe: settings.failsafe(),
        workspace_retention: settings.run_retention(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pulse: None,
        probe: None,
    }
}

/// How a coordinator of this process is set up.
pub(crate) fn coordinator_settings(settings: &Settings) -> CoordinatorSettings {
    CoordinatorSettings {
        host: host_name(),
        heartbeat: settings.heartbeat(),
        lease: settings.lease(),
        retention: RetentionPolicy {
            age: settings.run_retention(),
            runs: FINISHED_RUNS_MAX,
            bytes: settings.run_bytes(),
        },
        snapshots: AutomaticSettings {
            interval: settings.snapshot_interval(),
            folder: settings.snapshot_dir(),
            retention: settings.snapshot_retention(),
        },
        state_ttl: settings.state_ttl(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// What a worker cannot start for, in the command's words.
pub(crate) fn worker_failure(error: WorkerError) -> Failure {
    match error {
        WorkerError::Store(error) => store_failure(error),
        WorkerError::Identity(maestro_worker::identity::IdentityError::Store(error)) => store_failure(error),
        WorkerError::Identity(error @ maestro_worker::identity::IdentityError::Taken { .. }) => {
            Failure::refused(error.to_string()).hint("give this one another name with `--name`")
        }
        WorkerError::Lease(error) => Failure::usage(error.to_string())
            .hint("raise `MAESTRO_LEASE`, or lower `MAESTRO_GRACE_PERIOD` or `MAESTRO_HEARTBEAT`"),
        error @ (WorkerError::Identity(_) | WorkerError::Workspace(_) | WorkerError::Host { .. }) => {
            let failure = Failure::unavailable("cannot start a worker");
            failure.caused_by(&error)
        }
    }
}

/// A worker that runs in this process.
#[derive(Debug)]
pub(crate) struct RunningWorker {
    signals: mpsc::UnboundedSender<WorkerSignal>,
    task: JoinHandle<Result<(), WorkerError>>,
}

/// What confines agents on this host, found out as a worker does. What that takes is gone afterwards.
pub(crate) async fn host_confinement() -> Confinement {
    let launcher = Launcher::new(LauncherCommand::this_program());
    let groups = ControlGroups::open(&format!("question-{}", std::process::id()));
    let found = Confinement::find(&launcher).await.with_groups(groups);
    launcher.close().await;
    found
}

/// Says what a worker serves from now on, and what confines its agents.
pub(crate) fn say_serving(ready: &WorkerReady, concurrency: usize) {
    let confined = ready.confinement.as_ref().map(Confinement::said).unwrap_or_default();
    let containers = match &ready.containers {
        Ok(engine) => format!("containers by {engine}"),
        Err(why) => format!("no containers: {why}"),
    };
    let (worker, agents) = (&ready.name, ready.types.join(","));
    tracing::info!(%worker, concurrency, %agents, "serving; agents are {confined}; {containers}");
}

impl RunningWorker {
    /// Starts a worker and waits until it serves.
    ///
    /// # Errors
    /// What it cannot start for.
    pub(crate) async fn start(
        settings: WorkerSettings,
        options: StoreOptions,
    ) -> Result<(RunningWorker, WorkerReady), Failure> {
        let (signals, inbox) = mpsc::unbounded_channel();
        let (ready_sender, ready) = oneshot::channel();
        let mut task = tokio::spawn(run_worker(settings, options, inbox, move |state| {
            let _ = ready_sender.send(state.clone());
        }));
        tokio::select! {
            biased;
            state = ready => match state {
                Ok(state) => Ok((RunningWorker { signals, task }, state)),
                Err(_) => Err(ended((&mut task).await)),
            },
            result = &mut task => Err(ended(result)),
        }
    }

    /// Tells it to end: first after its tasks, then at once.
    pub(crate) fn terminate(&self) {
        let _ = self.signals.send(WorkerSignal::Terminate);
    }

    /// Waits until it has ended, by itself or because it was told.
    ///
    /// # Errors
    /// What it ended for.
    pub(crate) async fn ended(&mut self) -> Result<(), Failure> {
        match (&mut self.task).await {
            Ok(Ok(())) => Ok(()),
            other => Err(ended(other)),
        }
    }
}

fn ended(result: Result<Result<(), WorkerError>, tokio::task::JoinError>) -> Failure {
    match result {
        Ok(Ok(())) => Failure::unavailable("the worker ended before it served"),
        Ok(Err(error)) => worker_failure(error),
        Err(error) => Failure::unavailable("the worker broke down").caused_by(&error),
    }
}

/// A coordinator that runs in this process.
#[derive(Debug)]
pub(crate) struct RunningCoordinator {
    stop: watch::Sender<bool>,
    /// What it tells.
    pub(crate) wires: CoordinatorWires,
    task: JoinHandle<Result<(), maestro_store::StoreError>>,
}

impl RunningCoordinator {
    /// Starts a coordinator.
    pub(crate) fn start(settings: CoordinatorSettings, store: Store) -> RunningCoordinator {
        let (stop, stopped) = watch::channel(false);
        let wires = CoordinatorWires::new(store);
        let task = tokio::spawn(run_coordinator(settings, stopped, wires.clone()));
        RunningCoordinator { stop, wires, task }
    }

    /// Tells it to end.
    pub(crate) fn terminate(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// What it ended for.
    pub(crate) async fn ended(&mut self) -> Result<(), Failure> {
        match (&mut self.task).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(store_failure(error)),
            Err(error) => Err(Failure::unavailable("the coordinator broke down").caused_by(&error)),
        }
    }
}

/// Waits for SIGTERM or SIGINT; each call for the next one.
#[derive(Debug)]
pub(crate) struct Interruptions {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Interruptions {
    /// Takes the signals over: from now on they do not end the process by themselves.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn take_over() -> Result<Interruptions, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let cannot =
            |error: std::io::Error| Failure::unavailable("cannot listen to signals").caused_by(&error);
        Ok(Interruptions {
            terminate: signal(SignalKind::terminate()).map_err(cannot)?,
            interrupt: signal(SignalKind::interrupt()).map_err(cannot)?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Time that a local engine has to end by itself.
pub(crate) const LOCAL_END_WAIT: Duration = Duration::from_secs(60);
