//! Running one attempt: workspace, launch, output, limits, end.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use indexmap::IndexMap;
use jiff::Zoned;
use maestro_model::agent_type::Isolation;
use maestro_model::ids::WorkerName;
use maestro_model::output_file::{OUTPUT_FILE_BYTES_MAX, parse_output_file};
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::agent::{AgentExit, RunningTree};
use super::begin::{Beginning, ProcessHost};
use super::ending::{
    AttemptEnd, EndingCause, EndingFacts, MESSAGE_BYTES_MAX, OutputsError, OwnFiles, StartError, bounded,
    conclude, stopped_before_start, unstarted, without_start,
};
use super::environment::HostEnvironment;
use super::files::OwnPlaces;
use super::masking::{hide_in_findings, hide_secrets};
use super::order::AttemptOrder;
use super::pause::{AgentPause, PauseStep};
use super::prepare::{Preparation, Prepared};
use super::secrets::SECRET_BYTES_MAX;

use super::stop::{AttemptHandle, LiveOutput, StopKind, StopRequest};
use crate::answer::AnswerReader;
use crate::confinement::{AttemptGroup, Confinement, ControlGroups};
use crate::container::{ContainerEngine, ContainerError, Readied};
use crate::launch::{KILL_ANSWER_LIMIT, LaunchError, Launcher};
use crate::log_capture::{LogSender, OutputCapture, OutputStream, SecretMask};
use crate::side_door::{BoundDoor, DoorPass, OpenDoor, TaskCard};
use crate::standstill::{Mover, Standstill};
use crate::step_copy::Bringer;
use crate::workspace::{WorkspacePaths, WorkspaceRoot, read_own_file, read_own_head};

/// How long a start that hangs is waited for once the attempt is to be stopped.
const STOP_PATIENCE: Duration = Duration::from_millis(500);
/// Longest last line shown of a running attempt, bytes.
const LIVE_LINE_BYTES_MAX: usize = 200;

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
                let host = ProcessHost {
                    launcher: &shared.launcher,
                    root: &shared.root,
                    host: &shared.host,
                    confinement: shared.confinement().await,
                    null: &shared.null,
                };
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

/// An attempt whose agent runs.
struct RunningAgent {
    agent: RunningTree,
    group: Option<AttemptGroup>,
    door: Option<OpenDoor>,
    capture: OutputCapture,
    mask: Option<Arc<SecretMask>>,
    live: Arc<LiveOutput>,
    stopped: watch::Receiver<StopRequest>,
    started: Instant,
    last_output: Instant,
    timeout: Duration,
    stall_timeout: Option<Duration>,
    grace: Duration,
    ending: Option<AgentEnding>,
    pause: AgentPause,
}

/// An agent that has been told to end.
struct AgentEnding {
    cause: EndingCause,
    next: EndingStep,
}

/// What is due next on the way to an agent's end, and when.
#[derive(Clone, Copy)]
enum EndingStep {
    /// SIGKILL, when the grace is over.
    Kill(Instant),
    /// Giving up on the supervisor, which has been told to kill.
    Abandon(Instant),
    /// Nothing more can be done but wait.
    Wait,
}

impl RunningAgent {
    /// `files` are where the agent leaves its own, `paths` has the log.
    async fn follow(mut self, files: &WorkspacePaths, paths: &WorkspacePaths) -> AttemptEnd {
        let mut stop_heard = true;
        // A stop may have come between the last look and now.
        self.on_stop();
        let exit = loop {
            let due = self.next_due();
            tokio::select! {
                end = self.agent.ended() => break end,
                stream = self.capture.readable() => self.on_output(stream, paths).await,
                changed = self.stopped.changed(), if stop_heard => {
                    // With the last handle gone nobody can ask for a stop any more.
                    stop_heard = changed.is_ok();
                    self.on_stop();
                }
                () = self.pause.due() => self.on_pause(),
                () = sleep_until(due) => self.on_due(due),
            }
        };
        let ran_for = self.started.elapsed();
        self.door = None;
        self.live.update(|live| live.pid = None);
        if let Err(error) = self.capture.drain().await {
            self.end_because(log_failed(&error, paths));
        }
        if let Some(notice) = self.capture.noticed() {
            self.end_because(EndingCause::UnknownMode(notice.to_owned()));
        }
        self.conclude(exit, files, ran_for)
    }

    /// The next moment at which something is to be done.
    fn next_due(&self) -> Instant {
        if let Some(ending) = &self.ending {
            return match ending.next {
                EndingStep::Kill(due) | EndingStep::Abandon(due) => due,
                EndingStep::Wait => far_away(),
            };
        }
        if self.pause.is_on() {
            return far_away();
        }
        // A timeout too long for the clock is none.
        let timeout = self.started.checked_add(self.timeout).unwrap_or_else(far_away);
        let stall = self.stall_timeout.and_then(|limit| self.last_output.checked_add(limit));
        stall.map_or(timeout, |stall| stall.min(timeout))
    }

    /// What stands still spends none of its time.
    fn on_pause(&mut self) {
        let spent = match self.pause.step() {
            PauseStep::Stop => return self.agent.pause(),
            PauseStep::None => return,
            PauseStep::GoOn(spent) => spent,
        };
        self.agent.resume();
        self.started = self.started.checked_add(spent).unwrap_or(self.started);
        self.last_output = self.last_output.checked_add(spent).unwrap_or(self.last_output);
        self.live.update(|live| live.last_output = self.last_output.into_std());
    }

    fn on_due(&mut self, due: Instant) {
        if let Some(ending) = &mut self.ending {
            match ending.next {
                EndingStep::Kill(_) => ending.next = kill(&self.agent),
                EndingStep::Abandon(_) => {
                    tracing::error!(
                        pid = self.agent.pid(),
                        "an agent does not end although it was killed; it is given up"
                    );
                    self.agent.abandon();
                    ending.next = EndingStep::Wait;
                }
                EndingStep::Wait => {}
            }
        } else if self.started.checked_add(self.timeout) == Some(due) {
            self.end_because(EndingCause::Timeout(self.timeout));
        } else if let Some(limit) = self.stall_timeout {
            self.end_because(EndingCause::Stalled(limit));
        }
    }

    fn on_stop(&mut self) {
        let StopRequest { kind, hurry } = *self.stopped.borrow_and_update();
        let Some(kind) = kind else { return };
        if hurry && kind == StopKind::Return {
            // It may be somebody else's task by now: what its agent still says is not passed on.
            self.door = None;
        }
        self.end_because(EndingCause::Stopped(kind));
        if hurry
            && let Some(ending) = &mut self.ending
            && let EndingStep::Kill(_) = ending.next
        {
            ending.next = kill(&self.agent);
        }
    }

    async fn on_output(&mut self, stream: OutputStream, paths: &WorkspacePaths) {
        match self.capture.take(stream).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => self.end_because(log_failed(&error, paths)),
        }
        if let Some(notice) = self.capture.noticed() {
            self.end_because(EndingCause::UnknownMode(notice.to_owned()));
        }
        self.last_output = Instant::now();
        let (line, bytes) = (self.capture.last_line(), self.capture.bytes());
        self.live.update(|live| {
            live.last_output = self.last_output.into_std();
            live.output_bytes = bytes;
            live.last_line = cut_line(line);
        });
    }

    /// Tells the agent to end, unless it has been told; the weightier cause is the one that counts.
    fn end_because(&mut self, cause: EndingCause) {
        if let Some(ending) = &mut self.ending {
            if cause > ending.cause {
                ending.cause = cause;
            }
            return;
        }
        // Whoever is told to end has to be able to.
        self.pause.break_off();
        let next = match Instant::now().checked_add(self.grace) {
            Some(due) if !self.grace.is_zero() => {
                self.agent.terminate();
                EndingStep::Kill(due)
            }
            // A grace too long for the clock is none.
            _ => kill(&self.agent),
        };
        self.ending = Some(AgentEnding { cause, next });
    }

    fn conclude(mut self, exit: AgentExit, paths: &WorkspacePaths, ran_for: Duration) -> AttemptEnd {
        let tree = exit.tree();
        if let Some(tree) = tree.filter(|tree| tree.survivors > 0) {
            let folder = paths.folder.display();
            tracing::error!(survivors = tree.survivors, workspace = %folder, "processes cannot be killed");
        }
        let mut answer = self.capture.take_answer().map(|reader| reader.finish(&Zoned::now()));
        if let (Some(answer), Some(mask)) = (&mut answer, &self.mask) {
            hide_in_findings(answer, mask);
        }
        let facts = EndingFacts {
            cause: self.ending.map(|ending| ending.cause),
            exit,
            result: self.capture.result(),
            answer,
            last_error_line: self.capture.last_error_line(),
            ran_out_of_memory: self.group.as_ref().is_some_and(AttemptGroup::ran_out_of_memory),
        };
        let (mut report, broken) = conclude(facts, &AttemptFiles { paths, mask: self.mask.as_deref() });
        if let Some(mask) = &self.mask {
            hide_secrets(&mut report, mask);
        }
        AttemptEnd {
            report,
            broken,
            tree,
            output_bytes: self.capture.bytes(),
            dropped_bytes: self.capture.finish(),
            ran_for,
        }
    }
}

/// The agent's files, secrets masked before anything is cut from them.
struct AttemptFiles<'a> {
    paths: &'a WorkspacePaths,
    mask: Option<&'a SecretMask>,
}

impl OwnFiles for AttemptFiles<'_> {
    fn outputs(&self) -> Result<IndexMap<String, String>, OutputsError> {
        match read_own_file(&self.paths.output(), OUTPUT_FILE_BYTES_MAX)? {
            Some(bytes) => Ok(parse_output_file(&bytes)?),
            None => Ok(IndexMap::new()),
        }
    }

    fn error_text(&self) -> Option<String> {
        // Half a secret at the end would not be known for one.
        let room = if self.mask.is_some() { SECRET_BYTES_MAX } else { 0 };
        let bytes = read_own_head(&self.paths.error(), MESSAGE_BYTES_MAX + room)?;
        let text = String::from_utf8_lossy(&bytes);
        let text = self.mask.map_or_else(|| text.to_string(), |mask| mask.text(&text));
        Some(bounded(text.trim()))
    }
}

fn kill(agent: &RunningTree) -> EndingStep {
    agent.kill();
    EndingStep::Abandon(Instant::now() + KILL_ANSWER_LIMIT)
}

fn log_failed(error: &io::Error, paths: &WorkspacePaths) -> EndingCause {
    EndingCause::LogFailed(format!("cannot write `{}`: {error}", paths.log().display()))
}

fn cut_line(mut line: String) -> String {
    let mut end = line.len().min(LIVE_LINE_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line
}

/// A moment that no attempt lives to see.
fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(365 * 24 * 3600)
}
