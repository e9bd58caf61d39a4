//! A real container engine for tests: a private dockerd that all test programs of this host share, or one that
//! a test has to itself and may stop.
//!
//! Whoever is first starts it, and it ends by itself a while after the last has ended, however that was:
//! `engine.sh` watches a lock that each program holds. Where it cannot run (no root, no dockerd, no busybox) the
//! test is counted as skipped, by name and reason. It stands alone: tests of the worker use it too.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// The image of the tests: busybox and nothing else.
pub const IMAGE: &str = "maestro-test:1";
/// How long the shared engine outlives its last user, seconds: the next test is not far.
const IDLE_SECONDS: u32 = 20;
/// Until an engine answers; the machine may be busy.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// An engine that runs.
#[derive(Debug)]
pub struct TestEngine {
    folder: PathBuf,
    locks: PathBuf,
    /// Held as long as somebody needs the engine.
    _user: File,
}

impl TestEngine {
    /// The engine that all share; none if there can be none here, which is then counted as skipped for `test`.
    pub fn shared(test: &str) -> Option<&'static TestEngine> {
        static SHARED: OnceLock<TestEngine> = OnceLock::new();
        if let Some(reason) = missing() {
            skip(test, &reason);
            return None;
        }
        let name = format!("maestro-test-engine-{}", rustix::process::geteuid().as_raw());
        Some(SHARED.get_or_init(|| TestEngine::start(&std::env::temp_dir().join(name), IDLE_SECONDS)))
    }

    /// One for this test alone, which may stop it. It ends with the value.
    pub fn own(test: &str) -> Option<TestEngine> {
        if let Some(reason) = missing() {
            skip(test, &reason);
            return None;
        }
        let name = format!("maestro-own-engine-{}-{:?}", std::process::id(), std::thread::current().id());
        let name = name.replace(['(', ')'], "");
        Some(TestEngine::start(&std::env::temp_dir().join(name), 0))
    }

    fn start(folder: &Path, idle_seconds: u32) -> TestEngine {
        let locks = folder.with_extension("locks");
        loop {
            fs::create_dir_all(&locks).expect("a folder");
            let (Some(start), Some(user)) = (open(&locks.join("start")), open(&locks.join("users"))) else {
                continue;
            };
            flock(&start, FlockOperation::LockExclusive).expect("a lock");
            flock(&user, FlockOperation::LockShared).expect("a lock");
            // Whoever ended the engine meanwhile has taken the locks away.
            if !is_still(&start, &locks.join("start")) || !is_still(&user, &locks.join("users")) {
                continue;
            }
            let engine = TestEngine { folder: folder.to_owned(), locks: locks.clone(), _user: user };
            if !engine.answers() {
                engine.launch(idle_seconds);
                engine.wait_until_it_answers();
            }
            engine.load_image();
            return engine;
        }
    }

    fn launch(&self, idle_seconds: u32) {
        // What a killed one has left is in nobody's use: nobody could have taken the lock.
        let _ = fs::remove_dir_all(&self.folder);
        fs::create_dir_all(&self.folder).expect("a folder");
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(script_from_package());
        let script = script.canonicalize().expect("it lies beside this file");
        let started = Command::new("setsid")
            .args(["--fork", "sh"])
            .arg(script)
            .args([self.folder.as_os_str(), self.locks.as_os_str()])
            .arg(idle_seconds.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(started.expect("setsid is there").success(), "it starts");
    }

    /// Where it listens, as `DOCKER_HOST` has it.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("sock")
    }

    /// Runs the command line of Docker against it and returns what that printed.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("docker is there");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Ends the engine, as a service manager would. It stays down until `come_back`.
    pub fn go_down(&self) {
        fs::write(self.folder.join("down"), "").expect("ours");
        let deadline = Instant::now() + ANSWERS_WITHIN;
        while self.answers() {
            assert!(Instant::now() < deadline, "it does not go down");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts it again and waits until it answers.
    pub fn come_back(&self) {
        fs::remove_file(self.folder.join("down")).expect("it is down");
        self.wait_until_it_answers();
    }

    /// The network in which it is: addresses of containers can be reached there, and nowhere else.
    pub fn network_namespace(&self) -> PathBuf {
        let pid = fs::read_to_string(self.folder.join("pid")).expect("it runs");
        PathBuf::from(format!("/proc/{}/ns/net", pid.trim()))
    }

    /// Mounts that the engine keeps for containers, by where they are.
    pub fn container_mounts(&self) -> Vec<String> {
        let pid = fs::read_to_string(self.folder.join("pid")).expect("it runs");
        let table = fs::read_to_string(format!("/proc/{}/mounts", pid.trim())).expect("it runs");
        let places = table.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned);
        places.filter(|place| place.contains("/merged") || place.contains("/containers/")).collect()
    }

    /// The same, not run yet: for whoever wants its exit code.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(self.address()).args(arguments).stdin(Stdio::null());
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command
    }

    fn answers(&self) -> bool {
        self.socket().exists()
            && self.command(&["version"]).output().is_ok_and(|output| output.status.success())
    }

    fn wait_until_it_answers(&self) {
        let deadline = Instant::now() + ANSWERS_WITHIN;
        while !self.answers() {
            let log = fs::read_to_string(self.folder.join("engine.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the engine does not answer:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn load_image(&self) {
        let known = self.command(&["image", "inspect", IMAGE]).output().expect("docker is there");
        if known.status.success() {
            return;
        }
        let tree = self.folder.join("image");
        make_image_tree(&tree);
        let packed =
            Command::new("tar").arg("-C").arg(&tree).args(["-c", "."]).output().expect("tar is there");
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        let mut import = self.command(&["import", "-", IMAGE]);
        let import = import.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut import = import.expect("docker is there");
        import.stdin.take().expect("piped").write_all(&packed.stdout).expect("it reads");
        assert!(import.wait().expect("it is ours").success(), "the image is taken");
    }
}

/// From the folder of the package that is compiled to the script: the worker's lies in the root package's.
const fn script_from_package() -> &'static str {
    match env!("CARGO_PKG_NAME").as_bytes() {
        b"maestro-worker" => "../tests/support/engine.sh",
        _ => "tests/support/engine.sh",
    }
}

fn make_image_tree(tree: &Path) {
    for folder in ["bin", "etc", "root"] {
        fs::create_dir_all(tree.join(folder)).expect("ours");
    }
    let tmp = tree.join("tmp");
    fs::create_dir_all(&tmp).expect("ours");
    fs::set_permissions(&tmp, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).expect("ours");
    fs::copy(busybox().expect("looked for before"), tree.join("bin/busybox")).expect("ours");
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("ours");
    let list = Command::new(tree.join("bin/busybox")).arg("--list").output().expect("it runs");
    for applet in String::from_utf8(list.stdout).expect("text").lines().filter(|name| *name != "busybox") {
        let _ = std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet));
    }
}

fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.exists())
}

fn open(path: &Path) -> Option<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path).ok()
}

fn is_still(file: &File, path: &Path) -> bool {
    let (Ok(opened), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (opened.dev(), opened.ino()) == (there.dev(), there.ino())
}

/// What this machine lacks.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a container engine of its own needs root".to_owned());
    }
    let on_path = |name: &str| {
        let folders = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        folders.split(':').any(|folder| Path::new(folder).join(name).exists())
    };
    let lacking: Vec<&str> =
        ["dockerd", "docker", "flock", "unshare", "ip"].into_iter().filter(|name| !on_path(name)).collect();
    if !lacking.is_empty() {
        return Some(format!("{} not installed (Debian: docker.io)", lacking.join(", ")));
    }
    busybox().is_none().then(|| "busybox is not installed (Debian: busybox-static)".to_owned())
}

/// Counts a test as skipped, once per program.
fn skip(test: &str, reason: &str) {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let Ok(path) = std::env::var("MAESTRO_SKIPPED") else { return };
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.iter().any(|known| known == test) {
        return;
    }
    said.push(test.to_owned());
    let mut list =
        OpenOptions::new().append(true).create(true).open(path).expect("the list of skipped tests");
    writeln!(list, "{test}: {reason}").expect("the list of skipped tests");
}
