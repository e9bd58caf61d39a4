//! Replies that are lost, connections that are cut, a Redis that dies and comes back, scripts that are gone.

use std::time::{Duration, Instant};

use maestro_store::runs::RunStatus;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::graphs::{layers, napping, workflow};
use crate::records::{assert_all_completed, assert_layers_in_order, notes, wait_until_busy};
use crate::support::{ClusterSetup, TestCluster};

#[test]
fn lost_replies_and_cut_connections_repeat_nothing() {
    let seed = std::env::var("MAESTRO_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    let mut dice = StdRng::seed_from_u64(seed);
    let setup = ClusterSetup { coordinators: 0, workers: 0, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    let roads = [cluster.proxy(), cluster.proxy(), cluster.proxy()];
    cluster.start_coordinator_by("c0", &roads[0].url());
    cluster.start_worker_by("w0", &roads[1].url());
    cluster.start_worker_by("w1", &roads[2].url());
    cluster.wait_for_worker("w0");
    cluster.wait_for_worker("w1");
    let text = workflow("layers", &cluster.witness(), layers(8, 14, &napping(0.15)));
    let run = cluster.submit_text("layers", &text);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !cluster.observer().run(&run).status.is_final() && Instant::now() < deadline {
        let road = &roads[dice.random_range(0..3usize)];
        match dice.random_range(0..6) {
            0 => road.reset(),
            1 => road.delay(Duration::from_millis(dice.random_range(1..60))),
            2 => road.heal(),
            _ => road.lose_replies(dice.random_range(1..4)),
        }
        let pause = Duration::from_millis(dice.random_range(10..120));
        // The moment is the random part of this test; the deadline is above.
        std::thread::sleep(pause);
    }
    let end = cluster.wait_for_run(&run, Duration::from_secs(30));
    assert_eq!(end.status, RunStatus::Completed, "MAESTRO_SEED={seed}");
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.repeated()), (0, 0), "MAESTRO_SEED={seed}");
    assert_layers_in_order(&notes(&cluster), 8);
    let lost: u32 = roads.iter().map(|road| road.lost()).sum();
    assert!(lost >= 3, "MAESTRO_SEED={seed}: only {lost} replies were lost");
    for road in &roads {
        road.lose_replies(0);
        road.heal();
    }
    // Its processes end while the roads are still there.
    drop(cluster);
}

#[test]
fn a_redis_that_dies_and_comes_back_repeats_nothing() {
    let setup = ClusterSetup { durable: true, coordinators: 2, workers: 2, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    let text = workflow("layers", &cluster.witness(), layers(6, 10, &napping(0.5)));
    let run = cluster.submit_text("layers", &text);
    // The second time longer than a worker may be cut off: while Redis is down nobody can take anything over.
    for gone in [Duration::from_millis(700), Duration::from_secs(5)] {
        wait_until_busy(&cluster, &run, "w0", 1);
        cluster.redis.kill();
        // Time itself is the fault here.
        std::thread::sleep(gone);
        cluster.redis.restart();
    }
    let end = cluster.wait_for_run(&run, Duration::from_secs(60));
    assert_eq!(end.status, RunStatus::Completed);
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.repeated()), (0, 0));
    assert_layers_in_order(&notes(&cluster), 6);
}

#[test]
fn scripts_that_are_flushed_are_loaded_again() {
    let cluster = TestCluster::start(ClusterSetup { workers: 2, ..ClusterSetup::default() });
    let text = workflow("layers", &cluster.witness(), layers(8, 10, &napping(0.05)));
    let run = cluster.submit_text("layers", &text);
    let mut connection = cluster.redis.connection().expect("redis is there");
    let mut flushes = 0;
    cluster.wait_until("the end of the run", Duration::from_secs(60), |observer| {
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection).map_err(|error| error.to_string())?;
        flushes += 1;
        let record = observer.run(&run);
        if record.status.is_final() { Ok(()) } else { Err(format!("{record:?}")) }
    });
    assert!(flushes > 10, "{flushes} flushes");
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.repeated()), (0, 0));
    assert_layers_in_order(&notes(&cluster), 8);
}

#[test]
fn a_full_redis_refuses_new_runs_and_finishes_those_it_has() {
    let cluster = TestCluster::start(ClusterSetup { workers: 2, ..ClusterSetup::default() });
    let text = workflow("layers", &cluster.witness(), layers(6, 4, &napping(0.3)));
    let run = cluster.submit_text("layers", &text);
    wait_until_busy(&cluster, &run, "w0", 1);
    let mut connection = cluster.redis.connection().expect("redis is there");
    let mut limit = |bytes: &str| {
        redis::cmd("CONFIG").arg(&["SET", "maxmemory", bytes]).exec(&mut connection).expect("redis is there");
    };
    limit("1mb");
    let path = cluster.write_workflow("more", &text);
    let words = ["workflow", "run", path.to_str().expect("a plain path"), "--detach"];
    let refused = cluster.maestro(&words);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.err.contains("memory"), "{refused:?}");
    assert_eq!(cluster.wait_for_run(&run, Duration::from_secs(30)).status, RunStatus::Completed);
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.repeated()), (0, 0));
    limit("0");
    let accepted = cluster.submit_text("more", &text);
    assert_eq!(cluster.wait_for_run(&accepted, Duration::from_secs(30)).status, RunStatus::Completed);
}
