//! The worker's side: a launcher to start agents with, and a handle on each of them.
//!
//! What the end of a process means for its task is decided in `attempt`; output is read there too.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;

use super::error::LaunchError;
use super::link::{LauncherLink, PacketSocket, SupervisorLink};
use super::program::{DEFAULT_PATH, candidates, find_program};
use super::spec::{GROUPS_MAX, LaunchFds, LaunchSpec, LauncherCommand, WallPlan};
use super::tree::KILL_LIMIT;
use super::wire::{
    LauncherReply, LauncherRequest, PACKET_BYTES_MAX, START_BYTES_MAX, StartOrder, StartStep,
    SupervisorReply, SupervisorRequest, TreeEnd, TreeEndCause, WallKind,
};
use super::wire_order::{ViewEntry, WallOrder};

/// Most supervisors that wait for another agent; more are let go when their agent has ended.
const IDLE_SUPERVISORS_MAX: usize = 32;
/// Longest wait for a program to be executed: its file may lie on a file system that hangs.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for a killed tree's end before its supervisor is given up: its own limit and a bit.
pub const KILL_ANSWER_LIMIT: Duration = KILL_LIMIT.saturating_add(Duration::from_secs(2));
/// Longest wait for a supervisor to build its walls.
const WALLS_LIMIT: Duration = Duration::from_secs(10);
/// How often a start asks for a supervisor, a new launcher included, before it gives up.
const SUPERVISOR_TRIES_MAX: u32 = 2;

/// How an agent's process ended, as far as its worker can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessEnd {
    /// It ended, and so did all below it.
    Ended(TreeEnd),
    /// Its supervisor was killed. What it left has been killed too, as far as the launcher still lived.
    SupervisorLost,
}

/// Starts agents. Clones share one launcher process, which is started when first needed and again when lost.
///
/// Must be used within one tokio runtime, with its I/O driver on.
#[derive(Clone)]
pub struct Launcher {
    shared: Arc<LauncherShared>,
}

struct LauncherShared {
    command: LauncherCommand,
    link: AsyncMutex<Option<LauncherLink>>,
    idle: Mutex<Vec<SupervisorLink>>,
}

impl Launcher {
    /// Starts nothing yet.
    pub fn new(command: LauncherCommand) -> Launcher {
        let shared = LauncherShared { command, link: AsyncMutex::new(None), idle: Mutex::new(Vec::new()) };
        Launcher { shared: Arc::new(shared) }
    }

    /// Starts the launcher process unless it runs, so that a worker that cannot launch says so at its start.
    ///
    /// # Errors
    /// `LauncherLost` if there is none to be had.
    pub async fn start(&self) -> Result<(), LaunchError> {
        let supervisor = self.shared.supervisor(WallKind::Open).await?;
        self.shared.keep(supervisor);
        Ok(())
    }

    /// Tries whether walls of a kind can be built here; the supervisor that has them is kept for an agent.
    ///
    /// # Errors
    /// `Unwalled` if they cannot.
    pub async fn try_walls(&self, kind: WallKind) -> Result<(), LaunchError> {
        let supervisor = self.shared.supervisor(kind).await?;
        self.shared.keep(supervisor);
        Ok(())
    }

    /// The process id of the launcher, if one is running.
    pub async fn pid(&self) -> Option<u32> {
        self.shared.link.lock().await.as_ref().map(LauncherLink::pid)
    }

    /// Starts an agent and returns once its program is being executed.
    ///
    /// # Errors
    /// See [`LaunchError`]; whatever it says, nothing runs.
    pub async fn launch(&self, spec: &LaunchSpec, fds: LaunchFds<'_>) -> Result<AgentProcess, LaunchError> {
        self.launch_unless(spec, fds, std::future::pending()).await
    }

    /// The same, but gives up once `given_up` says so, or after [`START_LIMIT`].
    pub(crate) async fn launch_unless(
        &self,
        spec: &LaunchSpec,
        fds: LaunchFds<'_>,
        given_up: impl Future<Output = ()>,
    ) -> Result<AgentProcess, LaunchError> {
        let mut order = start_order(spec)?;
        order.groups = fds.groups.len().min(GROUPS_MAX) as u32;
        let rules = spec.walls.as_ref().and_then(|walls| walls.rules.as_deref());
        let kind = spec.walls.as_ref().map_or(WallKind::Open, |walls| walls.kind);
        let supervisor = self.shared.supervisor(kind).await?;
        send_order(&supervisor.socket, &order, &fds, rules)
            .map_err(|errno| start_failure(spec, StartStep::Order, errno, None))?;
        let mut buffer = [0; 64];
        let packet = tokio::select! {
            packet = timeout(START_LIMIT, supervisor.socket.receive(&mut buffer)) => packet.ok(),
            () = given_up => None,
        };
        let Some(packet) = packet else {
            self.shared.sweep(supervisor.pid).await;
            return Err(LaunchError::Host { source: io::ErrorKind::TimedOut.into() });
        };
        let (reply, name) = match packet {
            Ok(Some(mut packet)) => (SupervisorReply::decode(&buffer[..packet.length]), packet.fds.pop()),
            Ok(None) => return Err(lost(io::ErrorKind::BrokenPipe.into())),
            Err(source) => return Err(lost(source)),
        };
        match reply {
            Ok(SupervisorReply::Started { pid }) => {
                let shared = self.shared.clone();
                let supervisor_pid = supervisor.pid;
                // One that has ended meanwhile has no number any more.
                let pid = name.map_or(pid, |name| number_of(&name).unwrap_or(supervisor_pid));
                Ok(AgentProcess { pid, supervisor: Some(supervisor), supervisor_pid, is_over: false, shared })
            }
            Ok(SupervisorReply::NotStarted { step, errno, entry }) => {
                self.shared.keep(supervisor);
                Err(start_failure(spec, step, Errno::from_raw_os_error(errno), entry))
            }
            Ok(_) | Err(_) => Err(lost(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Ends the launcher, and with it every agent it ever started, and waits until it is gone.
    pub async fn close(&self) {
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let link = self.shared.link.lock().await.take();
        if let Some(link) = link {
            link.close().await;
        }
    }
}

impl LauncherShared {
    /// A supervisor that waits for an agent: one that is idle, or a new one.
    async fn supervisor(&self, kind: WallKind) -> Result<SupervisorLink, LaunchError> {
        while let Some(supervisor) = self.pop_idle(kind) {
            if supervisor.socket.is_quiet() {
                return Ok(supervisor);
            }
        }
        let mut link = self.link.lock().await;
        let mut last = io::ErrorKind::NotConnected.into();
        for _ in 0..SUPERVISOR_TRIES_MAX {
            match self.ask_for_supervisor(&mut link, kind).await {
                Ok(LauncherAnswer::Supervisor(supervisor)) => {
                    drop(link);
                    return walled(supervisor).await;
                }
                Ok(LauncherAnswer::Refused(source)) => return Err(LaunchError::Host { source }),
                // A launcher that does not answer is of no use any more: closing the link ends it.
                Err(error) => {
                    tracing::warn!(%error, "the launcher process is lost, starting another");
                    *link = None;
                    last = error;
                }
            }
        }
        Err(lost(last))
    }

    async fn ask_for_supervisor(
        &self,
        link: &mut Option<LauncherLink>,
        kind: WallKind,
    ) -> io::Result<LauncherAnswer> {
        let link = match link {
            Some(link) => link,
            None => link.insert(LauncherLink::start(&self.command)?),
        };
        let (reply, mut fds) = link.ask(LauncherRequest::Supervise(kind)).await?;
        match (reply, fds.pop()) {
            (LauncherReply::Supervisor { pid }, Some(fd)) => {
                let socket = PacketSocket::new(fd)?;
                Ok(LauncherAnswer::Supervisor(SupervisorLink { socket, pid, kind }))
            }
            (LauncherReply::Refused { errno }, _) => {
                Ok(LauncherAnswer::Refused(io::Error::from_raw_os_error(errno)))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn pop_idle(&self, kind: WallKind) -> Option<SupervisorLink> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().rposition(|supervisor| supervisor.kind == kind)?;
        Some(idle.swap_remove(at))
    }

    /// Keeps a supervisor for the next agent, or lets it go if enough are kept.
    fn keep(&self, supervisor: SupervisorLink) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_SUPERVISORS_MAX {
            idle.push(supervisor);
        }
    }

    /// Has the launcher kill a supervisor and what it leaves, and waits for it.
    async fn sweep(&self, supervisor: u32) {
        let mut link = self.link.lock().await;
        let Some(launcher) = link.as_mut() else { return };
        match launcher.ask(LauncherRequest::Sweep { supervisor }).await {
            Ok((LauncherReply::Swept { survivors: 0 }, _)) => {}
            Ok((reply, _)) => tracing::error!(?reply, "processes of a lost supervisor are still there"),
            Err(error) => {
                tracing::warn!(%error, "the launcher process is lost, too");
                *link = None;
            }
        }
    }
}

enum LauncherAnswer {
    Supervisor(SupervisorLink),
    Refused(io::Error),
}

/// An agent that runs. Dropping it kills the agent and everything below it.
pub struct AgentProcess {
    pid: u32,
    supervisor: Option<SupervisorLink>,
    supervisor_pid: u32,
    is_over: bool,
    shared: Arc<LauncherShared>,
}

impl AgentProcess {
    /// The process id of the agent's first process, also the id of its session and group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The process below which all of the tree stay, whatever they do.
    pub(crate) fn supervisor_pid(&self) -> u32 {
        self.supervisor_pid
    }

    /// Sends SIGTERM to every process of the tree. From now on all of them, and not only the first, have
    /// until [`kill`](AgentProcess::kill) to end.
    pub fn terminate(&self) {
        self.ask(&SupervisorRequest::Terminate);
    }

    /// Kills every process of the tree, sessions of their own included.
    pub fn kill(&self) {
        self.ask(&SupervisorRequest::Kill);
    }

    /// Gives up on a supervisor that has not answered a kill in [`KILL_ANSWER_LIMIT`]: `ended` then has the
    /// launcher kill it and what is below it, and says that it is lost.
    pub fn abandon(&mut self) {
        self.supervisor = None;
    }

    /// Stops every process of the tree where it stands.
    pub fn pause(&self) {
        self.ask(&SupervisorRequest::Pause);
    }

    /// Lets a paused tree go on.
    pub fn resume(&self) {
        self.ask(&SupervisorRequest::Resume);
    }

    /// A supervisor that cannot be asked is dead, and `ended` says so.
    fn ask(&self, request: &SupervisorRequest) {
        if let Some(supervisor) = &self.supervisor {
            let _ = supervisor.socket.send(&request.encode(), &[]);
        }
    }

    /// Waits until the agent has ended and nothing is left of its tree. May be cancelled and called again.
    ///
    /// # Panics
    /// If it is called again after it has returned.
    pub async fn ended(&mut self) -> ProcessEnd {
        assert!(!self.is_over, "an agent ends once");
        let end = match &self.supervisor {
            Some(supervisor) => receive_end(&supervisor.socket).await,
            // It was given up, or an earlier call was cancelled while it swept.
            None => None,
        };
        let supervisor = self.supervisor.take();
        let Some(end) = end else {
            drop(supervisor);
            self.shared.sweep(self.supervisor_pid).await;
            self.is_over = true;
            return ProcessEnd::SupervisorLost;
        };
        if end.survivors == 0
            && end.cause == TreeEndCause::Asked
            && let Some(supervisor) = supervisor
        {
            self.shared.keep(supervisor);
        }
        self.is_over = true;
        ProcessEnd::Ended(end)
    }
}

/// A new supervisor once its walls stand.
async fn walled(supervisor: SupervisorLink) -> Result<SupervisorLink, LaunchError> {
    if supervisor.kind == WallKind::Open {
        return Ok(supervisor);
    }
    let mut buffer = [0; 64];
    let packet = timeout(WALLS_LIMIT, supervisor.socket.receive(&mut buffer)).await;
    let packet = packet.map_err(|_| lost(io::ErrorKind::TimedOut.into()))?.map_err(lost)?;
    let packet = packet.ok_or_else(|| lost(io::ErrorKind::BrokenPipe.into()))?;
    match SupervisorReply::decode(&buffer[..packet.length]) {
        Ok(SupervisorReply::Ready) => Ok(supervisor),
        Ok(SupervisorReply::Unwalled { step, errno }) => {
            Err(LaunchError::Unwalled { step, source: io::Error::from_raw_os_error(errno) })
        }
        _ => Err(lost(io::ErrorKind::InvalidData.into())),
    }
}

/// The process id, here, of the process that a descriptor names.
fn number_of(name: &OwnedFd) -> Option<u32> {
    let facts = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", name.as_raw_fd())).ok()?;
    facts.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

/// What a supervisor says last of its agent; none if it is gone, or says what makes no sense.
async fn receive_end(supervisor: &PacketSocket) -> Option<TreeEnd> {
    let mut buffer = [0; 64];
    let packet = supervisor.receive(&mut buffer).await.ok()??;
    match SupervisorReply::decode(&buffer[..packet.length]) {
        Ok(SupervisorReply::Ended(end)) => Some(end),
        _ => None,
    }
}

fn lost(source: io::Error) -> LaunchError {
    LaunchError::LauncherLost { source }
}

fn start_order(spec: &LaunchSpec) -> Result<StartOrder, LaunchError> {
    let Some(program) = spec.argv.first().filter(|program| !program.is_empty()) else {
        return Err(LaunchError::Malformed { rule: "it has no program" });
    };
    let order = StartOrder {
        cwd: spec.cwd.as_os_str().as_bytes().to_vec(),
        candidates: candidates(program, path_of(spec)),
        argv: spec.argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
        env: spec
            .env
            .iter()
            .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
            .collect(),
        walls: spec.walls.as_ref().map(|walls| WallOrder {
            entries: walls.entries.clone(),
            has_rules: walls.rules.is_some(),
            handled: walls.handled,
        }),
        groups: 0,
        data_bytes_max: spec.data_bytes_max,
    };
    let texts = order.argv.iter().chain(&order.env).chain([&order.cwd]);
    if texts.into_iter().any(|text| text.contains(&0)) {
        return Err(LaunchError::Malformed { rule: "no word of it and no variable may hold a NUL" });
    }
    Ok(order)
}

fn path_of(spec: &LaunchSpec) -> &OsStr {
    let path = spec.env.iter().rev().find(|(name, _)| name == "PATH");
    path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value.as_os_str())
}

/// An order that is too long for a packet goes into a memory file.
fn send_order(
    supervisor: &PacketSocket,
    order: &StartOrder,
    fds: &LaunchFds<'_>,
    rules: Option<&OwnedFd>,
) -> Result<(), Errno> {
    let bytes = order.encode();
    let mut passed = vec![fds.stdin, fds.stdout, fds.stderr];
    passed.extend(rules.map(AsFd::as_fd));
    passed.extend(fds.groups.iter().take(GROUPS_MAX).map(AsFd::as_fd));
    if bytes.len() <= PACKET_BYTES_MAX {
        return supervisor.send(&bytes, &passed);
    }
    if bytes.len() > START_BYTES_MAX {
        return Err(Errno::TOOBIG);
    }
    let file = memory_file("maestro-order", &bytes)?;
    passed.push(file.as_fd());
    supervisor.send(&SupervisorRequest::StartFromFile.encode(), &passed)
}

/// A file without a name that holds these bytes, to be read from its beginning.
pub(crate) fn memory_file(name: &str, bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = &rest[written..];
    }
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file)
}

/// What a failed step means, in words that name the program or the folder.
fn start_failure(spec: &LaunchSpec, step: StartStep, errno: Errno, entry: Option<u32>) -> LaunchError {
    let source = io::Error::from(errno);
    if let (Some(walls), Some(entry)) = (&spec.walls, entry)
        && let Some(entry) = walls.entries.get(entry as usize)
    {
        return not_shown(walls, entry, source);
    }
    let program = spec.argv.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    match (step, errno) {
        (StartStep::Chdir, _) => LaunchError::Workspace { path: spec.cwd.clone(), source },
        (_, Errno::TOOBIG) => LaunchError::TooLarge,
        (StartStep::Exec, Errno::NOENT) => missing(spec, program),
        (StartStep::Exec, Errno::ACCESS | Errno::NOEXEC | Errno::PERM | Errno::ISDIR | Errno::LOOP) => {
            LaunchError::ProgramRefused { program, source }
        }
        (StartStep::Confine | StartStep::Limit, _) => LaunchError::Confinement { source },
        (StartStep::Order, Errno::PIPE | Errno::CONNRESET) => lost(source),
        _ => LaunchError::Host { source },
    }
}

/// A path that a type names is its business; all others were the worker's.
fn not_shown(walls: &WallPlan, entry: &ViewEntry, source: io::Error) -> LaunchError {
    let path = PathBuf::from(OsStr::from_bytes(&entry.path));
    match walls.named.contains(&path) {
        true => LaunchError::PathRefused { path, rule: format!("it cannot be shown: {source}") },
        false => LaunchError::NotShown { path, source },
    }
}

/// The kernel says the same of a missing program and of a missing interpreter: the difference is looked up.
fn missing(spec: &LaunchSpec, program: String) -> LaunchError {
    let name = spec.argv.first().map_or(OsStr::new(""), OsString::as_os_str);
    let looked_in = match spec.argv.first() {
        Some(word) if word.as_bytes().contains(&b'/') => {
            spec.cwd.join(OsString::from_vec(word.as_bytes().to_vec())).display().to_string()
        }
        _ => path_of(spec).to_string_lossy().into_owned(),
    };
    match find_program(name, path_of(spec), Path::new(&spec.cwd)) {
        Some(_) => LaunchError::InterpreterMissing { program },
        None => LaunchError::ProgramMissing { program, looked_in },
    }
}
