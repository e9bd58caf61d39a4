//! Processes that are cut off, or stand still, for longer and for shorter than their lease.

use std::time::{Duration, Instant};

use maestro_store::runs::RunStatus;

use crate::graphs::{layers, napping, noting, step, ticking, workflow};
use crate::records::{Note, assert_all_completed, notes, record, wait_until_busy};
use crate::support::{ClusterSetup, TestCluster, processes_with, wait_until};

/// Until another worker has started what a silent one held.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(30);

fn wait_for_second_attempts(cluster: &TestCluster, steps: usize) -> Vec<Note> {
    cluster.wait_until("second attempts", TAKEN_OVER_WITHIN, |_| {
        let notes = notes(cluster);
        let second = notes.iter().filter(|note| note.letter == "S" && note.attempt == 2).count();
        if second == steps {
            Ok(notes)
        } else {
            Err(format!("{} lines, {second} second attempts", notes.len()))
        }
    })
}

#[test]
fn a_worker_that_is_cut_off_ends_its_agents_before_others_start_them() {
    let mut cluster = TestCluster::start(ClusterSetup { workers: 0, ..ClusterSetup::default() });
    let road = cluster.proxy();
    cluster.start_worker_by("w0", &road.url());
    let steps = ["a", "b"].map(|id| step(id, &[], &ticking(60))).to_vec();
    let run = cluster.submit_text("cut-off", &workflow("cut-off", &cluster.witness(), steps));
    wait_until_busy(&cluster, &run, "w0", 2);
    road.freeze();
    cluster.start_worker("w1");

    let notes = wait_for_second_attempts(&cluster, 2);
    for step in ["a", "b"] {
        let taken = notes.iter().position(|note| note.step == step && note.attempt == 2);
        let taken = taken.expect("it was waited for");
        let late = notes[taken..].iter().filter(|note| note.step == step && note.attempt == 1);
        assert_eq!(late.count(), 0, "`{step}`: the first agent went on after the second had started");
    }
    cluster.wait_for_run(&run, Duration::from_secs(20));
    road.heal();
    // It comes back as another incarnation; what it still has to say about its old attempts is refused.
    cluster.wait_for_worker("w0");
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.repeated()), (2, 2));
    let story = cluster.story(&run);
    for step in ["a", "b"] {
        assert_eq!(record(&story, step).attempt.0, 2);
    }
    let again =
        cluster.submit_text("again", &workflow("again", &cluster.witness(), layers(8, 1, &napping(0.3))));
    assert_eq!(cluster.wait_for_run(&again, Duration::from_secs(20)).status, RunStatus::Completed);
    // Its processes end while the road is still there.
    drop(cluster);
}

#[test]
fn a_worker_that_stood_still_says_nothing_for_its_old_attempts() {
    let mut cluster = TestCluster::start(ClusterSetup::default());
    let steps = ["a", "b"].map(|id| step(id, &[], &ticking(4))).to_vec();
    let run = cluster.submit_text("still", &workflow("still", &cluster.witness(), steps));
    wait_until_busy(&cluster, &run, "w0", 2);
    cluster.member("w0").pause();
    let paused_at = Instant::now();
    cluster.start_worker("w1");
    wait_for_second_attempts(&cluster, 2);
    cluster.wait_for_run(&run, Duration::from_secs(20));
    cluster.wait_until("twice the lease to pass", ClusterSetup::LEASE * 3, |_| {
        let passed = paused_at.elapsed();
        if passed >= ClusterSetup::LEASE * 2 { Ok(()) } else { Err(format!("{passed:?}")) }
    });
    cluster.member("w0").resume();
    cluster.wait_for_worker("w0");
    // Its agents are ended, or end by themselves, unheard.
    let silent = Duration::from_secs(10);
    let mut last = (0, Instant::now());
    cluster.wait_until("the old agents to fall silent", silent, |_| {
        let lines = notes(&cluster).len();
        if lines != last.0 {
            last = (lines, Instant::now());
        }
        if last.1.elapsed() > Duration::from_secs(1) { Ok(()) } else { Err(format!("{lines} lines")) }
    });
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.repeated()), (2, 2));
    let story = cluster.story(&run);
    for step in ["a", "b"] {
        assert_eq!(record(&story, step).attempt.0, 2);
    }
}

#[test]
fn a_result_that_comes_too_late_is_not_taken() {
    let mut cluster = TestCluster::start(ClusterSetup::default());
    let prompt = format!(
        "{}\nif [ \"$MAESTRO_ATTEMPT\" = 1 ]; then sleep 2; fi\n\
         echo \"by=$MAESTRO_ATTEMPT\" > \"$MAESTRO_OUTPUT_FILE\"\n{}",
        noting("S"),
        noting("E")
    );
    let text = workflow("late", &cluster.witness(), vec![step("a", &[], &prompt)]);
    let run = cluster.submit_text("late", &text);
    cluster.wait_until("the first agent", Duration::from_secs(20), |_| match notes(&cluster).len() {
        0 => Err("it has not begun".to_owned()),
        _ => Ok(()),
    });
    cluster.member("w0").pause_alone();
    cluster.start_worker("w1");
    let end = cluster.wait_for_run(&run, TAKEN_OVER_WITHIN);
    assert_eq!(end.status, RunStatus::Completed);
    let first_is_done = notes(&cluster).iter().any(|note| note.letter == "E" && note.attempt == 1);
    assert!(first_is_done, "the first agent had its result before its worker woke up");
    cluster.member("w0").resume();
    let again = cluster.wait_for_worker("w0");
    // It has said all that it has to say once it serves again.
    let text = workflow("next", &cluster.witness(), layers(8, 1, &napping(0.2)));
    let next = cluster.submit_text("next", &text);
    assert_eq!(cluster.wait_for_run(&next, Duration::from_secs(20)).status, RunStatus::Completed);
    let story = cluster.story(&run);
    assert_eq!(record(&story, "a").attempt.0, 2);
    assert_ne!(record(&story, "a").owner, Some(again.incarnation));
    let outputs = story.outputs[0].as_ref().and_then(|output| output.outputs.as_ref()).expect("it completed");
    assert_eq!(outputs.outputs["by"], "2");
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.repeated()), (1, 1));
}

#[test]
fn a_short_silence_of_redis_loses_nothing() {
    let mut cluster = TestCluster::start(ClusterSetup { workers: 2, ..ClusterSetup::default() });
    let text = workflow("layers", &cluster.witness(), layers(6, 6, &napping(0.4)));
    let run = cluster.submit_text("layers", &text);
    wait_until_busy(&cluster, &run, "w0", 1);
    cluster.redis.pause();
    // Shorter than the time after which a worker must fear for its lease.
    std::thread::sleep(Duration::from_millis(1800));
    cluster.redis.resume();
    let end = cluster.wait_for_run(&run, Duration::from_secs(40));
    assert_eq!(end.status, RunStatus::Completed);
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.repeated()), (0, 0));
}

#[test]
fn a_long_silence_of_redis_ends_agents_and_costs_nobody_an_attempt() {
    let mut cluster = TestCluster::start(ClusterSetup { workers: 2, ..ClusterSetup::default() });
    let steps = ["a", "b", "c", "d"].map(|id| step(id, &[], &ticking(60))).to_vec();
    let run = cluster.submit_text("silence", &workflow("silence", &cluster.witness(), steps));
    cluster.wait_until("four agents", Duration::from_secs(20), |_| {
        let begun = notes(&cluster).iter().filter(|note| note.letter == "S").count();
        if begun == 4 { Ok(()) } else { Err(format!("{begun}")) }
    });
    cluster.redis.pause();
    let paused_at = Instant::now();
    let agents = cluster.root().join("probe");
    // Whether anybody still answers beats cannot be known: the agents end in time for a lease that runs out.
    let within = ClusterSetup::LEASE;
    let gone = wait_until("the agents to go", within, || {
        let left = processes_with(&agents);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    gone.unwrap_or_else(|error| panic!("{error}\n{}", cluster.tails()));
    wait_until("more than a lease to pass", ClusterSetup::LEASE * 2, || {
        let passed = paused_at.elapsed();
        if passed > ClusterSetup::LEASE + Duration::from_secs(1) {
            Ok(())
        } else {
            Err(format!("{passed:?}"))
        }
    })
    .expect("time passes");
    cluster.redis.resume();
    let end = cluster.wait_for_run(&run, Duration::from_secs(30));
    assert_eq!(end.status, RunStatus::Completed);
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.returned, report.repeated()), (0, 4, 4));
    let story = cluster.story(&run);
    for step in ["a", "b", "c", "d"] {
        let record = record(&story, step);
        assert_eq!((record.failures, record.losses), (0, 0), "{step}");
    }
}
