//! Snapshots that the leading coordinator takes by itself.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::scene::{PATIENCE, SnapshotScene, json};
use crate::support::ClusterSetup;

/// Snapshots in the folder itself.
fn snapshots(scene: &SnapshotScene) -> Vec<PathBuf> {
    let entries = fs::read_dir(scene.path("all")).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "gz")).collect()
}

#[test]
fn the_leader_takes_them_and_old_ones_go_but_never_the_last_good_one() {
    let setup = ClusterSetup { coordinators: 2, ..ClusterSetup::default() };
    let env = [("MAESTRO_SNAPSHOT_INTERVAL", "2s"), ("MAESTRO_SNAPSHOT_RETENTION", "1s")];
    let scene = SnapshotScene::start(setup, &env);
    let latest = || fs::read_link(scene.path("all/latest")).ok();
    let first = scene.cluster.wait_until("the first", PATIENCE, |_| latest().ok_or("none".to_owned()));
    scene.cluster.wait_until("a later one, and the end of the first", PATIENCE, |_| {
        let gone = !scene.path("all").join(&first).exists();
        if gone && latest().is_some_and(|now| now != first) {
            Ok(())
        } else {
            Err(format!("{:?}", snapshots(&scene)))
        }
    });
    assert!(snapshots(&scene).len() <= 2, "one leads, and old ones go: {:?}", snapshots(&scene));
    let listed = json(&scene.cluster.maestro(&["state", "snapshots", "--format", "json"]));
    let good = listed.as_array().expect("a list").iter().find(|one| one["latest"] == true).expect("one");
    assert_eq!((&good["label"], &good["state"]), (&"automatic".into(), &"good".into()));

    // Stopped, the cluster keeps the last one for whoever looks for it.
    assert_eq!(scene.cluster.maestro(&["shutdown", "--no-safety-copy"]).code, 0);
    let settled = || {
        let all = fs::read_dir(scene.path("all")).into_iter().flatten().flatten();
        all.map(|entry| entry.file_name()).collect::<std::collections::BTreeSet<_>>()
    };
    // One that was being taken may still come to its end.
    scene.cluster.wait_until("the last one", PATIENCE, |_| {
        if settled().iter().any(|name| name.to_string_lossy().starts_with('.')) {
            Err("not yet")
        } else {
            Ok(())
        }
        .map_err(str::to_owned)
    });
    let kept = settled();
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        assert_eq!(settled(), kept);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(scene.cluster.maestro(&["queue", "resume"]).code, 0);
}

#[test]
fn one_with_a_failed_agent_is_not_latest() {
    let scene = SnapshotScene::start(ClusterSetup::default(), &[]);
    let folder = scene.cluster.scratch("smith");
    let path = folder.to_str().expect("plain");
    let words = ["agent", "assign", "probe", "--to-workspace", path, "--name", "smith", "--worker", "w0"];
    assert_eq!(scene.cluster.maestro(&words).code, 0);
    let (_, good) = scene.take();
    fs::remove_dir(&folder).expect("ours");
    scene.cluster.wait_until("the agent to fail", PATIENCE, |_| {
        let agents = scene.cluster.maestro(&["agent", "list", "--status", "failed", "--format", "name"]);
        if agents.out.contains("smith") { Ok(()) } else { Err(agents.out) }
    });
    let answer = scene.cluster.maestro(&["state", "snapshot", "--format", "json"]);
    let record = json(&answer);
    assert_eq!(
        (&record["latest"], &record["failed_agents"][0]),
        (&false.into(), &"smith".into()),
        "{record}"
    );
    let latest = fs::canonicalize(scene.path("all/latest")).expect("there is one");
    assert_eq!(latest, fs::canonicalize(good).expect("there"));
}
