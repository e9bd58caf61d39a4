//! The incident as an operator types it, without a terminal.

use super::scene::{Scene, json, text};

#[test]
fn the_agents_of_a_snapshot_are_assigned_as_they_were() {
    let mut scene = Scene::set();
    scene.go_astray();
    json(&scene.restore(&["--format", "json"]));
    let words = ["agent", "assign", "--from-snapshot", text(&scene.snapshot), "--format", "json"];
    let assigned = json(&scene.cluster.maestro(&words));
    let assigned = assigned.as_array().expect("a list");
    assert_eq!(assigned.len(), 1, "{assigned:?}");
    assert_eq!((&assigned[0]["id"], &assigned[0]["change"]), (&"smith".into(), &"unchanged".into()));
    scene.expect_restored();
}
