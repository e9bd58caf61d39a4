//! Each health rule begins with something that really happens, and ends with its end: one alert each.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use maestro_coordinator::alerts::signature;
use maestro_store::worker::ProcessRole;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http::{Manner, Webhook};
use crate::support::{ClusterSetup, TestCluster, skip};

/// Between two checks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Until a worker has told what happened: it looks once in a heartbeat, twice at processes, and may miss three beats.
const SEEN_WITHIN: Duration = Duration::from_millis(4 * 500);
/// A machine on which much else runs.
const SLACK: Duration = Duration::from_secs(4);
/// Until a process that was started does something.
const STARTS_WITHIN: Duration = Duration::from_secs(20);
const SECRET: &str = "a secret of the test";

/// A cluster with a monitor, and what its webhook should have been told so far.
struct Scene {
    cluster: TestCluster,
    webhook: Webhook,
    expected: Vec<String>,
}

impl Scene {
    fn start(workers: usize) -> Scene {
        let mut cluster = TestCluster::start(ClusterSetup { workers, ..ClusterSetup::default() });
        let quiet = "command: [sh, -c, \"<< prompt >>\"]\nstall_timeout: 6s\n";
        cluster.write_agent("quiet", quiet);
        assert_eq!(cluster.maestro(&["agent", "register", "../agents.d/quiet.yaml"]).code, 0);
        let webhook = Webhook::start(Manner::Takes);
        let secret = cluster.scratch("secrets").join("alerts");
        fs::write(&secret, format!("{SECRET}\n")).expect("a file");
        let words = ["monitor", "start", "--interval", "1", "--alert-webhook", &webhook.url()];
        let secret = format!("file:{}", secret.display());
        cluster.start_command_with("monitor", &words, &[("MAESTRO_ALERT_SECRET", &secret)]);
        cluster.wait_until("the first check", STARTS_WITHIN, |_| match cluster.log("monitor") {
            log if log.contains("looked at ") => Ok(()),
            log => Err(log),
        });
        let scene = Scene { cluster, webhook, expected: Vec::new() };
        scene.wait_for_beats();
        scene
    }

    /// Until each worker has said how often it beats: one that never did is given the time of the default.
    fn wait_for_beats(&self) {
        self.cluster.wait_until("a beat of each", STARTS_WITHIN, |observer| {
            let alive = observer.alive();
            let workers = alive.iter().filter(|one| one.about.role == ProcessRole::Worker);
            let silent: Vec<&String> =
                workers.filter(|one| one.status.heartbeat_ms == 0).map(|one| &one.name).collect();
            if silent.is_empty() { Ok(()) } else { Err(format!("{silent:?}")) }
        });
    }

    /// An agent of type `probe` with a folder of its own on the worker `w0`.
    fn assign(&self, name: &str) -> PathBuf {
        let folder = self.cluster.scratch("agents").join(name);
        let path = folder.to_str().expect("a plain path");
        let words = ["agent", "assign", "probe", "--to-workspace", path, "--name", name, "--worker", "w0"];
        let answer = self.cluster.maestro(&words);
        assert_eq!(answer.code, 0, "{answer:?}");
        folder
    }

    /// The webhook is told this, within two intervals of when the worker has seen it.
    fn expect(&mut self, told: &str) {
        self.expected.push(told.to_owned());
        let (begun, webhook) = (Instant::now(), &self.webhook);
        self.cluster.wait_until(told, 2 * INTERVAL + SEEN_WITHIN + SLACK, |_| match webhook.told() {
            all if all.iter().any(|one| one == told) && all.len() >= self.expected.len() => Ok(()),
            all => Err(format!("{all:?} after {:?}", begun.elapsed())),
        });
        assert_eq!(self.webhook.told(), self.expected, "each once, and nothing else");
    }

    /// Dispatches and waits until it runs; the first process of the agent.
    fn run(&self, to: &str, prompt: &str) -> Pid {
        let answer = self.cluster.maestro(&["task", "dispatch", prompt, "--to", to]);
        assert_eq!(answer.code, 0, "{answer:?}");
        let pid = self.cluster.wait_until("the agent's process", STARTS_WITHIN, |_| {
            let list = self.cluster.maestro(&["worker", "list", "--format", "json"]);
            let workers: Value = serde_json::from_str(&list.out).expect("JSON");
            let mut tasks =
                workers.as_array().into_iter().flatten().flat_map(|one| one["tasks"].as_array()).flatten();
            tasks.find(|task| task["agent"] == to).and_then(|task| task["pid"].as_i64()).ok_or(list.out)
        });
        Pid::from_raw(pid as i32).expect("a number")
    }

    fn once(&self) -> (i32, Value) {
        let answer = self.cluster.maestro(&["monitor", "start", "--once", "--format", "json"]);
        (answer.code, serde_json::from_str(&answer.out).expect("JSON"))
    }

    /// Every alert was signed with the secret, and no two are of the same change.
    fn check_alerts(&self) {
        let mut seen = Vec::new();
        for alert in self.webhook.received() {
            assert_eq!(alert.signature, Some(signature(SECRET, &alert.body)), "{}", alert.json);
            let change = (alert.json["id"].clone(), alert.json["status"].clone());
            assert!(!seen.contains(&change), "{change:?} came twice");
            assert!(alert.json["message"].as_str().is_some_and(|text| !text.is_empty()), "{}", alert.json);
            seen.push(change);
        }
        assert_eq!(seen.len(), self.expected.len());
    }
}

fn signal(pid: Pid, signal: Signal) {
    kill_process(pid, signal).expect("it runs");
}

#[test]
fn agents_that_are_killed_stopped_silent_or_without_a_folder_are_told_of() {
    let mut scene = Scene::start(1);
    let folder = scene.assign("smith");
    assert_eq!(scene.once(), (0, Value::Array(Vec::new())), "all is well");

    signal(scene.run("smith", "exec sleep 60"), Signal::KILL);
    scene.expect("firing process smith");
    let (code, found) = scene.once();
    assert_eq!((code, &found[0]["rule"]), (1, &Value::from("process")), "{found}");
    let fields: Vec<&String> = found[0].as_object().expect("a record").keys().collect();
    let expected = ["status", "rule", "subject", "worker", "message", "needs_person", "since", "at"];
    assert_eq!(fields, expected, "fields are only added");
    let problems = scene.cluster.maestro(&["monitor", "problems", "--format", "json"]);
    assert!(problems.code == 0 && problems.out.contains("was ended by signal 9"), "{problems:?}");
    assert_eq!(scene.cluster.maestro(&["task", "dispatch", "true", "--to", "smith", "--sync"]).code, 0);
    scene.expect("resolved process smith");

    let pid = scene.run("smith", "exec sleep 60");
    signal(pid, Signal::STOP);
    scene.expect("firing process smith");
    signal(pid, Signal::CONT);
    scene.expect("resolved process smith");
    assert_eq!(scene.cluster.maestro(&["task", "cancel", "last"]).code, 0);

    let aside = folder.with_file_name("aside");
    fs::rename(&folder, &aside).expect("moved");
    scene.expect("firing workspace smith");
    let list = scene.cluster.maestro(&["agent", "list", "--status", "failed", "--format", "json"]);
    assert!(list.out.contains("workspace missing"), "the agent is `failed` with the reason: {list:?}");
    fs::rename(&aside, &folder).expect("moved back");
    scene.expect("resolved workspace smith");

    let dispatch = ["task", "dispatch", "sleep 5; echo here; sleep 1", "--to", "quiet", "--format", "json"];
    let task: Value = serde_json::from_str(&scene.cluster.maestro(&dispatch).out).expect("JSON");
    let task = task["id"].as_str().expect("an id").to_owned();
    // It is silent for three seconds first, half of its limit.
    let silent = Instant::now();
    scene.cluster.wait_until("half of the limit", STARTS_WITHIN, |_| match silent.elapsed() {
        passed if passed > Duration::from_secs(3) => Ok(()),
        passed => Err(format!("{passed:?}")),
    });
    scene.expect(&format!("firing output {task}"));
    scene.expect(&format!("resolved output {task}"));
    assert_eq!(scene.once(), (0, Value::Array(Vec::new())), "all is well again");
    scene.check_alerts();
}

#[test]
fn workers_that_are_frozen_or_killed_are_told_of() {
    let mut scene = Scene::start(2);
    scene.cluster.member("w1").pause();
    scene.expect("firing worker w1");
    scene.cluster.member("w1").resume();
    scene.expect("resolved worker w1");
    scene.cluster.member("w1").kill();
    scene.expect("firing worker w1");
    // Its lease has run out and it is in no list any more: it is still told of.
    scene.cluster.wait_until("the end of its lease", ClusterSetup::RECOVERY, |observer| {
        let alive = observer.alive();
        if alive.iter().any(|one| one.name == "w1") { Err(format!("{alive:?}")) } else { Ok(()) }
    });
    let (code, found) = scene.once();
    assert_eq!((code, &found[0]["subject"]), (1, &Value::from("w1")), "{found}");
    scene.cluster.start_worker("w1");
    scene.wait_for_beats();
    scene.expect("resolved worker w1");
    scene.check_alerts();
}

/// A file system of a few MiB, taken away with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: PathBuf) -> Result<SmallDisk, String> {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &folder, "tmpfs", flags, c"size=16m")
            .map_err(|error| error.to_string())?;
        Ok(SmallDisk(folder))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_told_of() {
    let mut scene = Scene::start(0);
    let disk = match SmallDisk::mount(scene.cluster.scratch("disk")) {
        Ok(disk) => disk,
        Err(error) => {
            return skip("a_full_disk_is_told_of", &format!("no file system can be mounted: {error}"));
        }
    };
    scene.cluster.start_worker_in("w0", disk.path().to_str().expect("a plain path"));
    scene.cluster.wait_for_worker("w0");
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![0; 15 * 1024 * 1024 + 900 * 1024]).expect("it fits");
    scene.expect("firing disk w0");
    fs::remove_file(&ballast).expect("it is ours");
    scene.expect("resolved disk w0");
    scene.check_alerts();
    let Scene { cluster, .. } = scene;
    drop(cluster);
}
