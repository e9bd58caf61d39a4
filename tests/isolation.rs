//! Workers with agents in containers of a real engine: what is left when a worker dies, and what happens when the
//! engine goes away.
//!
//! Each test of a loss has an engine to itself, so that it can be stopped, and so that whatever is left is its own.

mod support;

#[path = "isolation/engine_loss.rs"]
mod engine_loss;
#[path = "isolation/trial.rs"]
mod trial;
#[path = "isolation/worker_loss.rs"]
mod worker_loss;

use std::time::Duration;

use support::engine::{IMAGE, TestEngine};
use support::{ClusterSetup, TestCluster, wait_until};

/// Longest wait for containers of a busy machine.
const CONTAINERS_WITHIN: Duration = Duration::from_secs(60);

/// A cluster whose workers know the engine, with an agent type `boxed`: a shell script in a container, that may
/// write to the witness folder. `keys` are further lines of it.
fn cluster_with(engine: &TestEngine, setup: ClusterSetup, keys: &str) -> TestCluster {
    let setup = ClusterSetup { env: vec![("DOCKER_HOST", engine.address())], workers: 0, ..setup };
    let mut cluster = TestCluster::start(setup.clone());
    let witness = cluster.witness();
    cluster.write_agent(
        "boxed",
        &format!(
            "command: [sh, -e, -c, \"<< prompt >>\"]\nisolate_with: docker\nimage: {IMAGE}\n\
             paths: {{write: [{}]}}\n{keys}\n",
            witness.display()
        ),
    );
    cluster.start_worker("w0");
    cluster.wait_for_worker("w0");
    cluster
}

/// A script that notes its start in a file of its own and ends once the witness folder has a file `go`.
fn waiting_script(cluster: &TestCluster) -> String {
    let witness = cluster.witness();
    let witness = witness.display();
    format!(
        "echo $MAESTRO_ATTEMPT >> {witness}/$MAESTRO_TASK_ID; while [ ! -e {witness}/go ]; do sleep 0.1; done"
    )
}

/// A workflow of so many such steps.
fn waiting_workflow(cluster: &TestCluster, steps: usize) -> String {
    let script = waiting_script(cluster);
    let steps = (0..steps).map(|number| format!("  - {{id: s{number}, agent: boxed, prompt: '{script}'}}\n"));
    format!("name: waiting\nsteps:\n{}", steps.collect::<String>())
}

/// Starts noted so far, by task.
fn starts(cluster: &TestCluster) -> Vec<Vec<String>> {
    let notes = std::fs::read_dir(cluster.witness()).expect("a folder").flatten();
    let tasks = notes.filter(|note| note.file_name() != "go");
    tasks
        .map(|note| std::fs::read_to_string(note.path()).expect("a note"))
        .map(|text| text.lines().map(str::to_owned).collect())
        .collect()
}

fn until(what: &str, condition: impl FnMut() -> Result<(), String>) {
    wait_until(what, CONTAINERS_WITHIN, condition).unwrap_or_else(|error| panic!("{error}"));
}

/// Names of containers or networks that workers made.
fn made(engine: &TestEngine, what: &[&str]) -> Vec<String> {
    let words = [what, &["--filter", "label=maestro.worker", "--format", "{{.ID}}"]].concat();
    engine.docker(&words).lines().map(str::to_owned).collect()
}

fn containers(engine: &TestEngine) -> Vec<String> {
    made(engine, &["ps", "--all"])
}

/// Nothing of any worker may be left in the engine once its workers have ended.
fn assert_nothing_left(engine: &TestEngine) {
    assert_eq!(containers(engine), Vec::<String>::new());
    assert_eq!(made(engine, &["network", "ls"]), Vec::<String>::new());
    assert_eq!(engine.container_mounts(), Vec::<String>::new());
}
