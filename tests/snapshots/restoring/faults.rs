//! The command killed at every step of a restore: before the change nothing has happened, after it all is finished.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use maestro_store::restoring::RestoreStage;
use rustix::process::Signal;

use super::scene::{SOON, Scene, json, text};

/// Places after it.
const AFTER: [&str; 3] = ["restore-committed", "restore-placed", "restore-going-on"];

impl Scene {
    /// Begins a restore that is held at a place; the file that holds it there.
    pub(crate) fn begin_restore(&mut self, place: &str, further: &[&str]) -> PathBuf {
        let file = self.cluster.scratch("failpoints").join(place);
        let failpoint = format!("{place}:{}", file.display());
        let snapshot = text(&self.snapshot).to_owned();
        let words = [&["state", "restore", &snapshot, "--no-safety-copy", "--yes"], further].concat();
        self.cluster.start_command_with("restore", &words, &[("MAESTRO_FAILPOINT", &failpoint)]);
        self.cluster.wait_until(place, Duration::from_secs(60), |_| {
            if file.exists() { Ok(()) } else { Err("not reached".to_owned()) }
        });
        file
    }

    /// Begins a restore and kills the command where it is held.
    fn kill_at(&mut self, place: &str) {
        let file = self.begin_restore(place, &[]);
        self.cluster.member("restore").signal(Signal::KILL);
        let _killed = self.cluster.member("restore").wait(SOON);
        fs::remove_file(file).expect("it is there");
    }
}

/// Before the change: the cluster goes on as it was, and a restore works afterwards.
fn goes_on_after_a_kill_at(place: &str) {
    let mut scene = Scene::set();
    scene.go_astray();
    scene.kill_at(place);
    scene.cluster.wait_until("the freeze to run out by itself", SOON, |observer| {
        let mode = observer.ask(async |store| store.mode().await).map_err(|error| error.to_string())?;
        if mode.word == "run" { Ok(()) } else { Err(mode.word) }
    });
    let dispatched = scene.cluster.maestro(&["task", "dispatch", "true", "--to", "probe", "--sync"]);
    assert_eq!(dispatched.code, 0, "{place}: {dispatched:?}");
    scene.expect_astray();
    json(&scene.restore(&["--format", "json"]));
    scene.expect_restored();
}

#[test]
fn killed_while_all_stands_still_the_cluster_goes_on_as_it_was() {
    goes_on_after_a_kill_at("restore-frozen");
}

#[test]
fn killed_with_keys_loaded_the_cluster_goes_on_as_it_was() {
    goes_on_after_a_kill_at("restore-loaded");
}

#[test]
fn killed_with_all_beside_its_place_the_cluster_goes_on_as_it_was() {
    goes_on_after_a_kill_at("restore-staged");
}

#[test]
fn killed_after_the_change_the_same_command_finishes() {
    for place in AFTER {
        let mut scene =
            Scene::set_with(crate::support::ClusterSetup { coordinators: 0, ..Default::default() });
        scene.go_astray();
        scene.kill_at(place);
        let finished = scene.restore(&["--yes", "--format", "json"]);
        assert_eq!(finished.code, 0, "{place}: {finished:?}");
        scene.expect_restored();
    }
}

/// A restore whose worker is killed at a place of its own.
fn kill_worker_at(place: &str) -> Scene {
    let mut scene = Scene::set();
    scene.go_astray();
    scene.cluster.member("w0").terminate();
    assert_eq!(scene.cluster.member("w0").wait(SOON), Ok(0));
    let file = scene.cluster.scratch("failpoints").join(place);
    let failpoint = format!("{place}:{}", file.display());
    let words = ["worker", "start", "--name", "w0"];
    scene.cluster.start_command_with("w0", &words, &[("MAESTRO_FAILPOINT", &failpoint)]);
    scene.cluster.wait_for_worker("w0");
    let snapshot = text(&scene.snapshot).to_owned();
    let words = ["state", "restore", &snapshot, "--no-safety-copy", "--yes"];
    scene.cluster.start_command("restore", &words);
    scene.cluster.wait_until(place, Duration::from_secs(60), |_| {
        if file.exists() { Ok(()) } else { Err("not reached".to_owned()) }
    });
    scene.cluster.member("w0").kill();
    fs::remove_file(file).expect("it is there");
    scene
}

#[test]
fn with_its_worker_killed_while_it_unpacks_the_cluster_goes_on_as_it_was() {
    let mut scene = kill_worker_at("worker-unpacked");
    assert_eq!(
        scene.cluster.member("restore").wait(Duration::from_secs(60)),
        Ok(77),
        "{}",
        scene.cluster.tails()
    );
    scene.cluster.start_worker("w0");
    scene.cluster.wait_for_worker("w0");
    scene.expect_astray();
    json(&scene.restore(&["--format", "json"]));
    scene.expect_restored();
}

#[test]
fn with_its_worker_killed_while_it_places_its_successor_finishes() {
    let mut scene = kill_worker_at("worker-placing");
    scene.cluster.look_again();
    scene.cluster.start_worker("w0");
    assert_eq!(
        scene.cluster.member("restore").wait(Duration::from_secs(60)),
        Ok(0),
        "{}",
        scene.cluster.tails()
    );
    scene.expect_restored();
}

#[test]
fn killed_after_the_change_a_coordinator_finishes() {
    let mut scene = Scene::set();
    scene.go_astray();
    scene.kill_at("restore-committed");
    let file = scene.folder.join("file");
    scene.cluster.wait_until("a coordinator to finish", Duration::from_secs(120), |_| {
        let found = fs::read_to_string(&file).unwrap_or_default();
        if found == "one" { Ok(()) } else { Err(found) }
    });
    scene.cluster.look_again();
    scene.cluster.wait_until("the cluster to go on", SOON, |observer| {
        let mode = observer.ask(async |store| store.mode().await).map_err(|error| error.to_string())?;
        if mode.word == "run" { Ok(()) } else { Err(mode.word) }
    });
    // What stood in the places of folders goes after that.
    scene.cluster.wait_until("the coordinator to have cleared up", SOON, |observer| {
        let journal = observer.ask(async |store| store.restore_journal().await);
        let stage = journal.map_err(|error| error.to_string())?.map(|journal| journal.stage);
        if stage == Some(RestoreStage::Done) { Ok(()) } else { Err(format!("{stage:?}")) }
    });
    scene.expect_restored();
}
