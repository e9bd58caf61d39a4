//! The incident as an operator types it, without a terminal: see `docs/operating.md`.

use std::fs;
use std::path::Path;

use super::scene::{SOON, json, text, wait_for_go};
use crate::support::{ClusterSetup, TestCluster};

/// What is typed, line by line; each line has to succeed.
const TYPED: &str = r#"set -eu
maestro agent list
maestro shutdown --grace-period 10
latest=$(ls -t "$MAESTRO_SNAPSHOT_DIR"/*.tar.gz | head -1)
maestro state restore "$latest" --dry-run
maestro state restore "$latest"
maestro agent assign --from-snapshot "$latest" --format jsonl > assigned
echo "$latest" > latest
"#;

#[test]
fn agents_that_have_gone_astray_are_back_where_they_were() {
    let snapshots = tempfile::Builder::new().prefix("maestro-snapshots-").tempdir().expect("a folder");
    let env = vec![("MAESTRO_SNAPSHOT_DIR", snapshots.path().display().to_string())];
    let mut cluster = TestCluster::start(ClusterSetup { env, ..ClusterSetup::default() });
    let folder = cluster.scratch("smith");
    let words =
        ["agent", "assign", "probe", "--to-workspace", text(&folder), "--name", "smith", "--worker", "w0"];
    json(&cluster.maestro(&words));
    json(&cluster.maestro(&["state", "set", "plan", "good"]));
    fs::write(folder.join("file"), "good").expect("ours");
    let task = wait_for_go(&cluster);
    let taken = json(&cluster.maestro(&["state", "snapshot", "--format", "json"]));
    assert_eq!(taken["latest"], true, "{taken}");

    // What nobody wants: an agent in its own folder, and in shared state.
    json(&cluster.maestro(&["state", "set", "plan", "bad"]));
    let script = "while :; do echo bad > file; date >> heap; sleep 0.05; done";
    json(&cluster.maestro(&["task", "dispatch", script, "--to", "smith"]));
    cluster.wait_until("the agent to go astray", SOON, |_| {
        if folder.join("heap").exists() { Ok(()) } else { Err("not yet".to_owned()) }
    });

    let typed = cluster.shell(TYPED);

    assert_eq!(typed.code, 0, "{typed:?}\n{}", cluster.tails());
    let work = folder.ancestors().nth(2).expect("below the cluster's folder").join("work");
    let read = |name: &str| fs::read_to_string(work.join(name)).expect("it was written");
    assert_eq!(Path::new(read("latest").trim()), Path::new(taken["file"].as_str().expect("a file")));
    assert_eq!(read("assigned").lines().count(), 1);
    assert!(read("assigned").contains(r#""change":"unchanged""#), "{}", read("assigned"));
    cluster.look_again();
    assert_eq!(fs::read_to_string(folder.join("file")).expect("there"), "good");
    assert!(!folder.join("heap").exists());
    assert_eq!(cluster.maestro(&["state", "get", "plan", "--format", "table"]).out.trim(), "good");
    // What ran then comes to its end, under a higher attempt.
    fs::write(cluster.witness().join("go"), "").expect("ours");
    let ended = cluster.maestro(&["task", "wait", &task, "--timeout", "30"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let dispatched = cluster.maestro(&["task", "dispatch", "true", "--to", "smith", "--sync"]);
    assert_eq!(dispatched.code, 0, "work goes on: {dispatched:?}");
}
