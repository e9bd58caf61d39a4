//! Running one attempt: workspace, launch, output, limits, end.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use maestro_model::agent_type::Isolation;
use maestro_model::ids::WorkerName;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep};

use super::agent::RunningTree;
use super::begin::{Beginning, ProcessHost};
use super::ending::{AttemptEnd, StartError, stopped_before_start, unstarted, without_start};
use super::environment::HostEnvironment;
use super::files::OwnPlaces;
use super::follow::RunningAgent;
use super::order::AttemptOrder;
use super::pause::AgentPause;
use super::prepare::{Preparation, Prepared};
use super::stop::{AttemptHandle, LiveOutput, StopKind, StopRequest};
use crate::answer::AnswerReader;
use crate::confinement::{Confinement, ControlGroups};
use crate::container::{ContainerEngine, ContainerError, Readied};
use crate::launch::{LaunchError, Launcher};
use crate::log_capture::{LogSender, OutputCapture};
use crate::side_door::{BoundDoor, DoorPass, TaskCard};
use crate::standstill::{Mover, Standstill};
use crate::step_copy::Bringer;
use crate::workspace::{WorkspacePaths, WorkspaceRoot};

/// How long a start that hangs is waited for once the attempt is to be stopped.
const STOP_PATIENCE: Duration = Duration::from_millis(500);

/// Makes attempts run. Clones are the same runner.
#[derive(Clone)]
pub struct AttemptRunner {
    shared: Arc<RunnerShared>,
}

struct RunnerShared {
    launcher: Launcher,
    root: WorkspaceRoot,
    host: HostEnvironment,
    null: OwnedFd,
    containers: OnceLock<ContainerEngine>,
    confinement: OnceCell<Confinement>,
}

impl RunnerShared {
    /// Found out when it is first needed.
    async fn confinement(&self) -> &Confinement {
        self.confinement.get_or_init(|| Confinement::find(&self.launcher)).await
    }

    async fn for_processes(&self) -> ProcessHost<'_> {
        ProcessHost {
            launcher: &self.launcher,
            root: &self.root,
            host: &self.host,
            confinement: self.confinement().await,
            null: &self.null,
        }
    }
}

impl AttemptRunner {
    /// Starts nothing yet.
    ///
    /// # Errors
    /// If `/dev/null` cannot be opened.
    pub fn new(launcher: Launcher, root: WorkspaceRoot, host: HostEnvironment) -> io::Result<AttemptRunner> {
        let null = OpenOptions::new().read(true).open("/dev/null")?.into();
        let (containers, confinement) = (OnceLock::new(), OnceCell::new());
        let shared = RunnerShared { launcher, root, host, null, containers, confinement };
        Ok(AttemptRunner { shared: Arc::new(shared) })
    }

    /// Lets attempts of types with `isolate_with: docker` run. Without this they fail. The first engine counts.
    #[must_use]
    pub fn with_containers(self, engine: ContainerEngine) -> AttemptRunner {
        let _ = self.shared.containers.set(engine);
        self
    }

    /// The engine for containers, if there is one.
    pub fn containers(&self) -> Option<&ContainerEngine> {
        self.shared.containers.get()
    }

    /// What confines its agents.
    pub async fn confinement(&self) -> &Confinement {
        self.shared.confinement().await
    }

    /// Confines its agents by all that the host has, as the worker of this name.
    pub async fn confine_as(&self, name: &WorkerName) -> Confinement {
        let owner = format!("{}\0{name}", self.shared.root.path().display());
        let found = Confinement::find(&self.shared.launcher).await;
        let confinement = found.with_groups(ControlGroups::open(&owner));
        self.confine_with(confinement.clone());
        confinement
    }

    /// Confines its agents by this, instead of all that the host has. Must be said before the first of them.
    pub fn confine_with(&self, confinement: Confinement) {
        let known = self.shared.confinement.set(confinement);
        debug_assert!(known.is_ok(), "agents run already, confined otherwise");
    }

    /// Where the attempt of an order works: templates of its command may name these paths.
    pub fn root(&self) -> &WorkspaceRoot {
        &self.shared.root
    }

    /// An attempt that starts when it is run. Its output is offered to `logs` as it comes, if there is one.
    pub fn attempt(&self, order: AttemptOrder, logs: Option<LogSender>) -> AttemptRun {
        let (stop, stopped) = watch::channel(StopRequest::default());
        let handle = AttemptHandle { stop, live: Arc::new(LiveOutput::new()) };
        let mover = Arc::new(Standstill::default().mover());
        let shared = self.shared.clone();
        AttemptRun { shared, order, logs, handle, stopped, door: None, bringer: None, mover }
    }
}

/// An attempt that has not started yet.
pub struct AttemptRun {
    shared: Arc<RunnerShared>,
    order: AttemptOrder,
    logs: Option<LogSender>,
    handle: AttemptHandle,
    stopped: watch::Receiver<StopRequest>,
    door: Option<DoorPass>,
    bringer: Option<Bringer>,
    mover: Arc<Mover>,
}

impl AttemptRun {
    /// Lets it stand still with others. Without this nobody pauses it.
    #[must_use]
    pub fn moving_as(mut self, mover: Arc<Mover>) -> AttemptRun {
        self.mover = mover;
        self
    }

    /// Lets it begin in a copy of what another step left. Without this such an attempt fails.
    #[must_use]
    pub fn with_bringer(mut self, bringer: Bringer) -> AttemptRun {
        self.bringer = Some(bringer);
        self
    }

    /// Gives its agent a side door. Without one there is no `MAESTRO_SOCKET`.
    #[must_use]
    pub fn with_door(mut self, pass: DoorPass) -> AttemptRun {
        self.door = Some(pass);
        self
    }

    /// To end it, or look at it, while it runs.
    pub fn handle(&self) -> AttemptHandle {
        self.handle.clone()
    }

    /// Runs it to its end: when this answers, none of its processes is left.
    pub async fn run(self) -> AttemptEnd {
        if let Some(report) = self.order.refusal() {
            return unstarted(report, None);
        }
        let order = &self.order;
        let paths =
            self.shared.root.paths(&order.agent.slug, &order.task, order.attempt, order.place.clone());
        let mut stopped = self.stopped.clone();
        let files = OwnPlaces::of(order, &paths);
        let prepared = tokio::select! {
            biased;
            // A large template may still be copied for a while: into a folder that nobody will use.
            kind = stop_asked(&mut stopped) => return stopped_before_start(kind),
            prepared = async {
                self.mover.move_when_allowed().await;
                let prepared = tokio::try_join!(self.prepare(&paths), self.ready_container());
                // Nothing is launched during a pause: the agent would run until it is noticed.
                if self.mover.is_to_pause() {
                    self.mover.stand_still();
                    self.mover.move_when_allowed().await;
                }
                prepared
            } => prepared,
        };
        let started = match prepared {
            Ok((prepared, readied)) => self.launch(&files, prepared, readied).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(running) => running.follow(&files.outside, &paths).await,
            Err(error) => match stopped.borrow().kind {
                Some(kind) => stopped_before_start(kind),
                None => without_start(&error),
            },
        }
    }

    /// On a thread that may wait for the disk.
    async fn prepare(&self, paths: &WorkspacePaths) -> Result<Prepared, StartError> {
        let (shared, preparation) =
            (self.shared.clone(), Preparation::of(&self.order, paths, self.door.clone()));
        let work = tokio::task::spawn_blocking(move || preparation.carry_out(&shared.root, &shared.host));
        let prepared = work
            .await
            .unwrap_or_else(|error| Err(LaunchError::Host { source: io::Error::other(error) }.into()))?;
        if let Some(source) = &self.order.copy_of {
            let bringer = self.bringer.as_ref().ok_or_else(StartError::cannot_copy)?;
            bringer.bring(source, paths).await?;
        }
        Ok(prepared)
    }

    /// What a container needs beside its workspace; none for a process.
    async fn ready_container(&self) -> Result<Option<Readied>, StartError> {
        let order = &self.order;
        if order.agent.isolate_with != Isolation::Docker {
            return Ok(None);
        }
        let none = || ContainerError::Engine("this worker was set up without one".to_owned());
        let engine = self.shared.containers.get().ok_or_else(none)?;
        Ok(Some(engine.ready(&order.agent, &order.task, order.attempt).await?))
    }

    async fn launch(
        self,
        files: &OwnPlaces,
        prepared: Prepared,
        readied: Option<Readied>,
    ) -> Result<RunningAgent, StartError> {
        let (order, shared) = (self.order, &self.shared);
        let mask = prepared.secrets.mask();
        self.handle.live.reach(|reached| {
            reached.prepared = Some(std::time::Instant::now());
            reached.mask.clone_from(&mask);
        });
        let captured =
            OutputCapture::new(prepared.log, self.logs, order.task.clone(), order.attempt, mask.clone());
        let (mut capture, ends) = captured.map_err(|source| LaunchError::Host { source })?;
        capture.listen(AnswerReader::of(order.agent.output), order.fallback_notice());
        let door = prepared.door.as_ref().map(|door| door.path().to_owned());
        let seen = door.as_deref().map(|door| files.seen(door));
        let now = SystemTime::now();
        let env = shared.host.of_agent(&order, prepared.secrets, &files.inside, seen.as_deref(), now);
        let mut stopped = self.stopped.clone();
        let given_up = async {
            stop_asked(&mut stopped).await;
            sleep(STOP_PATIENCE).await;
        };
        let beginning = Beginning { order: &order, files, env, stdin: prepared.stdin, ends };
        let (agent, group) = match readied {
            None => {
                let host = shared.for_processes().await;
                let (process, group) = beginning.start_process(host, door.as_deref(), given_up).await?;
                (RunningTree::Process(process), group)
            }
            Some(readied) => {
                let host = (&shared.host, shared.root.path());
                let started = beginning.start_container(readied, host, door, &mut capture, given_up).await?;
                (RunningTree::Container(started), None)
            }
        };
        // Who connected since the launch has been waiting. Where the agent's processes are not seen, nobody
        // could say who knocks: the door stays closed.
        let open = |(door, root): (BoundDoor, u32)| door.open(card(&order), root);
        let door = prepared.door.zip(agent.root_pid()).map(open).transpose()?;
        let now = Instant::now();
        self.handle.live.reach(|reached| reached.launched = Some(now.into_std()));
        self.handle.live.update(|live| {
            live.pid = agent.pid();
            live.last_output = now.into_std();
        });
        let pause = AgentPause::of(self.mover, agent.stillness());
        Ok(RunningAgent {
            agent,
            group,
            door,
            capture,
            mask,
            live: self.handle.live.clone(),
            stopped: self.stopped,
            started: now,
            last_output: now,
            timeout: order.timeout,
            stall_timeout: order.stall_timeout,
            grace: order.grace,
            ending: None,
            pause,
        })
    }
}

/// Who is behind the side door.
fn card(order: &AttemptOrder) -> TaskCard {
    TaskCard {
        task: order.task.clone(),
        attempt: order.attempt,
        run: order.task.run.to_string(),
        step: order.step.clone(),
        workflow: order.workflow.clone(),
        agent: order.agent.slug.to_string(),
        worker: order.worker.clone(),
    }
}

/// Waits until a stop is asked for; for ever, once nobody can ask any more.
async fn stop_asked(stopped: &mut watch::Receiver<StopRequest>) -> StopKind {
    let kind = stopped.wait_for(|request| request.kind.is_some()).await.ok().and_then(|request| request.kind);
    match kind {
        Some(kind) => kind,
        None => std::future::pending().await,
    }
}
