//! A Redis of our own: a `redis-server` or `valkey-server` as a child, on a unix socket, with a password.
//!
//! `maestro up` keeps its data in an append-only file; `workflow run --local` keeps nothing. Either way
//! the server ends with the process that started it, also after SIGKILL: the kernel sends it SIGTERM.
//! That signal follows the *thread* that made the child, so a thread of its own makes it and waits for it.
//!
//! The password goes through standard input, never through an argument, a file or the environment.
//! Speaking to Redis is `store`'s business; here one `PING` finds out whether the server is awake.

mod keeper;
mod setup;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::watch;

use self::keeper::{ChildState, LogTail, ServerStart, keep};
use self::setup::{
    FOLDER_FREE_WITHIN, FOLDERS, config_text, find_server, lock_data, not_installed, percent_encoded,
    random_password,
};
use crate::config::folders;
use crate::config::surroundings::Surroundings;
use crate::failure::Failure;

/// How long a new server may take before it answers at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// How long it may take to read its data before it serves.
const LOADED_WITHIN: Duration = Duration::from_secs(600);
/// Time between two questions to a server that starts.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// How long an answer to `PING` may take.
const PING_WITHIN: Duration = Duration::from_secs(5);
/// How long a server may take to write its data and end.
const END_WITHIN: Duration = Duration::from_secs(20);
/// Longest path of a unix socket, bytes: 108 in the kernel, with the zero at its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What becomes of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// An append-only file in this folder, for the next start.
    Folder(PathBuf),
    /// Nothing outlives the server.
    Nothing,
}

/// What is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PrivateRedisPlan {
    /// The socket, in a folder that only this user can write to.
    pub(crate) socket: PathBuf,
    /// What becomes of the data.
    pub(crate) keeping: Keeping,
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct PrivateRedis {
    socket: PathBuf,
    password: String,
    keeping: Keeping,
    child: Arc<Mutex<ChildState>>,
    ended: watch::Receiver<Option<String>>,
    keeper: Option<JoinHandle<()>>,
}

impl PrivateRedisPlan {
    /// The server of `maestro up`: its data stays in the data folder, by namespace. Only for the holder of
    /// the namespace's `UpClaim`.
    pub(crate) fn of_up(surroundings: &Surroundings, namespace: &str) -> Result<PrivateRedisPlan, Failure> {
        let socket = folders::own_runtime_folder(surroundings)?.join(format!("up-{namespace}.sock"));
        let data = folders::data_folder(surroundings).join("redis").join(namespace);
        Ok(PrivateRedisPlan { socket, keeping: Keeping::Folder(data) })
    }

    /// The server of one `workflow run --local`.
    pub(crate) fn of_local(surroundings: &Surroundings) -> Result<PrivateRedisPlan, Failure> {
        let name = format!("local-{}-{:08x}.sock", std::process::id(), rand::random::<u32>());
        let socket = folders::own_runtime_folder(surroundings)?.join(name);
        Ok(PrivateRedisPlan { socket, keeping: Keeping::Nothing })
    }
}

impl PrivateRedis {
    /// Starts a server and waits until it serves. Blocks the calling thread, typically for 20 ms.
    ///
    /// # Errors
    /// 69 if no server program is installed or it does not come up, 77 if another one uses the data.
    pub(crate) fn start(
        plan: PrivateRedisPlan,
        surroundings: &Surroundings,
    ) -> Result<PrivateRedis, Failure> {
        let path_variable = surroundings.variable("PATH")?.unwrap_or_default();
        let program = find_server(path_variable, &FOLDERS).ok_or_else(not_installed)?;
        let length = plan.socket.as_os_str().len();
        if length > SOCKET_PATH_BYTES_MAX {
            return Err(Failure::usage(format!(
                "the path of the socket `{}` is too long",
                plan.socket.display()
            ))
            .cause(format!("it has {length} bytes, a unix socket takes {SOCKET_PATH_BYTES_MAX}"))
            .hint("set `XDG_RUNTIME_DIR` to a shorter path"));
        }
        let lock = lock_data(&plan.keeping, FOLDER_FREE_WITHIN)?;
        let password = random_password();
        let config = config_text(&plan, &password);
        let server = ServerStart { program, config, socket: plan.socket.clone(), lock };
        let log = Arc::new(Mutex::new(LogTail::default()));
        let (started_sender, started) = mpsc::sync_channel(1);
        let (ended_sender, ended) = watch::channel(None);
        let keeper_log = Arc::clone(&log);
        let keeper = thread::Builder::new()
            .name("redis-keeper".to_owned())
            .spawn(move || keep(server, &keeper_log, &started_sender, &ended_sender))
            .map_err(|error| cannot_start().caused_by(&error))?;
        let child = started.recv().expect("the keeper answers before it ends");
        let child = child.map_err(|error| cannot_start().caused_by(&error))?;
        let PrivateRedisPlan { socket, keeping } = plan;
        let redis = PrivateRedis { socket, password, keeping, child, ended, keeper: Some(keeper) };
        redis.wait_until_awake().map_err(|reason| {
            let tail = lock_of(&log).lines.iter().cloned().collect::<Vec<String>>();
            tail.iter().fold(cannot_start().cause(reason), |failure, line| failure.cause(line))
        })?;
        Ok(redis)
    }

    /// Its address, password included.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}?pass={}", percent_encoded(&self.socket), self.password)
    }

    /// The process, while it runs.
    #[cfg(test)]
    pub(crate) fn pid(&self) -> Option<u32> {
        match *lock_of(&self.child) {
            ChildState::Running(pid) => u32::try_from(pid.as_raw_nonzero().get()).ok(),
            ChildState::Ended => None,
        }
    }

    /// Waits until the server ends, whoever ended it, and says how. Can be asked by many and again.
    pub(crate) fn ended(&self) -> impl Future<Output = String> + Send + 'static {
        let mut ended = self.ended.clone();
        async move {
            match ended.wait_for(Option::is_some).await {
                Ok(how) => how.clone().unwrap_or_default(),
                Err(_keeper_gone) => "it ended".to_owned(),
            }
        }
    }

    /// Ends the server and waits until it is gone. Data that is kept is on the disk then.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(keeper) = self.keeper.take() else { return };
        // Without data to write there is nothing to wait for.
        let first = if self.keeping == Keeping::Nothing { Signal::KILL } else { Signal::TERM };
        self.signal(first);
        let deadline = Instant::now() + END_WITHIN;
        while !keeper.is_finished() && Instant::now() < deadline {
            thread::sleep(ASK_EVERY);
        }
        self.signal(Signal::KILL);
        let _keeper_never_panics = keeper.join();
    }

    fn signal(&self, signal: Signal) {
        if let ChildState::Running(pid) = *lock_of(&self.child) {
            let _ended_meanwhile = rustix::process::kill_process(pid, signal);
        }
    }

    fn wait_until_awake(&self) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            let how = self.ended.borrow().clone();
            if let Some(how) = how {
                return Err(how);
            }
            let limit = match self.ping() {
                Ok(Wakefulness::Awake) => return Ok(()),
                Ok(Wakefulness::Loading) => LOADED_WITHIN,
                Ok(Wakefulness::Refusing(answer)) => return Err(format!("it answered `{answer}`")),
                Err(_not_yet) => ANSWER_WITHIN,
            };
            if begin.elapsed() > limit {
                return Err(format!("it did not answer within {} s", limit.as_secs()));
            }
            thread::sleep(ASK_EVERY);
        }
    }

    fn ping(&self) -> io::Result<Wakefulness> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PING_WITHIN))?;
        stream.set_write_timeout(Some(PING_WITHIN))?;
        stream.write_all(format!("AUTH {}\r\nPING\r\n", self.password).as_bytes())?;
        let mut answers = BufReader::new(stream.take(4096));
        let (mut first, mut second) = (String::new(), String::new());
        answers.read_line(&mut first)?;
        answers.read_line(&mut second)?;
        Ok(match (first.trim(), second.trim()) {
            ("+OK", "+PONG") => Wakefulness::Awake,
            ("+OK", answer) if answer.starts_with("-LOADING") => Wakefulness::Loading,
            ("+OK", answer) | (answer, _) => Wakefulness::Refusing(answer.to_owned()),
        })
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a starting server answers.
enum Wakefulness {
    Awake,
    Loading,
    Refusing(String),
}

fn cannot_start() -> Failure {
    Failure::unavailable("cannot start a private Redis")
}

fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these locks can panic half way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
