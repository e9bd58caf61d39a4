//! Fail-safe mode: after a task that failed its folder is as it was before.

use std::fs;

use maestro_store::runs::RunStatus;

use crate::restoring::scene::{SOON, json, text};
use crate::support::{ClusterSetup, TestCluster};

fn start() -> TestCluster {
    let env = vec![("MAESTRO_FAILSAFE_MODE", "true".to_owned())];
    TestCluster::start(ClusterSetup { env, ..ClusterSetup::default() })
}

#[test]
fn the_folder_of_an_agent_whose_task_failed_goes_back() {
    let cluster = start();
    let folder = cluster.scratch("smith");
    let words =
        ["agent", "assign", "probe", "--to-workspace", text(&folder), "--name", "smith", "--worker", "w0"];
    json(&cluster.maestro(&words));
    fs::write(folder.join("file"), "good").expect("ours");
    let work = |script: &str| cluster.maestro(&["task", "dispatch", script, "--to", "smith", "--sync"]).code;
    assert_eq!(work("echo bad > file; touch more; exit 3"), 3);
    assert_eq!(fs::read_to_string(folder.join("file")).expect("there"), "good", "{}", cluster.tails());
    assert!(!folder.join("more").exists());
    assert_eq!(work("test -e more && exit 9; printf better > file"), 0, "the next one works in it as before");
    assert_eq!(fs::read_to_string(folder.join("file")).expect("there"), "better");
    let beside = fs::read_dir(folder.parent().expect("it has one")).expect("there").flatten();
    let left: Vec<_> = beside.map(|entry| entry.file_name()).filter(|name| name != "smith").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn each_try_of_a_step_begins_in_the_runs_folder_as_it_was() {
    let cluster = start();
    // The second try fails unless it finds what the first did; only then the handler would not run.
    let text = "name: retried\ndefaults: {workspace: run}\nsteps:\n  \
                - {id: first, agent: probe, prompt: \"echo good > file\"}\n  \
                - id: second\n    agent: probe\n    depends_on: first\n    prompt: \"test \\\"$(cat file)\\\" = bad && exit 0; echo bad > file; exit 1\"\n    \
                retry: {max_attempts: 2, delay: 100ms, jitter: false}\n    on_failure: third\n  \
                - {id: third, agent: probe, prompt: \"test \\\"$(cat file)\\\" = good\"}\n";
    let run = cluster.submit_text("retried", text);
    let record = cluster.wait_for_run(&run, SOON);
    assert_eq!(record.status, RunStatus::Completed, "{record:?}\n{}", cluster.tails());
    let second = json(&cluster.maestro(&["task", "status", &format!("{run}/second")]));
    assert_eq!((&second["status"], &second["attempt"]), (&"failed".into(), &2.into()), "{second}");
}

#[test]
fn a_mode_that_restores_clusters_is_refused_by_whoever_would_rely_on_it() {
    let cluster = TestCluster::start(ClusterSetup { workers: 0, coordinators: 0, ..ClusterSetup::default() });
    for words in [&["worker", "start"][..], &["coordinator", "start"], &["up"]] {
        let refused = cluster.maestro_with(&[("MAESTRO_FAILSAFE_MODE", "cluster")], words);
        assert_eq!(refused.code, 2, "{words:?}: {refused:?}");
        assert!(refused.err.contains("state rollback latest"), "{refused:?}");
    }
}
