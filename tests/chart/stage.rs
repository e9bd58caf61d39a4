//! The stage of the tests with real pods: images of this build, Redis and coordinators of the chart, agents that
//! leave a line when they begin and one when they end.
//!
//! How pods are started is in `pods`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::pods::{Pods, until};
use crate::support::engine::TestEngine;
use crate::support::wait_until;

const REDIS: &str = "StatefulSet/demo-maestro-redis";
/// The coordinators of the chart.
pub(crate) const COORDINATOR: &str = "Deployment/demo-maestro-coordinator";
const MONITOR: &str = "Deployment/demo-maestro-monitor";
/// The workers of its pool.
pub(crate) const WORKER: &str = "Deployment/demo-maestro-worker-default";
/// The coordinator in which commands are run.
pub(crate) const DESK: &str = "coordinator-0";

/// Images of this build: the binary alone, and one with a shell and a Redis.
pub(crate) fn images(engine: &TestEngine) -> (&'static str, &'static str) {
    static MADE: OnceLock<(String, String)> = OnceLock::new();
    let (plain, full) = MADE.get_or_init(|| {
        let stamp = std::process::id();
        let images = (format!("maestro-chart:{stamp}"), format!("maestro-chart:{stamp}-tools"));
        make_image(engine, &[&images.0]);
        let form = "{{.Config.User}} {{index .Config.Labels \"org.opencontainers.image.version\"}}";
        let about = engine.docker(&["image", "inspect", "--format", form, &images.0]);
        assert_eq!(about, format!("65532:65532 {}", env!("CARGO_PKG_VERSION")));
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let redis = on_path("redis-server");
        let redis_cli = on_path("redis-cli");
        make_image(
            engine,
            &[
                "--busybox",
                busybox.expect("the engine needs it too"),
                "--also",
                &redis,
                "--also",
                &redis_cli,
                &images.1,
            ],
        );
        images
    });
    (plain, full)
}

fn on_path(name: &str) -> String {
    let path = std::env::var("PATH").expect("set");
    let found = path.split(':').map(|folder| PathBuf::from(folder).join(name)).find(|file| file.exists());
    found.unwrap_or_else(|| panic!("{name} is not on PATH")).display().to_string()
}

fn make_image(engine: &TestEngine, words: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/image.sh");
    let made = Command::new("sh")
        .arg(script)
        .args(["--binary", env!("CARGO_BIN_EXE_maestro")])
        .args(words)
        .env("DOCKER_HOST", engine.address())
        .output()
        .expect("sh is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// What a test wants of the chart.
pub(crate) struct Wishes {
    /// Of workers.
    pub(crate) grace_seconds: u32,
    /// Of all roles, as the chart takes them.
    pub(crate) settings: Value,
    /// Of the pool.
    pub(crate) scaling: Value,
}

/// The chart's values of these tests: an agent type that leaves a line when it begins and one when it ends.
pub(crate) fn values(engine: &TestEngine, witness: &Path, wishes: &Wishes) -> Value {
    let (plain, tools) = images(engine);
    let image = |name: &str| {
        let (repository, tag) = name.split_once(':').expect("made so");
        json!({"repository": repository, "tag": tag})
    };
    json!({
        "image": image(plain),
        "settings": wishes.settings,
        "redis": {"image": image(tools)},
        "agentTypes": {
            "shell": {"command": ["sh", "-e", "<< prompt >>"], "prompt_via": "file", "paths": {"write": ["/witness"]}},
        },
        "workflows": {"greet": "name: greet\nsteps:\n  - {id: hello, agent: shell, prompt: echo hello from the chart}\n"},
        "workerPools": {"default": {
            "image": image(tools),
            "concurrency": 2,
            "autoscaling": wishes.scaling,
            "terminationGracePeriodSeconds": wishes.grace_seconds,
            "extraVolumes": [{"name": "witness", "hostPath": {"path": witness.display().to_string()}}],
            "extraVolumeMounts": [{"name": "witness", "mountPath": "/witness"}],
        }},
    })
}

/// Redis and two coordinators.
pub(crate) fn start_cluster<'e>(
    engine: &'e TestEngine,
    python: &Path,
    witness: &Path,
    wishes: &Wishes,
) -> Pods<'e> {
    let mut pods = Pods::render(engine, python, &values(engine, witness, wishes));
    // What the entry point of a Redis image does: it puts the server before the arguments.
    pods.start_with(REDIS, "redis-0", &["--entrypoint", "redis-server"]);
    until("redis to be ready", || pods.probe(REDIS, "redis-0", "readinessProbe"));
    for pod in [DESK, "coordinator-1"] {
        pods.start(COORDINATOR, pod);
    }
    until_ready(&pods, COORDINATOR, &[DESK, "coordinator-1"]);
    pods.start(MONITOR, "monitor-0");
    until_ready(&pods, MONITOR, &["monitor-0"]);
    // The hook of an installation; before it the cluster knows no type that no worker has brought.
    pods.start("Job/demo-maestro-register", "register");
    assert_eq!(pods.finish("register"), 0, "{}", pods.logs("register"));
    pods
}

/// Waits until the probes of these pods of a workload say that they are ready and alive.
pub(crate) fn until_ready(pods: &Pods, workload: &str, names: &[&str]) {
    for name in names {
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            until("a pod to be ready", || pods.probe(workload, name, probe));
        }
    }
}

/// A folder of the node in which every user may leave files.
pub(crate) fn witness_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("maestro-witness-").tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("ours");
    folder
}

/// How often tasks have begun and ended, as their agents say.
pub(crate) fn told(witness: &Path) -> Vec<(usize, usize)> {
    let files = std::fs::read_dir(witness).expect("ours");
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(file.expect("ours").path()).expect("text");
        (text.matches("begun").count(), text.matches("ended").count())
    };
    files.map(read).collect()
}

/// Waits until so many tasks have begun.
pub(crate) fn until_begun(witness: &Path, number: usize) {
    until("tasks to begin", || {
        let begun = told(witness).len();
        if begun >= number { Ok(()) } else { Err(format!("{begun} of {number}")) }
    });
}

/// The audit stream of a run.
pub(crate) fn events(pods: &Pods, run: &str) -> Vec<Value> {
    let lines = pods.maestro(DESK, &["events", "--run", run, "--format", "jsonl"]);
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// How many events of that name there are.
pub(crate) fn count(events: &[Value], word: &str) -> usize {
    // The step of a `foreach` starts and ends as well, with its items; it is nobody's work.
    events.iter().filter(|event| event["event"] == word && event["step"] != "each").count()
}

/// A script that leaves a line when it begins and another when it ends. If it begins again it is quick: what counts
/// is that it does.
pub(crate) fn sleeping(seconds: u32) -> String {
    format!(
        "cd /witness; t=$MAESTRO_TASK_ID; if test -e $t; then n=1; else n={seconds}; fi; \
         echo begun >> $t; sleep $n; echo ended >> $t"
    )
}

/// Submits a run of these steps; its id.
pub(crate) fn submit(pods: &Pods, steps: &str) -> String {
    pods.write(DESK, "tmp", "run.yaml", &format!("name: run\nsteps:\n{steps}\n"));
    let words = ["workflow", "run", "/tmp/run.yaml", "--detach", "--format", "json"];
    let record: Value = serde_json::from_str(&pods.maestro(DESK, &words)).expect("JSON");
    record["id"].as_str().unwrap_or_else(|| panic!("{record}")).to_owned()
}

/// Waits until a run has completed.
pub(crate) fn wait_for_run(pods: &Pods, run: &str, longest: Duration) {
    wait_until("the run to complete", longest, || {
        let words = ["workflow", "status", run, "--format", "json"];
        let status: Value = serde_json::from_str(&pods.maestro(DESK, &words)).expect("JSON");
        if status["status"] == "completed" { Ok(()) } else { Err(status.to_string()) }
    })
    .unwrap_or_else(|error| panic!("{error}"));
}
