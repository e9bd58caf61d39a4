//! A Redis that comes back with less than it had acknowledged: a second older, or empty.

use std::fs;
use std::path::Path;
use std::time::Duration;

use maestro_model::ids::RunId;
use maestro_model::task::TaskStatus;
use maestro_store::runs::RunStatus;

use crate::graphs::{layers, napping, noting, step, workflow};
use crate::records::{assert_all_completed, assert_layers_in_order, notes, wait_until_busy};
use crate::support::{ClusterSetup, TestCluster};

/// Until Redis, its workers and all claims are where they were before.
const AGAIN_WITHIN: Duration = Duration::from_secs(60);

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

fn completed(cluster: &TestCluster, run: &RunId) -> usize {
    let tasks = cluster.observer().tasks(run);
    tasks.iter().filter(|task| task.status == TaskStatus::Completed).count()
}

/// Until so many tasks are recorded as done; how many are.
fn wait_until_completed(cluster: &TestCluster, run: &RunId, count: usize) -> usize {
    cluster.wait_until(&format!("{count} completed tasks"), AGAIN_WITHIN, |_| {
        let now = completed(cluster, run);
        if now >= count { Ok(now) } else { Err(format!("{now}")) }
    })
}

/// A busy disk would hold Redis up for seconds, which is another fault than this one: what it has written is
/// copied from memory.
fn spare_the_disk(cluster: &TestCluster) {
    let mut connection = cluster.redis.connection().expect("redis is there");
    let command = redis::cmd("CONFIG").arg("SET").arg("appendfsync").arg("no").to_owned();
    command.exec(&mut connection).expect("configured");
}

/// Kills Redis, puts an older state of its file back, and starts it again.
fn go_back(cluster: &mut TestCluster, copy: &Path) {
    let data = cluster.redis.data_folder();
    cluster.redis.kill();
    fs::remove_dir_all(&data).expect("redis keeps its file there");
    copy_folder(copy, &data);
    cluster.redis.restart();
    spare_the_disk(cluster);
}

/// How many claims and outcomes all workers say that Redis had forgotten.
fn forgotten(cluster: &mut TestCluster, workers: &[&str]) -> (u32, u32) {
    let mut sum = (0, 0);
    for name in workers {
        let log = cluster.member(name).log();
        for line in log.lines().filter(|line| line.contains("redis had forgotten")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let before = |word: &str| {
                let place = words.iter().position(|known| *known == word).expect("the words of the message");
                words[place - 1].parse::<u32>().expect("a number")
            };
            sum = (sum.0 + before("claims"), sum.1 + before("outcomes"));
        }
    }
    sum
}

fn assert_each_started_once(cluster: &TestCluster) {
    let notes = notes(cluster);
    let mut started: Vec<&String> =
        notes.iter().filter(|note| note.letter == "S").map(|note| &note.step).collect();
    let count = started.len();
    started.sort();
    started.dedup();
    assert_eq!(started.len(), count, "nothing that ran is started again");
}

#[test]
fn what_redis_forgot_its_workers_know() {
    let setup = ClusterSetup { durable: true, coordinators: 2, workers: 2, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    spare_the_disk(&cluster);
    let mut steps = layers(6, 10, &napping(0.4));
    for step in &mut steps {
        let id = step["id"].as_str().expect("a step has an id").to_owned();
        step["publish"] = serde_json::json!({id: "<< result >>"});
    }
    let run = cluster.submit_text("layers", &workflow("layers", &cluster.witness(), steps));
    let before = wait_until_completed(&cluster, &run, 8);
    let copy = cluster.scratch("copy");
    copy_folder(&cluster.redis.data_folder(), &copy);
    let after = wait_until_completed(&cluster, &run, before + 9);
    wait_until_busy(&cluster, &run, "w0", 1);
    go_back(&mut cluster, &copy);

    let end = cluster.wait_for_run(&run, AGAIN_WITHIN);
    assert_eq!(end.status, RunStatus::Completed);
    let (claims, outcomes) = forgotten(&mut cluster, &["w0", "w1"]);
    // The copy takes its time, and tasks go on ending meanwhile.
    assert!(outcomes > 0, "of {before}..{after} no outcome was forgotten");
    // How many of those that run now were claimed since the copy is a matter of moments.
    assert!(claims > 0, "no claim was forgotten");
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.repeated()), (0, 0));
    assert_each_started_once(&cluster);
    assert_layers_in_order(&notes(&cluster), 6);
    let answer = cluster.maestro(&["state", "list", "--format", "json"]);
    let written = answer.out.matches("\"l").count();
    assert!(written >= 60, "all that was published is there: {answer:?}");
}

#[test]
fn a_redis_that_goes_back_again_and_again_repeats_nothing() {
    let setup = ClusterSetup { durable: true, coordinators: 1, workers: 2, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    spare_the_disk(&cluster);
    let text = workflow("layers", &cluster.witness(), layers(5, 12, &napping(0.25)));
    let run = cluster.submit_text("layers", &text);
    for round in 0..3 {
        let before = wait_until_completed(&cluster, &run, 5 + round * 14);
        let copy = cluster.scratch(&format!("copy{round}"));
        copy_folder(&cluster.redis.data_folder(), &copy);
        wait_until_completed(&cluster, &run, (before + 6).min(60));
        go_back(&mut cluster, &copy);
    }
    assert_eq!(cluster.wait_for_run(&run, AGAIN_WITHIN).status, RunStatus::Completed);
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.repeated()), (0, 0));
    assert_each_started_once(&cluster);
}

#[test]
fn the_successor_of_a_worker_reports_what_redis_did_not_hear() {
    let setup = ClusterSetup { durable: true, coordinators: 1, workers: 1, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    let steps = vec![step("only", &[], &napping(1.0)), step("next", &["only".to_owned()], &noting("S"))];
    let run = cluster.submit_text("two", &workflow("two", &cluster.witness(), steps));
    wait_until_busy(&cluster, &run, "w0", 1);
    cluster.redis.kill();
    cluster.wait_until("the agent to end", AGAIN_WITHIN, |_| {
        let ended = notes(&cluster).iter().any(|note| note.letter == "E");
        if ended { Ok(()) } else { Err("it runs".to_owned()) }
    });
    let journal = cluster.root().join(".worker-w0.journal");
    cluster.wait_until("the outcome to be written", AGAIN_WITHIN, |_| {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        if text.lines().count() > 1 { Ok(()) } else { Err(text) }
    });
    cluster.member("w0").kill();
    cluster.redis.restart();
    cluster.start_worker("w0");
    assert_eq!(cluster.wait_for_run(&run, AGAIN_WITHIN).status, RunStatus::Completed);
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.repeated()), (0, 0), "its predecessor had done it");
    assert_each_started_once(&cluster);
}

#[test]
fn a_redis_that_comes_back_empty_is_said_to_be_and_served() {
    let setup = ClusterSetup { coordinators: 1, workers: 2, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    let text = workflow("layers", &cluster.witness(), layers(8, 2, &napping(20.0)));
    let run = cluster.submit_text("layers", &text);
    wait_until_busy(&cluster, &run, "w0", 1);
    cluster.redis.kill();
    cluster.redis.restart();

    let words = "redis has lost its data";
    cluster.wait_until("everybody to say so", AGAIN_WITHIN, |_| {
        let tails = cluster.tails();
        if tails.matches(words).count() >= 3 { Ok(()) } else { Err(tails) }
    });
    for name in ["w0", "w1"] {
        cluster.wait_for_worker(name);
    }
    let ended = notes(&cluster).iter().filter(|note| note.letter == "E").count();
    assert_eq!(ended, 0, "agents of a cluster that is gone are ended");
    let next = workflow("next", &cluster.witness(), vec![step("one", &[], &noting("N"))]);
    let next = cluster.submit_text("next", &next);
    assert_eq!(cluster.wait_for_run(&next, AGAIN_WITHIN).status, RunStatus::Completed);
}
