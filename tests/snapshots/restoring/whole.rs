//! A restore over a cluster that lives, and into an empty one.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::scene::{Scene, json, text};

#[test]
fn state_folders_and_unfinished_work_come_back() {
    let mut scene = Scene::set();
    scene.go_astray();
    let before: u64 = epoch(&scene);
    let restored = scene.restore(&["--format", "json"]);
    let record = json(&restored);
    assert_eq!(record["failed_workspaces"], Value::Array(Vec::new()), "{restored:?}");
    assert_eq!(record["queued_again"], 1);
    assert!(epoch(&scene) > before, "the epoch only grows");
    scene.expect_restored();
    let mut redis = scene.cluster.redis.connection().expect("redis is there");
    let ttl: i64 = redis::cmd("PTTL").arg("trial:{2.0}:state:a").query(&mut redis).expect("redis answers");
    assert!((7_000_000..=7_200_000).contains(&ttl), "what was left of two hours: {ttl} ms");
}

fn epoch(scene: &Scene) -> u64 {
    let mut redis = scene.cluster.redis.connection().expect("redis is there");
    redis::cmd("HGET").arg("trial:ctl").arg("epoch").query(&mut redis).expect("redis answers")
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_the_restore_then_does() {
    let mut scene = Scene::set();
    scene.go_astray();
    let mut redis = scene.cluster.redis.connection().expect("redis is there");
    let keys = |redis: &mut redis::Connection| -> BTreeSet<String> {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(redis).expect("redis answers");
        // Letters come and go.
        keys.into_iter().filter(|key| !key.contains("}:bell:") && !key.contains("}:a")).collect()
    };
    let before = keys(&mut redis);
    let planned = scene.restore(&["--dry-run", "--format", "json"]);
    let plan = json(&planned);
    assert_eq!(keys(&mut redis), before);
    scene.expect_astray();
    scene.expect_nothing_beside();
    let has = |change: &str, what: &str, name: &str| {
        let entries = plan.as_array().expect("a list");
        entries.iter().any(|one| one["change"] == change && one["what"] == what && one["name"] == name)
    };
    assert!(has("changed", "state", "a"), "{plan}");
    assert!(has("removed", "state", "b"), "{plan}");
    assert!(has("replaced", "workspace", text(&scene.folder)), "{plan}");

    let since = json(&scene.cluster.maestro(&["state", "diff", text(&scene.snapshot), "--format", "json"]));
    let since = since.as_array().expect("a list").iter();
    let added: Vec<&Value> = since.filter(|one| one["change"] == "added" && one["what"] == "state").collect();
    assert_eq!(added.len(), 1, "`b` is new since: {added:?}");
    json(&scene.restore(&["--format", "json"]));
    scene.expect_restored();
    let after = json(&scene.restore(&["--dry-run", "--format", "json"]));
    let states = after.as_array().expect("a list").iter().filter(|one| one["what"] == "state").count();
    assert_eq!(states, 0, "nothing is left to change: {after}");
}

#[test]
fn an_emptied_cluster_gets_everything_back() {
    let mut scene = Scene::set();
    scene.go_astray();
    fs::remove_dir_all(&scene.folder).expect("ours");
    json(&scene.cluster.maestro(&["redis", "flush", "--yes", "--format", "json"]));
    scene.cluster.look_again();
    scene.cluster.wait_for_worker("w0");
    json(&scene.restore(&["--format", "json"]));
    scene.expect_restored();
    let assigned = json(&scene.cluster.maestro(&["agent", "list", "--format", "json"]));
    assert!(assigned.to_string().contains("smith"), "{assigned}");
}

#[test]
fn a_restore_can_be_followed_by_another() {
    let mut scene = Scene::set();
    for _ in 0..3 {
        scene.go_astray();
        json(&scene.restore(&["--format", "json"]));
        scene.cluster.look_again();
        scene.cluster.wait_for_worker("w0");
        assert_eq!(scene.state("a").as_deref(), Some("1"));
    }
    scene.expect_restored();
    let mut redis = scene.cluster.redis.connection().expect("redis is there");
    let keys: Vec<String> = redis::cmd("KEYS").arg("trial:{*").query(&mut redis).expect("redis answers");
    assert!(keys.iter().all(|key| key.starts_with("trial:{4.0}:")), "old generations go: {keys:?}");
}
