//! The thread that makes the server and waits for it: its parent, as far as the kernel is concerned.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::watch;

use super::lock_of;

/// Lines of the server's own log that are kept to explain a failed start.
const LOG_LINES_MAX: usize = 20;
/// Longest log line kept, bytes.
const LOG_LINE_BYTES_MAX: usize = 500;

/// What is known of the child; only under its lock is the number sure to be still its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChildState {
    Running(Pid),
    Ended,
}

/// Everything the keeper needs to make the child.
pub(super) struct ServerStart {
    pub(super) program: PathBuf,
    pub(super) config: String,
    pub(super) socket: PathBuf,
    /// Inherited by the child, so that the data stays locked until the server itself is gone.
    pub(super) lock: Option<File>,
}

/// The keeper's life: makes the child, waits for its end, says how it ended.
pub(super) fn keep(
    server: ServerStart,
    log: &Mutex<LogTail>,
    started: &mpsc::SyncSender<io::Result<Arc<Mutex<ChildState>>>>,
    ended: &watch::Sender<Option<String>>,
) {
    let answer = |result| started.send(result).expect("`start` waits for the answer");
    let (mut child, output) = match spawn(&server) {
        Ok(spawned) => spawned,
        Err(error) => return answer(Err(error)),
    };
    let pid = Pid::from_child(&child);
    let state = Arc::new(Mutex::new(ChildState::Running(pid)));
    answer(Ok(Arc::clone(&state)));
    // The pipe is read to its end, or a server that logs much would stop.
    for line in BufReader::new(output).split(b'\n') {
        match line {
            Ok(line) => lock_of(log).push(&line),
            Err(_broken) => break,
        }
    }
    // Looked at first and reaped under the lock, so that nobody signals a number that is free again.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options) {}
    let mut state = lock_of(&state);
    let how = match child.wait() {
        Ok(status) => ending(status),
        Err(error) => error.to_string(),
    };
    *state = ChildState::Ended;
    drop(state);
    // A server that ended in order has done this itself. The lock is still held: the socket is not yet
    // that of a successor.
    let _already_gone = fs::remove_file(&server.socket);
    let _nobody_waits = ended.send(Some(how));
}

fn spawn(server: &ServerStart) -> io::Result<(Child, ChildStdout)> {
    let mut command = Command::new(&server.program);
    // Ctrl-C on the terminal goes to the group in front; the server must outlive its users.
    command.arg("-").env_clear().process_group(0).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let parent = rustix::process::getpid();
    let lock = server.lock.as_ref().map(AsRawFd::as_raw_fd);
    // SAFETY: between fork and exec only system calls are made, on values copied before the fork.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            // The parent may have died before the line above took effect.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            if let Some(lock) = lock {
                let lock = BorrowedFd::borrow_raw(lock);
                rustix::io::fcntl_setfd(lock, rustix::io::FdFlags::empty())?;
            }
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    let output = child.stdout.take().expect("standard output is a pipe");
    let mut input = child.stdin.take().expect("standard input is a pipe");
    // A server that ended at once is found by its exit, not by this pipe.
    let _found_later = input.write_all(server.config.as_bytes());
    Ok((child, output))
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

/// The last lines of the server's log.
#[derive(Debug, Default)]
pub(super) struct LogTail {
    pub(super) lines: VecDeque<String>,
}

impl LogTail {
    fn push(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(&line[..line.len().min(LOG_LINE_BYTES_MAX)]);
        // The banner, and hints about kernel settings that are not ours to change.
        let is_warning = text.contains(" # ") || text.starts_with("***") || text.contains("FATAL");
        tracing::debug!(target: "maestro::redis", "{}", text.trim_end());
        if !is_warning || text.contains("WARNING") || text.contains("oO0OoO0OoO0Oo") {
            return;
        }
        if self.lines.len() == LOG_LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(text.trim().to_owned());
    }
}
