//! What a worker does when its host fails it, and when runs depend on a folder that it has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use maestro_model::task::TaskStatus;
use maestro_store::runs::RunStatus;

use crate::support::{ClusterSetup, TestCluster};

/// Until something that is only waited for must have happened.
const SOON: Duration = Duration::from_secs(20);

fn tool(path: &Path) {
    fs::write(path, "#!/bin/sh\necho done\n").expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("ours");
}

#[test]
fn a_worker_that_drains_finishes_runs_whose_folder_it_has() {
    let env = vec![("MAESTRO_DRAIN_DEADLINE", "30s".to_owned())];
    let mut cluster = TestCluster::start(ClusterSetup { env, ..ClusterSetup::default() });
    let text = "name: bound\ndefaults: {workspace: run}\nsteps:\n\
                \x20 - {id: a, agent: probe, prompt: 'sleep 2; echo kept > file'}\n\
                \x20 - {id: b, agent: probe, depends_on: [a], prompt: 'cat file; echo more >> file'}\n\
                \x20 - {id: c, agent: probe, depends_on: [b], prompt: 'test $(wc -l < file) = 2'}\n";
    let run = cluster.submit_text("bound", text);
    cluster.wait_until("the first step runs", SOON, |observer| {
        let status = observer.tasks(&run)[0].status;
        if status == TaskStatus::Running { Ok(()) } else { Err(format!("{status:?}")) }
    });
    cluster.member("w0").terminate();
    cluster.start_worker("w1");
    cluster.wait_for_worker("w1");
    assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Completed);
    let records: Vec<_> = cluster.observer().tasks(&run).into_iter().filter_map(|task| task.record).collect();
    let owners: Vec<_> = records.iter().map(|record| record.owner.clone()).collect();
    assert!(owners.iter().all(|owner| *owner == owners[0]), "{owners:?}");
    assert!(records.iter().all(|record| record.attempt.0 == 1), "{records:?}");
    // It ends long before the deadline: nothing is bound to it any more.
    assert_eq!(cluster.member("w0").wait(Duration::from_secs(10)), Ok(0));
}

#[test]
fn a_worker_whose_binary_vanished_says_so_and_goes_on_once_it_is_back() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let binary = cluster.scratch("bin").join("tool");
    tool(&binary);
    cluster.write_agent("tool", &format!("command: [{}]\n", binary.display()));
    let text = "name: one\nsteps:\n  - {id: a, agent: tool, prompt: x}\n";
    let run = cluster.submit_text("one", text);
    assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Completed);

    fs::remove_file(&binary).expect("ours");
    let run = cluster.submit_text("one", text);
    let trouble = cluster.wait_until("the worker says what is wrong", SOON, |observer| {
        let alive = observer.alive();
        let worker = alive.iter().find(|process| process.name == "w0").ok_or("no worker")?;
        worker.status.trouble.clone().ok_or_else(|| format!("{:?}", worker.status))
    });
    assert!(trouble.starts_with("agent type `tool`: binary not found: "), "{trouble}");
    let record = cluster.observer().tasks(&run)[0].record.clone().expect("it was tried");
    assert_eq!((record.failures, record.losses, record.host_failures), (0, 0, 1), "{record:?}");
    assert_eq!(record.status, TaskStatus::Queued);
    // Other work goes on meanwhile.
    let other = cluster.submit_text("two", "name: two\nsteps:\n  - {id: a, agent: probe, prompt: 'true'}\n");
    assert_eq!(cluster.wait_for_run(&other, SOON).status, RunStatus::Completed);

    tool(&binary);
    assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Completed);
    cluster.wait_until("the trouble is over", SOON, |observer| {
        let troubles: Vec<_> =
            observer.alive().into_iter().filter_map(|process| process.status.trouble).collect();
        if troubles.is_empty() { Ok(()) } else { Err(format!("{troubles:?}")) }
    });
}
