//! A replica takes the place of Redis while work is under way, with sentinels and in a Redis Cluster.

use std::time::{Duration, Instant};

use maestro_model::task::TaskStatus;
use maestro_store::runs::RunStatus;

use crate::graphs::{layers, napping, workflow};
use crate::records::{assert_all_completed, assert_layers_in_order, notes, wait_until_busy};
use crate::support::{ClusterSetup, RedisGroup, TestCluster, wait_until};

const LONG: Duration = Duration::from_secs(60);
/// The key by which the cell is found: the first generation, the first cell.
const CELL: &str = "trial:{1.0}:ctl";

fn setup(address: String) -> ClusterSetup {
    ClusterSetup { workers: 2, coordinators: 1, address: Some(address), ..ClusterSetup::default() }
}

fn completed(cluster: &TestCluster, run: &maestro_model::ids::RunId) -> usize {
    cluster.observer().tasks(run).iter().filter(|task| task.status == TaskStatus::Completed).count()
}

#[test]
fn a_failover_by_sentinels_repeats_nothing_of_what_the_replica_had_not_heard() {
    let mut group = RedisGroup::with_sentinels();
    let cluster = TestCluster::start(setup(group.sentinel_url()));
    let text = workflow("layers", &cluster.witness(), layers(6, 10, &napping(0.4)));
    let run = cluster.submit_text("layers", &text);
    wait_until_busy(&cluster, &run, "w0", 1);
    // From here on the replica hears nothing: what is acknowledged now will be forgotten.
    group.raw("b", &["CONFIG", "SET", "masterauth", "wrong"]);
    group.raw("b", &["CLIENT", "KILL", "TYPE", "master"]);
    let before = completed(&cluster, &run);
    cluster.wait_until("more to be done", LONG, |_| {
        let now = completed(&cluster, &run);
        if now >= before + 8 { Ok(()) } else { Err(format!("{now}")) }
    });
    let killed_at = Instant::now();
    group.member("a").kill();

    let end = cluster.wait_for_run(&run, LONG);
    assert_eq!(end.status, RunStatus::Completed, "{}", group.tails());
    assert!(killed_at.elapsed() < LONG);
    assert_eq!(group.info("b", "role"), "master");
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.repeated()), (0, 0));
    assert_layers_in_order(&notes(&cluster), 6);
    let started = notes(&cluster).iter().filter(|note| note.letter == "S").count();
    assert_eq!(started, 60, "nothing that ran is started again");
    assert!(cluster.has_said("redis had forgotten"), "{}", cluster.tails());
    // The old master comes back as a replica; whoever asks the sentinels still finds the right one.
    let answer = cluster.maestro(&["doctor", "--format", "json"]);
    assert!(answer.out.contains("redis-sentinel://"), "{answer:?}");
    // Its processes end while the servers are still there.
    drop(cluster);
}

#[test]
fn sentinels_that_are_away_or_know_no_such_master_are_said_to() {
    let mut group = RedisGroup::with_sentinels();
    let cluster = TestCluster::start(ClusterSetup { workers: 0, coordinators: 0, ..ClusterSetup::default() });
    let url = group.sentinel_url();
    let ask = |url: &str| cluster.maestro(&["workflow", "runs", "--redis-url", url]);
    assert_eq!(ask(&url).code, 0);
    let other = ask(&url.replace("/the-master", "/another"));
    assert_eq!(other.code, 69, "{other:?}");
    assert!(other.err.contains("no sentinel knows a master named `another`"), "{other:?}");
    // One sentinel that answers is enough.
    group.member("s0").kill();
    group.member("s1").kill();
    assert_eq!(ask(&url).code, 0);
    group.member("s2").kill();
    let nobody = ask(&url);
    assert_eq!(nobody.code, 69, "{nobody:?}");
    assert!(nobody.err.contains("no sentinel answers") && !nobody.err.contains("sesame"), "{nobody:?}");
    let wrong = ask("redis-sentinel://localhost");
    assert_eq!(wrong.code, 2, "{wrong:?}");
}

#[test]
fn a_run_goes_through_a_redis_cluster_and_follows_its_keys_to_another_node() {
    let group = RedisGroup::cluster(CELL);
    let owner = group.owner_of(CELL);
    let other = ["a", "b", "c"].into_iter().find(|name| *name != owner).expect("there are three");
    assert_ne!(group.owner_of("trial:ctl"), owner, "the pointer lies elsewhere: both ways are tried");
    let mut cluster = TestCluster::start(setup(group.cluster_url(other)));
    let text = workflow("layers", &cluster.witness(), layers(6, 8, &napping(0.3)));
    let run = cluster.submit_text("layers", &text);
    wait_until_busy(&cluster, &run, "w0", 1);
    // The replica takes over from its master, which hands its clients on.
    group.raw("d", &["CLUSTER", "FAILOVER"]);
    wait_until("the replica to serve", LONG, || match group.owner_of(CELL).as_str() {
        "d" => Ok(()),
        other => Err(other.to_owned()),
    })
    .expect("a failover that was asked for");

    let end = cluster.wait_for_run(&run, LONG);
    assert_eq!(end.status, RunStatus::Completed, "{}", group.tails());
    let report = assert_all_completed(&cluster, &run);
    assert_eq!((report.lost, report.repeated()), (0, 0));
    let started = notes(&cluster).iter().filter(|note| note.letter == "S").count();
    assert_eq!(started, 48, "nothing that ran is started again");
    let logs = cluster.maestro(&["workflow", "logs", run.as_str()]);
    assert_eq!(logs.code, 0, "{logs:?}");
    // A follower has a connection of its own.
    let file =
        cluster.write_workflow("two", &workflow("two", &cluster.witness(), layers(2, 2, &napping(0.1))));
    cluster.start_command("follower", &["workflow", "run", file.to_str().expect("a plain path")]);
    assert_eq!(cluster.member("follower").wait(LONG), Ok(0), "{}", cluster.tails());
    drop(cluster);
}
