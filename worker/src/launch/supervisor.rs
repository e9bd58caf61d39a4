//! A supervisor: the small process between the launcher and one agent at a time.
//!
//! It starts the agent, passes signals to the whole tree, reports the end only when nothing is left, and
//! then waits for its next agent: forking is the dear part of a launch. It decides no outcome, keeps no
//! time but the limit for killing, and reads no output.

use std::io::Read;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, Signal};

use super::socket::{Packet, receive_packet, send_packet};
use super::sys::{self, ChildStack, ChildUsage, Drained, Reaped, SpawnFailure, SpawnPlan};
use super::tree::{self, KILL_LIMIT};
use super::wire::{
    MainEnd, PACKET_BYTES_MAX, START_BYTES_MAX, StartOrder, StartStep, SupervisorReply, SupervisorRequest,
    TreeEnd, TreeEndCause,
};

/// The exit code of a supervisor whose worker is gone, or that is not needed any more.
const DONE: i32 = 0;
/// The exit code of a supervisor that lost its launcher or could not set itself up.
const LOST: i32 = 1;

/// Runs in a fresh child of the launcher until the worker closes the socket or the launcher dies.
pub(super) fn supervise(socket: OwnedFd, launcher: Pid) -> i32 {
    let _ = rustix::thread::set_name(c"maestro-super");
    let ready = rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .and_then(|()| rustix::process::set_parent_process_death_signal(Some(sys::PARENT_DIED)));
    if ready.is_err() || rustix::process::getppid() != Some(launcher) {
        return LOST;
    }
    let Ok(signals) = sys::signal_descriptor() else { return LOST };
    let supervisor = Supervisor {
        socket,
        signals,
        stack: ChildStack::new(),
        buffer: vec![0; PACKET_BYTES_MAX],
        tree: None,
    };
    supervisor.run()
}

struct Supervisor {
    socket: OwnedFd,
    signals: OwnedFd,
    stack: ChildStack,
    buffer: Vec<u8>,
    tree: Option<AgentTree>,
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
        tree::kill_below(&[], KILL_LIMIT, |_| ());
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
            Ok(SupervisorRequest::Pause) => tree::signal_below(Signal::STOP),
            Ok(SupervisorRequest::Resume) => tree::signal_below(Signal::CONT),
            Err(_) => return Some(self.on_worker_lost()),
        }
        None
    }

    fn on_start(&mut self, order: Result<StartOrder, Errno>, packet: Packet) {
        let started = match order {
            Ok(order) if self.tree.is_none() => self.spawn(order, &packet),
            Ok(_) => Err(SpawnFailure { step: StartStep::Order, errno: Errno::BUSY.raw_os_error() }),
            Err(errno) => Err(SpawnFailure { step: StartStep::Order, errno: errno.raw_os_error() }),
        };
        match started {
            Ok(main) => {
                self.tree = Some(AgentTree {
                    main,
                    end: None,
                    ending: Ending::WithMain,
                    usage: ChildUsage::default(),
                    leftovers: 0,
                });
                self.reply(SupervisorReply::Started { pid: main.as_raw_nonzero().get() as u32 });
            }
            Err(SpawnFailure { step, errno }) => self.reply(SupervisorReply::NotStarted { step, errno }),
        }
    }

    fn spawn(&mut self, order: StartOrder, packet: &Packet) -> Result<Pid, SpawnFailure> {
        let garbled = SpawnFailure { step: StartStep::Order, errno: Errno::INVAL.raw_os_error() };
        let [stdin, stdout, stderr, ..] = packet.fds.as_slice() else { return Err(garbled) };
        let plan = SpawnPlan::new(order.cwd, order.candidates, order.argv, order.env).map_err(|_| garbled)?;
        plan.spawn(&mut self.stack, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
    }

    /// A stopped process takes no signal but these two, so it is woken as well.
    fn on_terminate(&mut self) {
        let Some(tree) = &mut self.tree else { return };
        tree.ending = Ending::Asked;
        tree::signal_below(Signal::TERM);
        tree::signal_below(Signal::CONT);
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
        let survivors = tree::kill_below(&[], KILL_LIMIT, |reaped| {
            tree.leftovers += u32::from(tree.end.is_some());
            tree.on_reaped(reaped);
        });
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

/// Reads an order from the memory file that came as the fourth descriptor.
fn read_order(packet: &Packet) -> Result<StartOrder, Errno> {
    let file = packet.fds.get(3).ok_or(Errno::INVAL)?;
    let file = std::fs::File::from(file.try_clone().map_err(|_| Errno::MFILE)?);
    let mut bytes = Vec::new();
    let limit = START_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|_| Errno::IO)?;
    if bytes.len() > START_BYTES_MAX {
        return Err(Errno::TOOBIG);
    }
    StartOrder::decode(&bytes).map_err(|_| Errno::INVAL)
}
