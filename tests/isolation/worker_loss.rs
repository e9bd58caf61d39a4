//! A worker that is killed while its containers run.

use maestro_store::runs::RunStatus;

use crate::support::ClusterSetup;
use crate::support::engine::TestEngine;
use crate::{
    CONTAINERS_WITHIN, assert_nothing_left, cluster_with, containers, starts, until, waiting_workflow,
};

/// Kills a worker with so many containers, lets another one clean up behind it, and looks at what is left.
fn survive_a_killed_worker(engine: &TestEngine, tasks: usize, successor: &str) {
    let setup = ClusterSetup { concurrency: tasks, ..ClusterSetup::default() };
    let mut cluster = cluster_with(engine, setup, "");
    let run = cluster.submit_text("waiting", &waiting_workflow(&cluster, tasks));
    until("all tasks to run", || {
        let running = starts(&cluster).len();
        if running == tasks { Ok(()) } else { Err(format!("{running} of {tasks}")) }
    });
    let first_lives = containers(engine);
    assert_eq!(first_lives.len(), tasks);

    cluster.member("w0").kill();
    assert_eq!(containers(engine).len(), tasks, "they outlive their worker, which is why they must be found");
    cluster.start_worker(successor);
    cluster.wait_for_worker(successor);
    until("the containers of the dead worker to go", || {
        let left: Vec<String> =
            containers(engine).into_iter().filter(|id| first_lives.contains(id)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{} are left", left.len())) }
    });

    until("all tasks to run again", || {
        let again = starts(&cluster).iter().filter(|starts| starts.len() == 2).count();
        if again == tasks { Ok(()) } else { Err(format!("{again} of {tasks}")) }
    });
    std::fs::write(cluster.witness().join("go"), "").expect("ours");
    assert_eq!(cluster.wait_for_run(&run, CONTAINERS_WITHIN).status, RunStatus::Completed);
    assert!(
        starts(&cluster).iter().all(|starts| starts == &["1", "2"]),
        "each ran again once: {:?}",
        starts(&cluster)
    );
    // Removed behind the tasks; the networks stay until the worker ends.
    until("the containers to go", || match containers(engine).len() {
        0 => Ok(()),
        left => Err(format!("{left} are left")),
    });
    drop(cluster);
    assert_nothing_left(engine);
}

#[test]
fn faults_twenty_containers_of_a_killed_worker_are_gone_when_it_is_back() {
    let Some(engine) = TestEngine::own("isolation::worker_loss") else { return };
    survive_a_killed_worker(&engine, 20, "w0");
}

#[test]
fn faults_another_worker_of_the_host_removes_what_a_killed_one_left() {
    let Some(engine) = TestEngine::own("isolation::worker_loss") else { return };
    survive_a_killed_worker(&engine, 3, "w1");
}
