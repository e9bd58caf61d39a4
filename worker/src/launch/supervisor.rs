//! A supervisor: the small process between the launcher and one agent at a time.
//!
//! It starts the agent, passes signals to the whole tree, reports the end only when nothing is left, and
//! then waits for its next agent: forking is the dear part of a launch. It decides no outcome, keeps no
//! time but the limit for killing, and reads no output.

use std::io::{self, Read};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, Signal};

use super::socket::{Packet, receive_packet, send_packet};
use super::sys::{self, ChildStack, ChildUsage, Drained, Reaped, SpawnFailure, SpawnPlan, Spawned};
use super::tree::{self, KILL_LIMIT};
use super::view::{Unwalled, View, WorkerUser};
use super::walls::ChildWalls;
use super::wire::{
    MainEnd, PACKET_BYTES_MAX, START_BYTES_MAX, StartOrder, StartStep, SupervisorReply, SupervisorRequest,
    TreeEnd, TreeEndCause, WallKind,
};

/// The exit code of a supervisor whose worker is gone, or that is not needed any more.
const DONE: i32 = 0;
/// The exit code of a supervisor that lost its launcher or could not set itself up.
const LOST: i32 = 1;

/// Runs in a fresh child of the launcher until the worker closes the socket or the launcher dies.
pub(super) fn supervise(socket: OwnedFd, launcher: Pid) -> i32 {
    let _ = rustix::thread::set_name(c"maestro-super");
    let ready = rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .and_then(|()| sys::die_with_parent(sys::PARENT_DIED));
    if ready.is_err() || rustix::process::getppid() != Some(launcher) {
        return LOST;
    }
    Supervisor::new(socket, None).map_or(LOST, Supervisor::run)
}

/// The same in a child that is the first process of namespaces of its own. It says when its walls stand.
pub(super) fn supervise_within(socket: OwnedFd, launcher: Pid, kind: WallKind, user: WorkerUser) -> i32 {
    let _ = rustix::thread::set_name(c"maestro-super");
    let (reply, view) = match View::set_up(kind, user, launcher) {
        Ok(view) => (SupervisorReply::Ready, Some(view)),
        Err(Unwalled { step, errno }) => (SupervisorReply::Unwalled { step, errno }, None),
    };
    let said = send_packet(&socket, &reply.encode(), &[], SendFlags::empty());
    match (said, view) {
        (Ok(()), Some(view)) => Supervisor::new(socket, Some(view)).map_or(LOST, Supervisor::run),
        _ => LOST,
    }
}

struct Supervisor {
    socket: OwnedFd,
    signals: OwnedFd,
    stack: ChildStack,
    buffer: Vec<u8>,
    tree: Option<AgentTree>,
    /// What it shows its agents, if it stands within walls.
    view: Option<View>,
}

/// The agent that runs just now.
struct AgentTree {
    main: Pid,
    end: Option<MainEnd>,
    ending: Ending,
    usage: ChildUsage,
    leftovers: u32,
}

/// Whether the rest of the tree may outlive the first process for a while.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// No: when the first process is gone, the task is over.
    WithMain,
    /// SIGTERM was sent: all have the grace period that the worker counts.
    Asked,
}

impl Supervisor {
    fn new(socket: OwnedFd, view: Option<View>) -> io::Result<Supervisor> {
        let signals = sys::signal_descriptor()?;
        let (stack, buffer) = (ChildStack::new(), vec![0; PACKET_BYTES_MAX]);
        Ok(Supervisor { socket, signals, stack, buffer, tree: None, view })
    }

    fn run(mut self) -> i32 {
        loop {
            let mut polled =
                [PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.socket, PollFlags::IN)];
            if poll(&mut polled, None).is_err() {
                continue;
            }
            let [signalled, spoken] = polled.map(|fd| !fd.revents().is_empty());
            if signalled {
                if sys::drain_signals(&self.signals) == Drained::ParentDied {
                    return self.on_launcher_lost();
                }
                self.on_child_ended();
            }
            if spoken && let Some(code) = self.on_packet() {
                return code;
            }
        }
    }

    fn on_launcher_lost(&mut self) -> i32 {
        self.kill_and_report(TreeEndCause::LauncherLost);
        LOST
    }

    /// The worker is gone, or wants this supervisor no more: either way nothing may be left.
    fn on_worker_lost(&mut self) -> i32 {
        self.kill_all(|_| ());
        DONE
    }

    fn on_packet(&mut self) -> Option<i32> {
        let packet = match receive_packet(&self.socket, &mut self.buffer, RecvFlags::DONTWAIT) {
            Ok(Some(packet)) => packet,
            Err(Errno::AGAIN | Errno::INTR) => return None,
            Ok(None) | Err(_) => return Some(self.on_worker_lost()),
        };
        match SupervisorRequest::decode(&self.buffer[..packet.length]) {
            Ok(SupervisorRequest::Start(order)) => self.on_start(Ok(order), packet),
            Ok(SupervisorRequest::StartFromFile) => self.on_start(read_order(&packet), packet),
            Ok(SupervisorRequest::Terminate) => self.on_terminate(),
            Ok(SupervisorRequest::Kill) => self.kill_and_report(TreeEndCause::Asked),
            Ok(SupervisorRequest::Pause) => self.signal_all(Signal::STOP),
            Ok(SupervisorRequest::Resume) => self.signal_all(Signal::CONT),
            Err(_) => return Some(self.on_worker_lost()),
        }
        None
    }

    fn on_start(&mut self, order: Result<StartOrder, Errno>, packet: Packet) {
        let started = match order {
            Ok(order) if self.tree.is_none() => self.spawn(order, packet),
            Ok(_) => Err(refused_order(Errno::BUSY)),
            Err(errno) => Err(refused_order(errno)),
        };
        match started {
            Ok(Spawned { pid: main, name }) => {
                self.tree = Some(AgentTree {
                    main,
                    end: None,
                    ending: Ending::WithMain,
                    usage: ChildUsage::default(),
                    leftovers: 0,
                });
                let started = SupervisorReply::Started { pid: main.as_raw_nonzero().get() as u32 };
                let names: Vec<BorrowedFd<'_>> = name.iter().map(AsFd::as_fd).collect();
                let _ = send_packet(&self.socket, &started.encode(), &names, SendFlags::empty());
            }
            Err(SpawnFailure { step, errno, entry }) => {
                self.clear_view();
                self.reply(SupervisorReply::NotStarted { step, errno, entry });
            }
        }
    }

    fn spawn(&mut self, order: StartOrder, packet: Packet) -> Result<Spawned, SpawnFailure> {
        let garbled = refused_order(Errno::INVAL);
        let mut fds = packet.fds.into_iter();
        let (Some(stdin), Some(stdout), Some(stderr)) = (fds.next(), fds.next(), fds.next()) else {
            return Err(garbled);
        };
        let rules = if order.walls.as_ref().is_some_and(|walls| walls.has_rules) { fds.next() } else { None };
        let groups: Vec<OwnedFd> = fds.take(order.groups as usize).collect();
        if groups.len() < order.groups as usize {
            return Err(garbled);
        }
        let mut plan =
            SpawnPlan::new(order.cwd, order.candidates, order.argv, order.env).map_err(|_| garbled)?;
        (plan.groups, plan.data_bytes_max) = (groups, order.data_bytes_max);
        if let Some(walls) = order.walls {
            let view = self.view.as_mut().map(|view| view.prepare(&walls.entries)).transpose();
            let view = view.map_err(|(entry, error)| SpawnFailure {
                entry,
                step: StartStep::Confine,
                errno: error.raw_os_error().unwrap_or(libc::EINVAL),
            })?;
            plan.walls = Some(ChildWalls { view, rules, handled: walls.handled });
        }
        plan.spawn(&mut self.stack, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
    }

    /// A stopped process takes no signal but these two, so it is woken as well.
    fn on_terminate(&mut self) {
        let Some(tree) = &mut self.tree else { return };
        tree.ending = Ending::Asked;
        self.signal_all(Signal::TERM);
        self.signal_all(Signal::CONT);
    }

    /// To everything below this process.
    fn signal_all(&self, signal: Signal) {
        match self.view {
            Some(_) => sys::signal_namespace(signal),
            None => tree::signal_below(signal),
        }
    }

    fn kill_all(&self, on_end: impl FnMut(&Reaped)) -> u32 {
        match self.view {
            Some(_) => tree::kill_namespace(KILL_LIMIT, on_end),
            None => tree::kill_below(&[], KILL_LIMIT, on_end),
        }
    }

    fn clear_view(&mut self) {
        if let Some(view) = &mut self.view {
            view.clear();
        }
    }

    fn on_child_ended(&mut self) {
        let Some(tree) = &mut self.tree else {
            tree::reap_ended(&mut |_| ());
            return;
        };
        let left = tree::reap_ended(&mut |reaped| tree.on_reaped(reaped));
        let over = match tree.ending {
            Ending::WithMain => tree.end.is_some(),
            Ending::Asked => tree.end.is_some() && left == Reaped::NoChildren,
        };
        if over {
            self.kill_and_report(TreeEndCause::Asked);
        }
    }

    /// Ends what is left of the tree, if anything, and says how it went. Without a tree it does nothing.
    fn kill_and_report(&mut self, cause: TreeEndCause) {
        let Some(mut tree) = self.tree.take() else { return };
        let survivors = self.kill_all(|reaped| {
            tree.leftovers += u32::from(tree.end.is_some());
            tree.on_reaped(reaped);
        });
        self.clear_view();
        // A first process that cannot be killed has no end of its own yet; to the worker it was killed.
        let main = tree.end.unwrap_or(MainEnd::Signaled(Signal::KILL.as_raw()));
        self.reply(SupervisorReply::Ended(TreeEnd {
            main,
            cause,
            survivors,
            leftovers: tree.leftovers,
            max_rss_kib: tree.usage.max_rss_kib,
            user_us: tree.usage.user_us,
            system_us: tree.usage.system_us,
        }));
    }

    /// A worker that is gone is noticed by the closed socket, on the next turn.
    fn reply(&self, reply: SupervisorReply) {
        let _ = send_packet(&self.socket, &reply.encode(), &[], SendFlags::empty());
    }
}

impl AgentTree {
    fn on_reaped(&mut self, reaped: &Reaped) {
        let Reaped::Child { pid, end, usage } = reaped else { return };
        if *pid == self.main {
            self.end = Some(*end);
        }
        self.usage.max_rss_kib = self.usage.max_rss_kib.max(usage.max_rss_kib);
        self.usage.user_us += usage.user_us;
        self.usage.system_us += usage.system_us;
    }
}

fn refused_order(errno: Errno) -> SpawnFailure {
    SpawnFailure { step: StartStep::Order, errno: errno.raw_os_error(), entry: None }
}

/// Reads an order from the memory file that came as the last descriptor.
fn read_order(packet: &Packet) -> Result<StartOrder, Errno> {
    let file = packet.fds.last().ok_or(Errno::INVAL)?;
    let file = std::fs::File::from(file.try_clone().map_err(|_| Errno::MFILE)?);
    let mut bytes = Vec::new();
    let limit = START_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|_| Errno::IO)?;
    if bytes.len() > START_BYTES_MAX {
        return Err(Errno::TOOBIG);
    }
    StartOrder::decode(&bytes).map_err(|_| Errno::INVAL)
}
