//! The launcher process: forks supervisors for its worker and outlives neither it nor them.
//!
//! It is the binary started again with one hidden word, before any thread is made: a process with one
//! thread may fork and go on, is small to copy, and is a parent whose death the kernel reports reliably.
//! It starts no agent itself.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, Signal, kill_process};

use super::socket::{packet_pair, receive_packet, send_packet};
use super::supervisor::{supervise, supervise_within};
use super::sys::{self, Reaped};
use super::tree::{self, KILL_LIMIT};
use super::view::WorkerUser;
use super::wire::{LauncherReply, LauncherRequest, WallKind};

/// The hidden word on the command line that makes this process a launcher.
pub const LAUNCHER_COMMAND: &str = "__launcher";

/// How long supervisors have to end their trees themselves once the worker is gone: their own limit and a bit.
const SUPERVISORS_LIMIT: Duration = Duration::from_secs(6);
/// How often orphans that would not die are tried again.
const ORPHANS_AGAIN: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// How long such a try may keep the launcher from its other work.
const ORPHANS_AGAIN_LIMIT: Duration = Duration::from_millis(20);
/// Wait between two looks at supervisors that are ending.
const SUPERVISORS_WAIT: Duration = Duration::from_millis(1);

/// Runs the launcher if the command line says so (its first word is [`LAUNCHER_COMMAND`]), and returns the
/// process' exit code when the worker is gone. Otherwise returns none at once.
///
/// Must be called first in `main`: before a runtime or any other thread, and before any file is opened.
pub fn launcher_main() -> Option<i32> {
    let asked = std::env::args_os().nth(1);
    if asked.as_deref() != Some(OsStr::new(LAUNCHER_COMMAND)) {
        return None;
    }
    Some(match LauncherProcess::set_up() {
        Ok(mut launcher) => launcher.run(),
        // Nobody listens on a broken set-up but the worker, which sees its socket close.
        Err(_) => 1,
    })
}

struct LauncherProcess {
    worker: OwnedFd,
    signals: OwnedFd,
    supervisors: Vec<Pid>,
    orphans: u32,
}

impl LauncherProcess {
    /// Takes the worker's socket from standard input and leaves the worker's terminal, folder and signals.
    fn set_up() -> io::Result<LauncherProcess> {
        let worker = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        sys::close_inherited_except(&worker);
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        std::env::set_current_dir("/")?;
        // Fails only for the leader of a group, which is then out of the terminal's reach already.
        let _ = rustix::process::setsid();
        let _ = rustix::thread::set_name(c"maestro-launch");
        sys::block_signals()?;
        sys::reset_dispositions();
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let signals = sys::signal_descriptor()?;
        Ok(LauncherProcess { worker, signals, supervisors: Vec::new(), orphans: 0 })
    }

    fn run(&mut self) -> i32 {
        let mut buffer = [0; 64];
        loop {
            let mut polled =
                [PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.worker, PollFlags::IN)];
            let again = (self.orphans > 0).then_some(&ORPHANS_AGAIN);
            if poll(&mut polled, again).is_err() {
                continue;
            }
            let [signalled, spoken] = polled.map(|fd| !fd.revents().is_empty());
            if signalled {
                sys::drain_signals(&self.signals);
                self.on_child_ended();
            }
            if self.orphans > 0 {
                self.kill_orphans(ORPHANS_AGAIN_LIMIT);
            }
            if !spoken {
                continue;
            }
            match receive_packet(&self.worker, &mut buffer, RecvFlags::DONTWAIT) {
                Ok(Some(packet)) => match LauncherRequest::decode(&buffer[..packet.length]) {
                    Ok(request) => self.on_request(request),
                    Err(_) => return self.on_worker_lost(),
                },
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(None) | Err(_) => return self.on_worker_lost(),
            }
        }
    }

    fn on_request(&mut self, request: LauncherRequest) {
        match request {
            LauncherRequest::Supervise(kind) => match self.fork_supervisor(kind) {
                Ok((socket, pid)) => self.reply(LauncherReply::Supervisor { pid }, &[socket.as_fd()]),
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    self.reply(LauncherReply::Refused { errno }, &[]);
                }
            },
            LauncherRequest::Sweep { supervisor } => {
                self.kill_supervisor(supervisor);
                self.kill_orphans(KILL_LIMIT);
                let survivors = self.orphans;
                self.reply(LauncherReply::Swept { survivors }, &[]);
            }
        }
    }

    /// The worker's end of a new supervisor's socket, and the supervisor's process id. Of the two ends only
    /// that one leaves this function, so that the supervisor sees its worker go.
    fn fork_supervisor(&mut self, kind: WallKind) -> io::Result<(OwnedFd, u32)> {
        let (ours, theirs) = packet_pair()?;
        let launcher = rustix::process::getpid();
        let user = WorkerUser::of_this_process();
        let body = || {
            sys::close_inherited_except(&theirs);
            match kind {
                WallKind::Open => supervise(theirs, launcher),
                walls => supervise_within(theirs, launcher, walls, user),
            }
        };
        const WALLS: i32 = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
        let pid = match kind {
            WallKind::Open => sys::fork(body)?,
            WallKind::Namespaces => sys::fork_into(WALLS, body)?,
            WallKind::UserNamespaces => sys::fork_into(WALLS | libc::CLONE_NEWUSER, body)?,
        };
        self.supervisors.push(pid);
        Ok((ours, pid.as_raw_nonzero().get() as u32))
    }

    /// Ends one supervisor and waits for it: only then what is below it belongs to this process. Its socket
    /// may be closed, and the worker know of its end, before that.
    fn kill_supervisor(&mut self, supervisor: u32) {
        let Some(pid) = i32::try_from(supervisor).ok().and_then(Pid::from_raw) else { return };
        let deadline = Instant::now() + KILL_LIMIT;
        // One that is not on the list any more has been reaped, and its number may be another's by now.
        while self.supervisors.contains(&pid) && Instant::now() < deadline {
            let _ = kill_process(pid, Signal::KILL);
            let supervisors = &mut self.supervisors;
            tree::reap_ended(&mut |reaped| {
                forget(supervisors, reaped);
            });
            thread::sleep(SUPERVISORS_WAIT);
        }
    }

    fn on_child_ended(&mut self) {
        let supervisors = &mut self.supervisors;
        let mut lost = false;
        tree::reap_ended(&mut |reaped| lost |= forget(supervisors, reaped));
        if lost {
            self.kill_orphans(KILL_LIMIT);
        }
    }

    /// Kills every child that is no supervisor: what a supervisor that died has left.
    fn kill_orphans(&mut self, limit: Duration) {
        let kept = self.supervisors.clone();
        let supervisors = &mut self.supervisors;
        self.orphans = tree::kill_below(&kept, limit, |reaped| {
            forget(supervisors, reaped);
        });
    }

    /// Supervisors see the same and end their trees; what they do not end in time is ended here.
    fn on_worker_lost(&mut self) -> i32 {
        let deadline = Instant::now() + SUPERVISORS_LIMIT;
        for pid in &self.supervisors {
            let _ = kill_process(*pid, sys::PARENT_DIED);
        }
        while Instant::now() < deadline {
            let supervisors = &mut self.supervisors;
            let left = tree::reap_ended(&mut |reaped| {
                forget(supervisors, reaped);
            });
            if left == Reaped::NoChildren {
                return 0;
            }
            if self.supervisors.is_empty() {
                break;
            }
            thread::sleep(SUPERVISORS_WAIT);
        }
        if tree::kill_below(&[], KILL_LIMIT, |_| ()) == 0 { 0 } else { 1 }
    }

    fn reply(&self, reply: LauncherReply, fds: &[BorrowedFd<'_>]) {
        // A worker that is gone is noticed by the closed socket, on the next turn.
        let _ = send_packet(&self.worker, &reply.encode(), fds, SendFlags::empty());
    }
}

/// Strikes a child off the list; true if it was a supervisor.
fn forget(supervisors: &mut Vec<Pid>, reaped: &Reaped) -> bool {
    let Reaped::Child { pid, .. } = reaped else { return false };
    let before = supervisors.len();
    supervisors.retain(|supervisor| supervisor != pid);
    supervisors.len() < before
}
