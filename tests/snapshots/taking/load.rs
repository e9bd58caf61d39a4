//! Agents at work, seen at one instant: files and shared state agree, and nothing dies of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::scene::{PATIENCE, SnapshotScene, json};
use crate::support::{ClusterSetup, TestServer};

const WORKERS: usize = 4;
const AGENTS: usize = 40;

/// Each agent counts: first in its file, then in shared state, until it is told to end.
fn counting(number: usize, stop: &Path) -> String {
    let stop = stop.display();
    format!(
        "n=0; while [ ! -e {stop} ]; do n=$((n+1)); echo $n >> count; \
         maestro state set count-{number} $n --quiet >/dev/null; sleep 1.5; done; echo $n > ended"
    )
}

#[test]
fn files_and_shared_state_of_forty_agents_on_four_folders_agree() {
    let setup = ClusterSetup { workers: 0, concurrency: AGENTS / WORKERS, ..ClusterSetup::default() };
    let mut scene = SnapshotScene::start(setup, &[("MAESTRO_LEASE", "30s")]);
    let binary = Path::new(env!("CARGO_BIN_EXE_maestro")).parent().expect("it lies in a folder").display();
    let stop = scene.cluster.witness().join("stop");
    let rest = format!(
        "command: [sh, -e, \"<< prompt >>\"]\nprompt_via: file\nenv: {{PATH: \"{binary}:/usr/bin:/bin\"}}\n\
         paths: {{read: [{}]}}\n",
        scene.cluster.witness().display()
    );
    scene.cluster.write_agent("counter", &rest);
    for number in 0..WORKERS {
        let root = scene.path(&format!("root{number}")).display().to_string();
        scene.cluster.start_worker_in(&format!("w{number}"), &root);
    }
    for number in 0..WORKERS {
        scene.cluster.wait_for_worker(&format!("w{number}"));
    }
    let steps: String = (0..AGENTS)
        .map(|number| {
            let script = serde_json::to_string(&counting(number, &stop)).expect("plain");
            format!("  - id: s{number}\n    agent: counter\n    prompt: {script}\n")
        })
        .collect();
    let run = scene.cluster.submit_text("count", &format!("name: count\nsteps:\n{steps}"));
    let key = |number: usize| format!("count-{number}");
    let counts = |scene: &SnapshotScene| {
        let listed = scene.cluster.maestro(&["state", "list", "count-*", "--format", "json"]);
        json(&listed).as_array().map_or(0, Vec::len)
    };
    scene.cluster.wait_until("all agents to count", PATIENCE, |_| {
        let count = counts(&scene);
        if count == AGENTS { Ok(()) } else { Err(format!("{count} do")) }
    });

    let (record, archive) = scene.take();

    assert_eq!(
        (record["running"].as_u64(), record["partial"].as_bool()),
        (Some(40), Some(false)),
        "{record}"
    );
    let unpacked = scene.unpack(&archive, "unpacked");
    let state = state_of(&unpacked.join("redis"));
    let files = last_counts(&unpacked.join("workspaces"));
    assert_eq!(files.len(), AGENTS, "{files:?}");
    let tasks = scene.cluster.observer().tasks(&run);
    for (number, task) in tasks.iter().enumerate() {
        let written = files[&format!("{run}.{number}")];
        let told = state[&key(number)];
        assert!(written == told || written == told + 1, "{}: {written} and {told}", task.own.label());
    }
    fs::write(&stop, "").expect("a file");
    let record = scene.cluster.wait_for_run(&run, PATIENCE);
    assert!(record.status.word() == "completed", "{record:?}");
    for task in scene.cluster.observer().tasks(&run) {
        let attempt = task.record.as_ref().map(|record| record.attempt.0);
        assert_eq!(attempt, Some(1), "nothing was started twice");
    }
}

/// The counters in a `dump.rdb`, by a plain Redis.
fn state_of(folder: &Path) -> BTreeMap<String, u64> {
    let server = TestServer::start(folder, false);
    let mut connection = server.connection().expect("redis is there");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*:state:count-*").query(&mut connection).expect("keys");
    let read = |key: String| {
        let value: String = redis::cmd("HGET").arg(&key).arg("v").query(&mut connection).expect("a value");
        let name = key.rsplit(':').next().expect("a name").to_owned();
        (name, value.trim_matches('"').parse().expect("a number"))
    };
    keys.into_iter().map(read).collect()
}

/// The last line of each file, by the folder of its task.
fn last_counts(workspaces: &Path) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for worker in fs::read_dir(workspaces).expect("a folder") {
        let tasks = worker.expect("readable").path().join("counter");
        for task in fs::read_dir(tasks).expect("each worker runs some") {
            let task = task.expect("readable");
            let text = fs::read_to_string(task.path().join("count")).expect("it counts");
            let last = text.lines().last().expect("it has begun").parse().expect("a number");
            counts.insert(task.file_name().to_string_lossy().into_owned(), last);
        }
    }
    counts
}
