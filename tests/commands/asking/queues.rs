//! `maestro queue status` and `maestro worker list`.

use maestro_store::worker::ProcessRole;

use super::cluster::{Cluster, LEASE, failed, picture};
use crate::support::PlanSketch;

/// Two runs: one that has ended, one with a task in each kind of state.
fn busy() -> Cluster {
    let cluster = Cluster::new();
    let worker = cluster.worker("alpha", &["noop"], 4);
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::chain(2));
    cluster.work(&worker, failed(1), "");
    let mut sketch = PlanSketch::new(4).needs(3, &[0]);
    sketch.agent = "shell".to_owned();
    cluster.submit_sketch("0bbbbbbbbbb1", sketch);
    let shell = cluster.worker("beta", &["noop", "shell"], 2);
    cluster.claim(&shell, 1);
    cluster
}

#[test]
fn tasks_are_counted_by_agent_type() {
    let cluster = busy();
    insta::assert_snapshot!(picture(&cluster.ask_table(&["queue", "status"])), @r"
    exit 0
    --- stdout
    AGENT   WAITING   BLOCKED   QUEUED   PARKED   PROCESSING   COMPLETED   FAILED   WORKERS
    noop          0         0        0        0            0           2        1         2
    shell         3         1        2        0            1           0        0         1
    ");
    let rows = cluster.ask_json(&["queue", "status", "--agent", "shell"]);
    assert_eq!(rows.as_array().map(Vec::len), Some(1));
    let row = &rows[0];
    let number = |name: &str| row[name].as_u64().expect("a number");
    assert_eq!((number("waiting"), number("blocked"), number("queued")), (3, 1, 2));
    assert_eq!((number("processing"), number("completed"), number("workers")), (1, 0, 1));
    let unknown = cluster.ask(&["queue", "status", "--agent", "shelf"]);
    assert_eq!(unknown.code, 66, "{}", unknown.err);
    assert!(unknown.err.contains("there is no agent and no agent type `shelf`"), "{}", unknown.err);
}

#[test]
fn tasks_of_a_kind_are_listed() {
    let cluster = busy();
    let names = |words: &[&str]| cluster.ask(&[&["queue", "status", "--format", "name"], words].concat()).out;
    assert_eq!(names(&["--waiting"]), "0bbbbbbbbbb1.1\n0bbbbbbbbbb1.2\n0bbbbbbbbbb1.3\n");
    assert_eq!(names(&["--processing"]), "0bbbbbbbbbb1.0\n");
    assert_eq!(names(&["--completed"]), "0aaaaaaaaaa1.0\n0aaaaaaaaaa1.1\n");
    assert_eq!(names(&["--completed", "--agent", "shell"]), "");
    assert_eq!(names(&["--task", "last/step3"]), "0bbbbbbbbbb1.3\n");
}

#[test]
fn a_pause_is_said() {
    let cluster = busy();
    cluster.wait(cluster.store.pause("deploy freeze", "ada@host1")).expect("paused");
    let answer = cluster.ask(&["queue", "status"]);
    assert_eq!(answer.code, 0, "{}", answer.picture());
    let said = answer.err.as_str();
    assert!(said.starts_with("warning: the cluster is paused by ada@host1 since "), "{said}");
    assert!(
        said.ends_with("(deploy freeze): nothing new is started (`maestro queue resume` lets it go on)\n"),
        "{said}"
    );
}

#[test]
fn workers_and_coordinators_are_listed_with_the_one_that_leads() {
    let cluster = busy();
    let leader = cluster.process("coord-1", &[], 0, ProcessRole::Coordinator);
    cluster.process("coord-2", &[], 0, ProcessRole::Coordinator);
    cluster.wait(cluster.store.lead(&leader.incarnation, LEASE)).expect("leads");
    insta::assert_snapshot!(picture(&cluster.ask_table(&["worker", "list"])), @r"
    exit 0
    --- stdout
    NAME      ROLE                  STATUS   SLOTS   MEMORY   CPU   AGENTS       HOST         UP   HEARTBEAT   CONFINED   VERSION
    alpha     worker                up         0/4   –        –     noop         host1 (42)   [TOOK]   [TOOK] ago      no         [VERSION]
    beta      worker                up         1/2   –        –     noop,shell   host1 (42)   [TOOK]   [TOOK] ago      no         [VERSION]
    coord-1   coordinator (leads)   up       –       –        –     –            host1 (42)   [TOOK]   [TOOK] ago      –          [VERSION]
    coord-2   coordinator           up       –       –        –     –            host1 (42)   [TOOK]   [TOOK] ago      –          [VERSION]
    ");
    let list = cluster.ask_json(&["worker", "list"]);
    assert_eq!((list[1]["name"].as_str(), list[1]["slots_used"].as_u64()), (Some("beta"), Some(1)));
    assert_eq!((list[2]["role"].as_str(), list[2]["leads"].as_bool()), (Some("coordinator"), Some(true)));
}

#[test]
fn a_worker_that_went_silent_is_lost() {
    let cluster = Cluster::new();
    let worker = cluster.worker("alpha", &["noop"], 4);
    let leases = cluster.store.keys().leases();
    let _: u32 = redis::cmd("ZADD")
        .arg(leases)
        .arg(0)
        .arg(worker.incarnation.as_str())
        .query(&mut cluster.redis.raw())
        .expect("set");
    assert_eq!(cluster.ask_json(&["worker", "list"])[0]["status"], "lost");
    assert_eq!(cluster.ask_json(&["task", "list"]), serde_json::json!([]));
}
