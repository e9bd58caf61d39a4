//! What is refused, with nothing changed; and who is refused afterwards.

use std::fs;

use super::scene::{SOON, Scene, json, text};

#[test]
fn agents_that_work_are_not_ended_unasked() {
    let scene = Scene::set();
    let refused = scene.restore(&["--yes"]);
    assert_eq!(refused.code, 77, "{refused:?}");
    assert!(refused.err.contains("1 agents are active"), "{refused:?}");
    assert_eq!(scene.state("a").as_deref(), Some("1"));
    let unasked = scene.restore(&["--stop-agents"]);
    assert_eq!(unasked.code, 77, "nobody can be asked: {unasked:?}");
    let mut scene = scene;
    json(&scene.restore(&["--stop-agents", "--yes", "--format", "json"]));
    scene.expect_restored();
}

#[test]
fn a_changed_archive_is_refused_before_anything_happens() {
    let scene = Scene::set();
    scene.go_astray();
    let mut bytes = fs::read(&scene.snapshot).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&scene.snapshot, bytes).expect("ours");
    for words in [&["state", "verify"][..], &["state", "restore"], &["state", "diff"]] {
        let refused = scene.cluster.maestro(&[words, &[text(&scene.snapshot)]].concat());
        assert_eq!(refused.code, 65, "{refused:?}");
    }
    let gone = scene.cluster.maestro(&["state", "verify", "no-such-file.tar.gz"]);
    assert_eq!(gone.code, 66, "{gone:?}");
    scene.expect_astray();
}

#[test]
fn without_its_worker_a_folder_has_no_place() {
    let mut scene = Scene::set();
    scene.go_astray();
    scene.cluster.member("w0").terminate();
    scene.cluster.member("w0").wait(SOON).expect("it ends");
    let refused = scene.restore(&[]);
    assert_eq!(refused.code, 77, "{refused:?}");
    assert!(refused.err.contains("workspace missing: "), "{refused:?}");
    scene.expect_astray();
    let skipped = scene.restore(&["--skip-failed", "--format", "json"]);
    assert_eq!(skipped.code, 1, "it has to be seen: {skipped:?}");
    assert_eq!(scene.state("a").as_deref(), Some("1"));
    assert_eq!(fs::read_to_string(scene.folder.join("file")).expect("there"), "two", "not placed");
    scene.cluster.look_again();
    scene.cluster.start_worker("w0");
    scene.cluster.wait_for_worker("w0");
    fs::write(scene.cluster.witness().join("go"), "").expect("ours");
    let ended = scene.cluster.maestro(&["task", "wait", &scene.task, "--timeout", "30"]);
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn a_worker_that_slept_through_a_restore_is_refused() {
    let mut scene = Scene::set();
    json(&scene.cluster.maestro(&["state", "set", "a", "2"]));
    let script = "while sleep 0.05; do echo late >> late; done";
    json(&scene.cluster.maestro(&["task", "dispatch", script, "--to", "smith", "--format", "json"]));
    let late = scene.folder.join("late");
    scene.cluster.wait_until("the agent to write", SOON, |_| {
        if late.exists() { Ok(()) } else { Err("nothing yet".to_owned()) }
    });
    let gate = scene.begin_restore("restore-staged", &["--stop-agents"]);
    scene.cluster.member("w0").pause_alone();
    fs::remove_file(&gate).expect("it is there");
    let mut redis = scene.cluster.redis.connection().expect("redis is there");
    scene.cluster.wait_until("the change", SOON, |_| {
        let generation: String =
            redis::cmd("HGET").arg("trial:ctl").arg("generation").query(&mut redis).expect("redis answers");
        if generation == "2" { Ok(()) } else { Err(generation) }
    });
    scene.cluster.member("w0").resume();
    assert_eq!(scene.cluster.member("restore").wait(SOON), Ok(0), "{}", scene.cluster.tails());
    assert!(!late.exists(), "what its agent wrote went with the folder that was there before");
    scene.cluster.look_again();
    scene.cluster.wait_for_worker("w0");
    let log = scene.cluster.member("w0").log();
    assert!(log.contains("attached again"), "it had to find the cluster anew: {log}");
    assert!(!late.exists(), "its agent has ended");
    scene.expect_restored();
}

#[test]
fn a_worker_that_does_not_answer_has_its_folders_passed_over() {
    let mut scene = Scene::set();
    scene.go_astray();
    scene.cluster.member("w0").pause_alone();
    let refused = scene.restore(&["--yes"]);
    assert_eq!(refused.code, 77, "{refused:?}");
    let skipped = scene.restore(&["--skip-failed", "--yes", "--format", "json"]);
    assert_eq!(skipped.code, 1, "it has to be seen: {skipped:?}");
    assert_eq!(fs::read_to_string(scene.folder.join("file")).expect("there"), "two", "not placed");
    scene.cluster.member("w0").resume();
    scene.cluster.look_again();
    scene.cluster.wait_for_worker("w0");
    assert_eq!(scene.state("a").as_deref(), Some("1"));
    fs::write(scene.cluster.witness().join("go"), "").expect("ours");
    let ended = scene.cluster.maestro(&["task", "wait", &scene.task, "--timeout", "30"]);
    assert_eq!(ended.code, 0, "{ended:?}");
}
