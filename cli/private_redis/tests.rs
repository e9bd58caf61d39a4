//! Real servers: started, used, killed, and nothing left of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Pid;

use super::*;
use crate::exit::Exit;

/// How long a test waits for what has to happen.
const SOON: Duration = Duration::from_secs(20);
/// Tells a helper process (this test program again) in which folder to hold a server.
const HOLD_IN: &str = "MAESTRO_TEST_HOLD_A_SERVER_IN";

fn surroundings(folder: &Path) -> Surroundings {
    let folder_text = folder.to_str().expect("text");
    let path = std::env::var("PATH").expect("a path");
    let variables =
        [("XDG_RUNTIME_DIR", folder_text), ("XDG_DATA_HOME", folder_text), ("PATH", path.as_str())];
    Surroundings::made_up(&variables, folder, rustix::process::geteuid().as_raw())
}

fn start_local(folder: &Path) -> PrivateRedis {
    let surroundings = surroundings(folder);
    let plan = PrivateRedisPlan::of_local(&surroundings).expect("a folder of our own");
    PrivateRedis::start(plan, &surroundings).expect("redis-server is installed")
}

fn start_up(folder: &Path) -> PrivateRedis {
    let surroundings = surroundings(folder);
    let plan = PrivateRedisPlan::of_up(&surroundings, "demo").expect("a folder of our own");
    PrivateRedis::start(plan, &surroundings).expect("redis-server is installed")
}

fn connection(url: &str) -> redis::RedisResult<redis::Connection> {
    redis::Client::open(url)?.get_connection()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        thread::sleep(ASK_EVERY);
    }
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn only_who_has_the_password_gets_in_and_nobody_can_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start_local(folder.path());
    let url = server.url();
    let (without, password) = url.split_once("?pass=").expect("a password");
    let mut right = connection(&url).expect("the right password");
    redis::cmd("SET").arg("k").arg("v").exec(&mut right).expect("written");
    let mut none = connection(without).expect("the socket is open");
    assert!(redis::cmd("GET").arg("k").query::<String>(&mut none).is_err());
    assert!(connection(&format!("{without}?pass=wrong")).is_err());

    let pid = server.pid().expect("it runs");
    for place in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{pid}/{place}")).expect("our own child");
        assert!(!String::from_utf8_lossy(&bytes).contains(password), "{place}");
    }
    let mode = fs::metadata(&server.socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(password.len(), 40);
}

#[test]
fn nothing_is_left_of_a_local_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start_local(folder.path());
    let pid = server.pid().expect("it runs");
    assert_eq!(names_in(&folder.path().join("maestro")).len(), 1, "the socket alone");
    server.stop();
    assert!(!is_alive(pid));
    assert_eq!(names_in(&folder.path().join("maestro")), Vec::<String>::new());
}

#[test]
fn the_data_of_up_is_there_again_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start_up(folder.path());
    let mut first = connection(&server.url()).expect("it answers");
    redis::cmd("SET").arg("k").arg("kept").exec(&mut first).expect("written");
    let old_url = server.url();
    // The next one starts while the last is still ending.
    let next = thread::scope(|scope| {
        let next = scope.spawn(|| start_up(folder.path()));
        server.stop();
        next.join().expect("no panic")
    });
    assert_ne!(next.url(), old_url, "each start has a password of its own");
    let mut second = connection(&next.url()).expect("it answers");
    assert_eq!(redis::cmd("GET").arg("k").query::<String>(&mut second), Ok("kept".to_owned()));
    drop(next);
    assert!(names_in(&folder.path().join("maestro")).iter().all(|name| name == "redis"));
}

#[test]
fn data_in_use_is_refused_to_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start_up(folder.path());
    let refused = lock_data(&server.keeping, Duration::from_millis(50)).expect_err("it is in use");
    assert_eq!(refused.exit(), Exit::Refused);
}

#[test]
fn a_server_that_is_killed_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start_local(folder.path());
    let ended = server.ended();
    rustix::process::kill_process(
        Pid::from_raw(i32::try_from(server.pid().expect("it runs")).expect("a number")).expect("not 0"),
        Signal::KILL,
    )
    .expect("our own child");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    assert_eq!(runtime.block_on(ended), "it was ended by signal 9");
    assert_eq!(server.pid(), None);
    assert_eq!(names_in(&folder.path().join("maestro")), Vec::<String>::new());
}

#[test]
fn a_server_that_cannot_read_its_data_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("maestro/redis/demo/appendonlydir");
    fs::create_dir_all(&data).expect("a folder");
    fs::write(data.join("appendonly.aof.manifest"), "nonsense\n").expect("a file");
    fs::set_permissions(folder.path().join("maestro"), fs::Permissions::from_mode(0o700)).expect("chmod");
    let surroundings = surroundings(folder.path());
    let plan = PrivateRedisPlan::of_up(&surroundings, "demo").expect("a folder of our own");
    let failure = PrivateRedis::start(plan, &surroundings).expect_err("the data is broken");
    assert_eq!(failure.exit(), Exit::Unavailable);
    assert!(failure.causes().len() >= 2, "{failure:?}");
    assert!(failure.one_line().contains("it ended with code 1"), "{failure:?}");
    assert!(failure.one_line().to_lowercase().contains("manifest"), "{failure:?}");
}

#[test]
fn without_a_server_program_there_is_a_hint_what_to_install() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("text");
    assert_eq!(find_server(path, &[]), None);
    let valkey = folder.path().join("valkey-server");
    fs::write(&valkey, "#!/bin/sh\n").expect("a file");
    assert_eq!(find_server(path, &[]), None, "a file that cannot be run is no program");
    fs::set_permissions(&valkey, fs::Permissions::from_mode(0o755)).expect("chmod");
    assert_eq!(find_server(path, &[]), Some(valkey));
    let failure = not_installed();
    assert_eq!(failure.exit(), Exit::Unavailable);
    assert!(failure.hint_text().is_some_and(|hint| hint.contains("apt-get install redis-server")));
}

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let deep = folder.path().join("x".repeat(90));
    fs::create_dir(&deep).expect("a folder");
    let surroundings = surroundings(&deep);
    let plan = PrivateRedisPlan::of_local(&surroundings).expect("a folder of our own");
    let failure = PrivateRedis::start(plan, &surroundings).expect_err("108 bytes are too many");
    assert_eq!(failure.exit(), Exit::Usage);
}

#[test]
#[ignore = "not a test: the process that `a_server_ends_with_its_parent_even_if_that_is_killed` kills"]
fn hold_a_server() {
    let folder = PathBuf::from(std::env::var(HOLD_IN).expect("called by the test below"));
    let server = start_up(&folder);
    fs::write(folder.join("pid.new"), server.pid().expect("it runs").to_string()).expect("a file");
    fs::rename(folder.join("pid.new"), folder.join("pid")).expect("a file");
    loop {
        thread::park();
    }
}

#[test]
fn a_server_ends_with_its_parent_even_if_that_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = std::env::current_exe().expect("this program");
    let mut holder = Command::new(program)
        .args(["--ignored", "--exact", "private_redis::tests::hold_a_server", "--nocapture"])
        .env(HOLD_IN, folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program starts");
    let pid_file = folder.path().join("pid");
    wait_until("the helper holds a server", || pid_file.exists());
    let pid: u32 = fs::read_to_string(&pid_file).expect("a file").parse().expect("a number");
    assert!(is_alive(pid));
    holder.kill().expect("our own child");
    holder.wait().expect("our own child");
    wait_until("the server has ended", || !is_alive(pid));
    let socket = folder.path().join("maestro/up-demo.sock");
    assert!(!socket.exists(), "the server has removed its socket");
}
