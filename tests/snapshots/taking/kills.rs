//! The command and a worker are killed with SIGKILL at every step of a snapshot: the cluster goes on by itself.

use std::fs;
use std::time::Duration;

use super::scene::{PATIENCE, SnapshotScene, json};
use crate::support::ClusterSetup;

/// Every step of a snapshot at which its command can die.
const STEPS: [&str; 5] =
    ["snapshot-frozen", "snapshot-keys", "snapshot-read", "snapshot-joined", "snapshot-in-place"];
/// The freeze runs out 15 s after its last renewal, and a worker looks every second.
const GOES_ON_WITHIN: Duration = Duration::from_secs(25);

/// Starts an agent that counts, and waits until it does; its file.
fn counting_agent(scene: &SnapshotScene) -> std::path::PathBuf {
    let script = "while [ ! -e ../../../witness/stop ]; do echo x >> count; sleep 0.02; done";
    let prompt = serde_json::to_string(script).expect("plain");
    let text = format!("name: busy\nsteps:\n  - id: a\n    agent: probe\n    prompt: {prompt}\n");
    let run = scene.cluster.submit_text("busy", &text);
    let file = scene.cluster.root().join(format!("probe/{run}.0/count"));
    scene.cluster.wait_until("the agent to count", PATIENCE, |_| {
        if file.exists() { Ok(()) } else { Err("no file".to_owned()) }
    });
    file
}

fn goes_on(scene: &SnapshotScene, file: &std::path::Path) {
    let length = || fs::metadata(file).map_or(0, |found| found.len());
    let before = length();
    scene.cluster.wait_until("the agent to go on", GOES_ON_WITHIN, |observer| {
        let mode = observer.ask(async |store| store.mode().await).map_err(|error| error.to_string())?;
        if mode.word == "run" && length() > before { Ok(()) } else { Err(mode.word) }
    });
}

fn die_at(step: &str) {
    let mut scene = SnapshotScene::start(
        ClusterSetup::default(),
        &[("MAESTRO_FAILPOINT", &format!("{step}:{{folder}}/reached"))],
    );
    let file = counting_agent(&scene);
    scene.cluster.start_command("snapshot", &["state", "snapshot"]);
    let reached = scene.path("reached");
    scene
        .cluster
        .wait_until(step, PATIENCE, |_| if reached.exists() { Ok(()) } else { Err("not yet".to_owned()) });
    scene.cluster.member("snapshot").kill();
    goes_on(&scene, &file);
    // What the dead one left is gone with the next one, and the next one is whole.
    let answer =
        scene.cluster.maestro_with(&[("MAESTRO_FAILPOINT", "")], &["state", "snapshot", "--format", "json"]);
    assert_eq!(answer.code, 0, "{step}: {answer:?}");
    let path = json(&answer)["file"].as_str().expect("a file").to_owned();
    let names: Vec<String> = fs::read_dir(scene.path("all"))
        .expect("the folder")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(names.is_empty(), "{step} left {names:?}");
    assert_eq!(scene.cluster.maestro(&["state", "verify", &path]).code, 0, "{step}");
    fs::write(scene.cluster.witness().join("stop"), "").expect("a file");
}

#[test]
fn a_command_killed_once_all_stand_still_leaves_a_cluster_that_goes_on() {
    die_at(STEPS[0]);
}

#[test]
fn a_command_killed_with_the_keys_read_leaves_a_cluster_that_goes_on() {
    die_at(STEPS[1]);
}

#[test]
fn a_command_killed_before_the_thaw_leaves_a_cluster_that_goes_on() {
    die_at(STEPS[2]);
}

#[test]
fn a_command_killed_after_the_thaw_leaves_a_cluster_that_goes_on() {
    die_at(STEPS[3]);
    die_at(STEPS[4]);
}

#[test]
fn a_worker_killed_while_it_packs_is_missing_and_its_task_starts_again() {
    let setup = ClusterSetup { workers: 0, ..ClusterSetup::default() };
    let mut scene = SnapshotScene::start(setup, &[]);
    let reached = scene.path("reached");
    let failpoint = format!("worker-packing:{}", reached.display());
    let words = ["worker", "start", "--name", "w0"];
    scene.cluster.start_command_with("w0", &words, &[("MAESTRO_FAILPOINT", &failpoint)]);
    scene.cluster.wait_for_worker("w0");
    let file = counting_agent(&scene);
    scene.cluster.start_command("snapshot", &["state", "snapshot", "--format", "json"]);
    scene.cluster.wait_until("packing", PATIENCE, |_| {
        if reached.exists() { Ok(()) } else { Err("not yet".to_owned()) }
    });
    scene.cluster.member("w0").kill();
    fs::remove_file(&reached).expect("it is there");
    let ended = scene.cluster.member("snapshot").wait(PATIENCE);
    assert_eq!(ended, Ok(1), "{}", scene.cluster.tails());
    let said = scene.cluster.member("snapshot").log();
    assert!(said.contains("worker `w0`") && !scene.path("all/latest").exists(), "{said}");
    let length = fs::metadata(&file).expect("there").len();
    scene.cluster.start_worker("w0");
    scene.cluster.wait_for_worker("w0");
    let again = file.with_file_name(format!(
        "../{}.2/count",
        file.parent().and_then(|folder| folder.file_name()).expect("a task's folder").to_string_lossy()
    ));
    scene.cluster.wait_until("the second attempt", PATIENCE, |_| {
        if again.exists() { Ok(()) } else { Err(format!("no {}", again.display())) }
    });
    assert_eq!(fs::metadata(&file).expect("there").len(), length, "the first one died with its worker");
    let (record, _) = scene.take();
    assert_eq!(record["latest"], true, "{record}");
    fs::write(scene.cluster.witness().join("stop"), "").expect("a file");
}

#[test]
fn a_worker_that_dies_or_sleeps_is_missing_and_the_snapshot_partial() {
    let setup = ClusterSetup { workers: 0, ..ClusterSetup::default() };
    let mut scene = SnapshotScene::start(setup, &[]);
    for name in ["w0", "w1"] {
        let root = scene.path(name).display().to_string();
        scene.cluster.start_worker_in(name, &root);
        scene.cluster.wait_for_worker(name);
    }
    scene.cluster.member("w1").pause();
    let answer = scene.cluster.maestro(&["state", "snapshot", "--format", "json"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    let record = json(&answer);
    assert_eq!((record["partial"].as_bool(), record["latest"].as_bool()), (Some(true), Some(false)));
    assert!(record["missing"][0].as_str().is_some_and(|missing| missing.contains("`w1`")), "{record}");
    assert!(!scene.path("all/latest").exists());
    scene.cluster.member("w1").resume();
    scene.cluster.member("w1").kill();
    let mode = scene.cluster.observer().ask(async |store| store.mode().await).expect("redis is there");
    assert_eq!(mode.word, "run");
}
