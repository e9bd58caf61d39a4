//! A redis-server on a unix socket, that can be killed, frozen and started again.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::process::Member;
use super::wait::wait_until;

/// The Redis of one cluster.
#[derive(Debug)]
pub struct TestServer {
    folder: PathBuf,
    member: Option<Member>,
    durable: bool,
    /// A library that shifts the clock of whoever loads it, and the file that says by how much.
    clock: Option<(PathBuf, PathBuf)>,
}

impl TestServer {
    /// Starts one; a durable one keeps its data in an append-only file.
    pub fn start(folder: &Path, durable: bool) -> TestServer {
        std::fs::create_dir_all(folder).expect("a folder");
        let mut server = TestServer { folder: folder.to_path_buf(), member: None, durable, clock: None };
        server.restart();
        server
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    /// Where its append-only file lies, in parts.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.join("appendonlydir")
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Starts it again after it was killed, with what it has on disk.
    pub fn restart(&mut self) {
        let _stale = std::fs::remove_file(self.socket());
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            "0",
            "--save",
            "",
            "--maxmemory-policy",
            "noeviction",
            "--loglevel",
            "warning",
        ]);
        let appends = if self.durable { "yes" } else { "no" };
        command.args(["--appendonly", appends, "--appendfsync", "everysec"]);
        command.arg("--unixsocket").arg(self.socket()).arg("--dir").arg(&self.folder);
        if let Some((library, file)) = &self.clock {
            command.env("LD_PRELOAD", library).env("TRIAL_CLOCK", file);
        }
        let member = Member::start("redis", &self.folder, command);
        self.member = Some(member);
        let ready = wait_until("redis", Duration::from_secs(10), || {
            let mut connection = self.connection().map_err(|error| error.to_string())?;
            redis::cmd("PING").exec(&mut connection).map_err(|error| error.to_string())
        });
        ready.unwrap_or_else(|error| panic!("{error}\n{}", self.tail()));
    }

    /// Starts it again with a clock that the test sets; see `set_clock`.
    pub fn restart_with_clock(&mut self, library: &Path) {
        self.kill();
        let file = self.folder.join("clock");
        self.clock = Some((library.to_path_buf(), file));
        self.set_clock(0);
        self.restart();
    }

    /// Sets its clock so far ahead of the true one, seconds; behind it if negative.
    pub fn set_clock(&self, ahead_s: i64) {
        let (_, file) = self.clock.as_ref().expect("it was started with a clock of its own");
        // Renamed, so that it is never read half-written.
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, format!("{ahead_s}\n")).expect("a file");
        std::fs::rename(fresh, file).expect("a file");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.member.as_mut().expect("it was started").kill();
        self.member = None;
    }

    pub fn pause(&mut self) {
        self.member.as_mut().expect("it was started").signal(Signal::STOP);
    }

    pub fn resume(&mut self) {
        self.member.as_mut().expect("it was started").signal(Signal::CONT);
    }

    pub fn is_running(&self) -> bool {
        self.member.is_some() && UnixStream::connect(self.socket()).is_ok()
    }

    /// A plain connection, for looking behind the product's back.
    pub fn connection(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(5))
    }

    pub fn tail(&self) -> String {
        self.member.as_ref().map(Member::tail).unwrap_or_default()
    }
}
