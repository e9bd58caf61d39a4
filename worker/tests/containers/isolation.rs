//! How the agents of this suite are kept apart: in containers of the tests' own engine.

use maestro_worker::attempt::AttemptRunner;
use maestro_worker::container::{ContainerEngine, ContainerOwner, EngineAddress};

use crate::engine::{IMAGE, TestEngine};

/// A container's processes are the engine's, and go with it uncounted.
pub(crate) const COUNTS_PROCESSES: bool = false;

/// What an agent type of the suite says of it. Most tests need no network, which takes longest to make.
pub(crate) fn keys() -> serde_json::Value {
    serde_json::json!({"isolate_with": "docker", "image": IMAGE, "network": "none"})
}

/// What the type of an agent says that knocks at its door with this program: it comes along with its libraries.
pub(crate) fn door_keys() -> serde_json::Value {
    let program = crate::host::host_program();
    let libraries = std::process::Command::new("ldd").arg(&program).output().expect("ldd is there");
    let text = String::from_utf8(libraries.stdout).expect("text");
    let paths = text.split_ascii_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned);
    let paths: Vec<String> = paths.chain([program.display().to_string()]).collect();
    serde_json::json!({"paths": {"read": paths}})
}

/// A runner with an engine. Where there can be none, the tests that follow are skipped, and said to be.
pub(crate) fn equipped(runner: AttemptRunner) -> AttemptRunner {
    let Some(engine) = TestEngine::shared("worker::containers") else { std::process::exit(0) };
    let root = runner.root().path().to_owned();
    runner.with_containers(engine_at(engine, "w1", &root))
}

/// The worker's side of an engine, for a worker of this name.
pub(crate) fn engine_at(engine: &TestEngine, worker: &str, root: &std::path::Path) -> ContainerEngine {
    let client = ContainerEngine::new(EngineAddress::find(Some(&engine.address()), None));
    client.belong_to(ContainerOwner {
        worker: worker.to_owned(),
        namespace: "test".to_owned(),
        cluster: root.display().to_string(),
        epoch: "1".to_owned(),
        incarnation: format!("life-{}", std::process::id()),
        root: root.to_owned(),
    });
    client
}
