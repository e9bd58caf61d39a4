//! A process of the cluster: its log file, its signals, its end.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::leftovers::descendants;
use super::wait::wait_until;

/// Lines of a log that are shown when a test fails.
const TAIL_LINES: usize = 25;

/// A process that a test has started. It is killed with the value.
#[derive(Debug)]
pub struct Member {
    pub name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
    /// Pids that were stopped together.
    paused: Vec<u32>,
}

impl Member {
    /// Starts a process in a group of its own; what it says goes to `<folder>/<name>.log`.
    pub fn start(name: &str, folder: &Path, mut command: Command) -> Member {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a second handle")).stderr(file);
        let child = command.process_group(0).spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Member { name: name.to_owned(), child, log, ended: None, paused: Vec::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("it is our child");
        }
        self.ended.is_none()
    }

    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            send(self.pid(), signal);
        }
    }

    /// SIGKILL, and until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if self.ended.is_none() {
            self.ended = Some(self.child.wait().expect("it is our child"));
        }
    }

    /// SIGTERM.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Stops it and all below it, as if its host stood still.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.paused = descendants(self.pid());
        for pid in &self.paused {
            send(*pid, Signal::STOP);
        }
        self.paused.push(self.pid());
    }

    /// Stops it alone: its agents go on.
    pub fn pause_alone(&mut self) {
        self.signal(Signal::STOP);
        self.paused = vec![self.pid()];
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        for pid in std::mem::take(&mut self.paused) {
            send(pid, Signal::CONT);
        }
    }

    /// Waits until it has ended; its code, 128 + n for a signal.
    pub fn wait(&mut self, longest: Duration) -> Result<i32, String> {
        let name = self.name.clone();
        wait_until(&format!("the end of {name}"), longest, || match self.is_running() {
            false => Ok(()),
            true => Err("it runs".to_owned()),
        })?;
        let status = self.ended.expect("it has ended");
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }

    /// All it has said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of what it has said, with its name.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        format!("--- {} (pid {})\n{}\n", self.name, self.child.id(), lines[from..].join("\n"))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.resume();
        self.kill();
    }
}

/// A signal for a process that may have ended meanwhile.
pub fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ended_meanwhile = kill_process(pid, signal);
    }
}
