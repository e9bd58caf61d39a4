//! This test program as a launcher, as a worker of its own that a test can kill, and as a program with
//! which agents knock at a side door.
//!
//! A launcher must begin before any thread exists, and the test harness makes threads before any test runs.
//! So the question whether this process is to be one is asked before `main`, where programs of C have their
//! constructors. A separate program would do as well, but may be older than the tests that start it.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use maestro_model::ids::Attempt;
use maestro_worker::attempt::{AttemptOrder, AttemptRunner, HostEnvironment};
use maestro_worker::launch::{Launcher, LauncherCommand, launcher_main};
use maestro_worker::workspace::{WorkspacePlace, WorkspaceRoot};

use crate::support::agent_type;

/// The word that makes this program a worker: followed by a root and a shell script, which is run as one attempt.
pub(crate) const WORKER_COMMAND: &str = "__worker";

/// The word that makes this program send what it reads to the socket that follows, and write what comes back.
pub(crate) const KNOCK_COMMAND: &str = "__knock";

/// The word that makes this program try to reach what an agent should not: `connect PATH`, `abstract NAME`
/// (a socket), `ptrace PID`, `keyring NAME`, `priority PID`, `limits PID`, and shared memory by `share KEY`, which
/// makes it, and `shared KEY`, which finds and removes it. It exits with 0 if it can.
pub(crate) const TRY_COMMAND: &str = "__try";

/// This program.
pub(crate) fn host_program() -> PathBuf {
    std::env::current_exe().expect("this program has a path")
}

// SAFETY: the linker section is a list of functions that are called once each before `main`, in a process
// with one thread; the standard library has its arguments by then, from a section that comes before.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    if let Some(code) = launcher_main() {
        std::process::exit(code);
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [command, root, script] = arguments.as_slice()
        && command == WORKER_COMMAND
    {
        run_worker(Path::new(root), script.to_str().expect("a script is text"));
        std::process::exit(0);
    }
    if let [command, way, what] = arguments.as_slice()
        && command == TRY_COMMAND
    {
        let done = try_to(way.to_str().expect("a word"), what);
        std::process::exit(if done.is_ok() { 0 } else { 1 });
    }
    if let [command, socket] = arguments.as_slice()
        && command == KNOCK_COMMAND
    {
        let done = knock(Path::new(socket));
        std::process::exit(if done.is_ok() { 0 } else { 1 });
    }
}

fn try_to(way: &str, what: &OsStr) -> std::io::Result<()> {
    match way {
        "connect" => UnixStream::connect(Path::new(what)).map(drop),
        "abstract" => {
            let name = std::os::unix::net::SocketAddr::from_abstract_name(what.as_encoded_bytes())?;
            UnixStream::connect_addr(&name).map(drop)
        }
        "ptrace" => {
            let pid: libc::pid_t = what.to_str().and_then(|text| text.parse().ok()).expect("a process id");
            // SAFETY: attaching and detaching take numbers only, and touch no memory of this process.
            let attached = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
            if attached == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        }
        "keyring" => keyring(what),
        "priority" => {
            /// Everybody may lower a priority to this.
            const LOWEST: libc::c_int = 19;
            let pid = number(what);
            // SAFETY: the call takes numbers.
            done(unsafe { libc::setpriority(libc::PRIO_PROCESS, pid as libc::id_t, LOWEST) }.into())
        }
        "limits" => {
            let limit = libc::rlimit { rlim_cur: 900, rlim_max: 900 };
            // SAFETY: the new limit is readable; null says that the old one is not wanted.
            let set =
                unsafe { libc::prlimit(number(what), libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
            done(set.into())
        }
        "share" | "shared" => {
            let flags = if way == "share" { libc::IPC_CREAT | 0o600 } else { 0 };
            // SAFETY: the calls take numbers; null says that no description is wanted.
            unsafe {
                let memory = libc::shmget(number(what), 1, flags);
                done(memory.into())?;
                if way == "shared" {
                    done(libc::shmctl(memory, libc::IPC_RMID, std::ptr::null_mut()).into())?;
                }
            }
            Ok(())
        }
        other => panic!("no way is called {other}"),
    }
}

fn number(text: &OsStr) -> libc::pid_t {
    text.to_str().and_then(|text| text.parse().ok()).expect("a number")
}

fn done(result: libc::c_long) -> std::io::Result<()> {
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Fails only if each call is refused as such.
fn keyring(name: &OsStr) -> std::io::Result<()> {
    const OF_THE_USER: libc::c_long = -4;
    const UNLINK: libc::c_long = 9;
    let name = std::ffi::CString::new(name.as_encoded_bytes()).expect("no NUL");
    // SAFETY: the calls take numbers, texts that end with NUL, and a payload of the length that is given.
    let results = unsafe {
        let (kind, payload) = (c"user".as_ptr(), c"x".as_ptr());
        let key = libc::syscall(libc::SYS_add_key, kind, name.as_ptr(), payload, 1_usize, OF_THE_USER);
        let added = done(key);
        let none = std::ptr::null::<libc::c_char>();
        let found = done(libc::syscall(libc::SYS_request_key, kind, name.as_ptr(), none, 0));
        [added, found, done(libc::syscall(libc::SYS_keyctl, UNLINK, key, OF_THE_USER))]
    };
    let refused = |result: &std::io::Result<()>| matches!(result, Err(error) if error.raw_os_error() == Some(libc::EPERM));
    if results.iter().all(refused) { Err(std::io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
}

/// Until the other end closes. That one sends what it cannot take back must not keep it from reading.
fn knock(socket: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    let mut request = Vec::new();
    std::io::stdin().read_to_end(&mut request)?;
    let _ = stream.write_all(&request);
    let (mut output, mut part) = (std::io::stdout(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut part) {
        output.write_all(&part[..length])?;
        output.flush()?;
    }
    Ok(())
}

/// Runs the script to its end and writes how it ended to standard output.
fn run_worker(root: &Path, script: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let launcher = Launcher::new(LauncherCommand::of(host_program()));
        let root = WorkspaceRoot::open(root).expect("a root");
        let runner = AttemptRunner::new(launcher.clone(), root, HostEnvironment::of_this_process());
        let attempt = runner.expect("/dev/null is there").attempt(order(script), None);
        let end = attempt.run().await;
        writeln!(std::io::stdout(), "{end:?}").expect("the test reads");
        launcher.close().await;
    });
}

fn order(script: &str) -> AttemptOrder {
    AttemptOrder {
        task: "0k3v9x2mqf1a.0".parse().expect("a lawful id"),
        attempt: Attempt(1),
        step: "step".parse().expect("a lawful id"),
        workflow: "host".to_owned(),
        worker: "host".parse().expect("a lawful name"),
        agent: Arc::new(agent_type("{}")),
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: Default::default(),
        prompt: String::new(),
        place: WorkspacePlace::Task,
        template: None,
        copy_of: None,
        timeout: Duration::from_secs(600),
        stall_timeout: None,
        grace: Duration::from_secs(10),
    }
}
