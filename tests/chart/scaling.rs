//! The rendered pods run for real: one Redis, two coordinators and workers on a network of their own.
//!
//! `scripts/test-scaling.sh` runs the same with six workers and sixty tasks of twenty seconds, which takes minutes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::checks::python;
use crate::pods::{Pods, until};
use crate::support::engine::TestEngine;
use crate::support::wait_until;

const REDIS: &str = "StatefulSet/demo-maestro-redis";
const COORDINATOR: &str = "Deployment/demo-maestro-coordinator";
const WORKER: &str = "Deployment/demo-maestro-worker-default";
/// The coordinator in which commands are run.
const DESK: &str = "coordinator-0";

/// How much there is to do.
struct Scale {
    workers: usize,
    workers_left: usize,
    tasks: usize,
    task_seconds: u32,
    /// Of one task more, which outlasts the drain of its worker.
    long_task_seconds: u32,
    grace_seconds: u32,
}

const SMALL: Scale = Scale {
    workers: 3,
    workers_left: 1,
    tasks: 12,
    task_seconds: 2,
    long_task_seconds: 12,
    grace_seconds: 36,
};
const FULL: Scale = Scale {
    workers: 6,
    workers_left: 2,
    tasks: 60,
    task_seconds: 20,
    long_task_seconds: 60,
    grace_seconds: 60,
};

fn scale() -> Scale {
    if std::env::var("MAESTRO_TEST_SCALE").is_ok_and(|word| word == "full") { FULL } else { SMALL }
}

/// Images of this build: the binary alone, and one with a shell and a Redis.
fn images(engine: &TestEngine) -> (&'static str, &'static str) {
    static MADE: OnceLock<(String, String)> = OnceLock::new();
    let (plain, full) = MADE.get_or_init(|| {
        let stamp = std::process::id();
        let images = (format!("maestro-chart:{stamp}"), format!("maestro-chart:{stamp}-tools"));
        make_image(engine, &[&images.0]);
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

/// The chart's values of these tests: an agent type that leaves a line when it begins and one when it ends.
fn values(engine: &TestEngine, scale: &Scale, witness: &Path) -> Value {
    let (plain, tools) = images(engine);
    let image = |name: &str| {
        let (repository, tag) = name.split_once(':').expect("made so");
        json!({"repository": repository, "tag": tag})
    };
    json!({
        "image": image(plain),
        "redis": {"image": image(tools)},
        "agentTypes": {
            "shell": {"command": ["sh", "-e", "<< prompt >>"], "prompt_via": "file", "paths": {"write": ["/witness"]}},
        },
        "workflows": {"greet": "name: greet\nsteps:\n  - {id: hello, agent: shell, prompt: echo hello from the chart}\n"},
        "workerPools": {"default": {
            "image": image(tools),
            "concurrency": 2,
            "terminationGracePeriodSeconds": scale.grace_seconds,
            "extraVolumes": [{"name": "witness", "hostPath": {"path": witness.display().to_string()}}],
            "extraVolumeMounts": [{"name": "witness", "mountPath": "/witness"}],
        }},
    })
}

/// Redis and two coordinators.
fn start_cluster<'e>(engine: &'e TestEngine, python: &Path, scale: &Scale, witness: &Path) -> Pods<'e> {
    let mut pods = Pods::render(engine, python, &values(engine, scale, witness));
    // What the entry point of a Redis image does: it puts the server before the arguments.
    pods.start_with(REDIS, "redis-0", &["--entrypoint", "redis-server"]);
    until("redis to be ready", || {
        let probe = "redis-cli ping 2>&1 | grep -qE PONG";
        if pods.exec("redis-0", &["sh", "-c", probe]).status.success() {
            Ok(())
        } else {
            Err(pods.logs("redis-0"))
        }
    });
    for pod in [DESK, "coordinator-1"] {
        pods.start(COORDINATOR, pod);
    }
    until_ready(&pods, &[DESK, "coordinator-1"]);
    pods
}

/// Waits until the pods have attached to the cluster.
fn until_ready(pods: &Pods, names: &[&str]) {
    for name in names {
        until("a pod to attach", || {
            let logs = pods.logs(name);
            let attached =
                logs.contains("\"message\":\"serving") || logs.contains("\"message\":\"coordinating");
            if attached { Ok(()) } else { Err(logs) }
        });
    }
}

/// A folder of the node in which every user may leave files.
fn witness_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("maestro-witness-").tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("ours");
    folder
}

/// How often tasks have begun and ended, as their agents say.
fn told(witness: &Path) -> Vec<(usize, usize)> {
    let files = std::fs::read_dir(witness).expect("ours");
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(file.expect("ours").path()).expect("text");
        (text.matches("begun").count(), text.matches("ended").count())
    };
    files.map(read).collect()
}

fn events(pods: &Pods, run: &str) -> Vec<Value> {
    let lines = pods.maestro(DESK, &["events", "--run", run, "--format", "jsonl"]);
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn count(events: &[Value], word: &str) -> usize {
    // The step of a `foreach` starts and ends as well, with its items; it is nobody's work.
    events.iter().filter(|event| event["event"] == word && event["step"] != "each").count()
}

/// A script that leaves a line when it begins and another when it ends. If it begins again it is quick: what counts
/// is that it does.
fn sleeping(seconds: u32) -> String {
    format!(
        "cd /witness; t=$MAESTRO_TASK_ID; if test -e $t; then n=1; else n={seconds}; fi; \
         echo begun >> $t; sleep $n; echo ended >> $t"
    )
}

/// Submits a run of these steps; its id.
fn submit(pods: &Pods, steps: &str) -> String {
    let write = format!("cat > /tmp/run.yaml <<'END'\nname: run\nsteps:\n{steps}\nEND\n");
    let done = pods.exec("worker-0", &["sh", "-c", &write]);
    assert!(done.status.success(), "{done:?}");
    let words = ["workflow", "run", "/tmp/run.yaml", "--detach", "--format", "json"];
    let record: Value = serde_json::from_str(&pods.maestro("worker-0", &words)).expect("JSON");
    record["id"].as_str().unwrap_or_else(|| panic!("{record}")).to_owned()
}

fn wait_for_run(pods: &Pods, run: &str, longest: Duration) {
    wait_until("the run to complete", longest, || {
        let words = ["workflow", "status", run, "--format", "json"];
        let status: Value = serde_json::from_str(&pods.maestro(DESK, &words)).expect("JSON");
        if status["status"] == "completed" { Ok(()) } else { Err(status.to_string()) }
    })
    .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn workers_of_the_chart_are_taken_away_without_a_task_lost_burned_or_run_twice() {
    let test = "chart::scaling";
    let (Some(python), Some(engine)) = (python(test), TestEngine::shared(test)) else { return };
    let scale = scale();
    let witness = witness_folder();
    let mut pods = start_cluster(engine, &python, &scale, witness.path());
    let names: Vec<String> = (0..scale.workers).map(|number| format!("worker-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        pods.start(WORKER, name);
    }
    until_ready(&pods, &names);

    let greeted =
        pods.maestro(DESK, &["workflow", "run", "/etc/maestro/workflows/greet.yaml", "--result", "hello"]);
    assert!(greeted.contains("hello from the chart"), "{greeted}");

    let begun = |number: usize| {
        until("tasks to begin", || {
            let begun = told(witness.path()).len();
            if begun >= number { Ok(()) } else { Err(format!("{begun} of {number}")) }
        });
    };
    let long = submit(
        &pods,
        &format!("  - {{id: long, agent: shell, prompt: '{}'}}", sleeping(scale.long_task_seconds)),
    );
    begun(1);
    let items: Vec<String> = (0..scale.tasks).map(|number| number.to_string()).collect();
    let (items, script) = (items.join(","), sleeping(scale.task_seconds));
    let many =
        submit(&pods, &format!("  - {{id: each, foreach: [{items}], agent: shell, prompt: '{script}'}}"));
    begun(2 * scale.workers);

    // The one with the long task is among those that go.
    let holder = events(&pods, &long).into_iter().find(|event| event["event"] == "started");
    let holder = holder.and_then(|event| event["actor"].as_str().map(str::to_owned)).expect("it runs");
    let mut going: Vec<&str> = names.iter().copied().filter(|name| *name != holder).collect();
    going.insert(0, &holder);
    going.truncate(scale.workers - scale.workers_left);
    let pods_here = &pods;
    let ends = std::thread::scope(|scope| {
        let end = |name: &&str| {
            let name = (*name).to_owned();
            scope.spawn(move || (pods_here.end(WORKER, &name), name))
        };
        let ending: Vec<_> = going.iter().map(end).collect();
        ending.into_iter().map(|one| one.join().expect("it ends")).collect::<Vec<_>>()
    });
    for (end, name) in ends {
        assert_eq!(end.exit_code, 0, "{name}: {end:?}\n{}", pods.logs(&name));
        assert!(end.took < Duration::from_secs(u64::from(scale.grace_seconds)), "{name}: {end:?}");
    }

    let seconds = scale.task_seconds as usize * scale.tasks / (2 * scale.workers_left);
    let longest = Duration::from_secs(seconds as u64 + u64::from(scale.long_task_seconds) + 60);
    wait_for_run(&pods, &long, longest);
    wait_for_run(&pods, &many, longest);
    let told = told(witness.path());
    assert_eq!(told.len(), scale.tasks + 1, "every task has run");
    assert!(told.iter().all(|(_, ended)| *ended == 1), "none has run to its end twice: {told:?}");
    let events = [events(&pods, &long), events(&pods, &many)].concat();
    for word in ["lost", "retried", "failed", "fenced"] {
        assert_eq!(count(&events, word), 0, "{word}: {events:#?}");
    }
    let returned = count(&events, "returned");
    assert!(returned >= 1, "the long task outlasts the drain: {events:#?}");
    assert_eq!(count(&events, "started"), scale.tasks + 1 + returned, "only what was given back began again");
    assert_eq!(count(&events, "completed"), scale.tasks + 1);
}
