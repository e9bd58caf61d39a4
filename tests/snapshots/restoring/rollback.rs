//! Going back to an earlier snapshot of the same cluster, by its label or as `latest`.

use std::fs;

use super::scene::{Scene, json, text};
use crate::support::ClusterSetup;

#[test]
fn a_rollback_ends_agents_once_somebody_has_agreed() {
    let mut scene = Scene::set_with(ClusterSetup::default());
    let labelled = scene.cluster.maestro(&["state", "snapshot", "--label", "before", "--format", "json"]);
    assert_eq!(json(&labelled)["latest"], true);
    json(&scene.cluster.maestro(&["state", "set", "a", "2"]));
    json(&scene.cluster.maestro(&["state", "set", "b", "3"]));
    fs::write(scene.folder.join("file"), "two").expect("ours");
    fs::write(scene.folder.join("further"), "two").expect("ours");
    let unasked = scene.cluster.maestro(&["state", "rollback", "before"]);
    assert_eq!(unasked.code, 77, "an agent works, and nobody can be asked: {unasked:?}");
    let unknown = scene.cluster.maestro(&["state", "rollback", "befor", "--yes"]);
    assert_eq!(unknown.code, 66, "{unknown:?}");
    assert!(unknown.err.contains("did you mean `before`?"), "{unknown:?}");
    assert_eq!(scene.state("a").as_deref(), Some("2"));

    let back = json(&scene.cluster.maestro(&["state", "rollback", "before", "--yes", "--format", "json"]));
    assert_eq!(back["queued_again"], 1, "{back}");
    let copy = back["safety_copy"].as_str().expect("there is one");
    assert!(copy.contains("/auto/pre-rollback-"), "{copy}");
    scene.expect_restored();
}

#[test]
fn without_reading_all_first_a_workspace_that_was_changed_is_found_all_the_same() {
    let mut scene = Scene::set();
    scene.go_astray();
    let snapshot = text(&scene.snapshot).to_owned();
    let good = fs::read(&scene.snapshot).expect("it is there");
    // Somewhere in the members of the workspaces, which lie behind the keys.
    let listed = scene.cluster.shell(&format!("tar -xzOf {snapshot} maestro/manifest.json"));
    let manifest: serde_json::Value = serde_json::from_str(&listed.out).expect("JSON");
    let members = &manifest["workspaces"][0]["members"];
    let at = members["offset"].as_u64().zip(members["length"].as_u64()).map(|(at, length)| at + length / 2);
    let mut changed = good.clone();
    changed[at.expect("numbers") as usize] ^= 1;
    fs::write(&scene.snapshot, changed).expect("ours");
    let words = ["state", "rollback", &snapshot, "--yes", "--no-safety-copy"];
    assert_eq!(scene.cluster.maestro(&words).code, 65, "read as a whole it is refused");
    let refused = scene.cluster.maestro(&[&words[..], &["--skip-verify"]].concat());
    assert_eq!(refused.code, 77, "its worker does not stage it: {refused:?}");
    scene.expect_astray();
    scene.expect_nothing_beside();

    fs::write(&scene.snapshot, good).expect("ours");
    json(&scene.cluster.maestro(&[&words[..], &["--skip-verify", "--format", "json"]].concat()));
    scene.expect_restored();
}
