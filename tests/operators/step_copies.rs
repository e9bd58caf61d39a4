//! Steps that begin in a copy of what another step left, on the same worker and from another one.

use std::time::Duration;

use maestro_model::task::{Reason, TaskStatus};
use maestro_store::runs::RunStatus;

use crate::support::{ClusterSetup, TestCluster};

/// Until a run of a few steps must have ended.
const SOON: Duration = Duration::from_secs(40);
/// Redis may take so much more while a large folder passes through it.
const WINDOW_BYTES: u64 = 48 << 20;

/// Makes a tree with one of everything, and prints what it looks like.
const MAKE: &str = r#"mkdir -p deep/er empty && umask 022
echo text > deep/file && ln deep/file deep/er/same && ln -s ../deep/file link && ln -s /etc/hostname out
printf 'x' > "$(printf 'odd\nname\377')" && : > nothing && echo '#!/bin/sh' > run && chmod 751 run
truncate -s 3M holes && printf end >> holes
touch -d '2001-02-03 04:05:06.789' deep/file empty && chmod 500 empty
"#;
/// Names, kinds, modes, times, further names and contents of all but Maestro's own link.
const LOOK: &str = r#"find . -mindepth 1 ! -path ./agent.log ! -path './deep*' -printf '%P %y %m %l %s\n' | LC_ALL=C sort
find ./deep -printf '%P %y %m %T@ %n\n' | LC_ALL=C sort
find . -type f ! -path ./agent.log -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
"#;

/// Workers `w0` and `w1` with a disk each, and a type that is served by only one of them: `first`, `second`.
fn two_disks() -> TestCluster {
    let mut cluster = TestCluster::start(ClusterSetup { workers: 0, ..ClusterSetup::default() });
    for slug in ["first", "second"] {
        cluster.write_agent(slug, "command: [sh, -e, \"<< prompt >>\"]\nprompt_via: file\n");
    }
    for (name, agents) in [("w0", "first"), ("w1", "second")] {
        start(&mut cluster, name, agents);
        cluster.wait_for_worker(name);
    }
    cluster
}

fn start(cluster: &mut TestCluster, name: &str, agents: &str) {
    let root = cluster.scratch(&format!("disk-{name}"));
    cluster.start_worker_with(name, root.to_str().expect("text"), &["--agents", agents]);
}

/// A workflow in which `copy` works on what `make` left.
fn workflow(make: &str, copy: &str, agent: &str) -> String {
    serde_json::json!({"name": "copies", "steps": [
        {"id": "make", "agent": "first", "prompt": make, "on_success": "copy"},
        {"id": "copy", "agent": agent, "workspace": "make", "prompt": copy},
    ]})
    .to_string()
}

fn result_of(cluster: &TestCluster, run: &maestro_model::ids::RunId, index: usize) -> String {
    let ids = [index as u32];
    let output = cluster.observer().ask(async |store| store.outputs(run, &ids).await).expect("outputs").pop();
    let outputs = output.flatten().and_then(|output| output.outputs).expect("a result");
    outputs.result.as_str().expect("text").to_owned()
}

#[test]
fn a_copy_is_what_was_left_also_from_another_worker() {
    let cluster = two_disks();
    for agent in ["first", "second"] {
        let text = workflow(&format!("{MAKE}{LOOK}"), LOOK, agent);
        let run = cluster.submit_text("copies", &text);
        let record = cluster.wait_for_run(&run, SOON);
        assert_eq!(record.status, RunStatus::Completed, "{:?}", cluster.observer().tasks(&run));
        let (made, copied) = (result_of(&cluster, &run, 0), result_of(&cluster, &run, 1));
        assert!(made.lines().count() > 12, "{made}");
        assert_eq!(copied, made, "by `{agent}`");
    }
}

#[test]
fn what_a_copy_does_to_itself_is_not_seen_in_the_source() {
    let cluster = two_disks();
    let text = serde_json::json!({"name": "copies", "steps": [
        {"id": "make", "agent": "first", "prompt": "echo 1 > file"},
        {"id": "spoil", "agent": "first", "workspace": "make", "depends_on": ["make"], "prompt": "echo 2 > file"},
        {"id": "look", "agent": "second", "workspace": "make", "depends_on": ["spoil"], "prompt": "cat file"},
    ]});
    let run = cluster.submit_text("copies", &text.to_string());
    assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Completed);
    assert_eq!(result_of(&cluster, &run, 2).trim(), "1");
}

#[test]
fn three_hundred_megabytes_pass_through_redis_in_a_window() {
    let cluster = two_disks();
    let make = "for n in 1 2 3; do head -c 100M /dev/urandom > big.$n; done; sha256sum big.*";
    let memory = |name: &str| -> u64 {
        let info: String = redis::cmd("INFO")
            .arg("memory")
            .query(&mut cluster.redis.connection().expect("redis is there"))
            .expect("INFO");
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.expect("a number").trim().parse().expect("a number")
    };
    let before = memory("used_memory");
    let run = cluster.submit_text("copies", &workflow(make, "sha256sum big.*", "second"));
    assert_eq!(cluster.wait_for_run(&run, Duration::from_secs(90)).status, RunStatus::Completed);
    assert_eq!(result_of(&cluster, &run, 1), result_of(&cluster, &run, 0));
    let peak = memory("used_memory_peak");
    assert!(peak < before + WINDOW_BYTES, "redis took {} MiB more", (peak - before) >> 20);
}

#[test]
fn a_run_whose_folder_is_lost_fails_and_says_from_where_to_resume() {
    let mut cluster = two_disks();
    let text = serde_json::json!({"name": "copies", "steps": [
        {"id": "make", "agent": "first", "prompt": "echo 1 > file"},
        {"id": "wait", "agent": "second", "depends_on": ["make"], "prompt": "while ! test -e go; do sleep 0.1; done"},
        {"id": "copy", "agent": "second", "workspace": "make", "depends_on": ["wait"], "prompt": "cat file"},
        {"id": "after", "agent": "second", "depends_on": ["copy"], "prompt": "true"},
    ]});
    let run = cluster.submit_text("copies", &text.to_string());
    cluster.wait_until("the second step runs", SOON, |observer| {
        let tasks = observer.tasks(&run);
        if tasks[1].status == TaskStatus::Running { Ok(()) } else { Err(format!("{tasks:?}")) }
    });
    cluster.member("w0").kill();
    let go = cluster.scratch("disk-w1").join(format!("second/{run}.1/go"));
    cluster.wait_until("its folder", SOON, |_| std::fs::write(&go, "").map_err(|error| error.to_string()));
    let record = cluster.wait_for_run(&run, Duration::from_secs(60));
    assert_eq!((record.status, record.reason.as_str()), (RunStatus::Failed, "lost"));
    let tasks = cluster.observer().tasks(&run);
    let copy = tasks[2].record.as_ref().expect("it was tried");
    assert_eq!((copy.status, copy.reason), (TaskStatus::Failed, Some(Reason::Lost)));
    let status = cluster.maestro(&["task", "status", &format!("{run}.2")]);
    assert!(status.out.contains("--resume-from make"), "{status:?}");
    let status = cluster.maestro(&["workflow", "status", run.as_str()]);
    assert!(status.err.contains("--resume-from make --run"), "{status:?}");
}

#[test]
fn a_worker_that_was_restarted_still_has_what_it_left() {
    let mut cluster = two_disks();
    let text = serde_json::json!({"name": "copies", "steps": [
        {"id": "make", "agent": "first", "prompt": "echo 1 > file"},
        {"id": "wait", "agent": "second", "depends_on": ["make"], "prompt": "while ! test -e go; do sleep 0.1; done"},
        {"id": "copy", "agent": "second", "workspace": "make", "depends_on": ["wait"], "prompt": "cat file"},
    ]});
    let run = cluster.submit_text("copies", &text.to_string());
    cluster.wait_until("the second step runs", SOON, |observer| {
        let tasks = observer.tasks(&run);
        if tasks[1].status == TaskStatus::Running { Ok(()) } else { Err(format!("{tasks:?}")) }
    });
    cluster.member("w0").kill();
    let go = cluster.scratch("disk-w1").join(format!("second/{run}.1/go"));
    cluster.wait_until("its folder", SOON, |_| std::fs::write(&go, "").map_err(|error| error.to_string()));
    start(&mut cluster, "w0", "first");
    assert_eq!(cluster.wait_for_run(&run, Duration::from_secs(60)).status, RunStatus::Completed);
    assert_eq!(result_of(&cluster, &run, 2).trim(), "1");
}
