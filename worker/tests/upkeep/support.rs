//! A Redis that can be frozen, killed and started again, and runs of steps that launch nothing.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::ids::{AgentSlug, Incarnation, RunId};
use maestro_model::plan::{
    ContinueOn, Plan, PlannedTask, QueueName, References, RootRange, RunContext, RunPolicy, SharedSpec,
    TaskKind, WorkspaceChoice,
};
use maestro_model::retry::RetryPolicy;
use maestro_store::step::{Ending, StepReport, StepRequest};
use maestro_store::worker::{AboutProcess, ProcessRole};
use maestro_store::{Store, StoreOptions};
use maestro_worker::settings::WorkerSettings;
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A redis-server on a unix socket in a folder of its own; it goes with the value.
pub(crate) struct TestRedis {
    child: Child,
    folder: tempfile::TempDir,
}

impl TestRedis {
    pub(crate) fn start() -> TestRedis {
        let folder = tempfile::tempdir().expect("a folder for redis");
        let child = launch(folder.path());
        TestRedis { child, folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.folder.path().join("redis.sock").display())
    }

    pub(crate) fn options(&self) -> StoreOptions {
        StoreOptions { url: self.url(), namespace: "maestro".to_owned(), patience: Duration::from_secs(5) }
    }

    pub(crate) async fn store(&self) -> Store {
        Store::connect(&self.options()).await.expect("redis is there")
    }

    /// As power loss does, but for what the append-only file has.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    pub(crate) fn restart(&mut self) {
        self.child = launch(self.folder.path());
    }

    /// It hears nothing and says nothing until the value is dropped.
    pub(crate) fn freeze(&self) -> Frozen {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).expect("it is ours");
        Frozen(pid)
    }

    pub(crate) fn raw(&self) -> redis::Connection {
        redis::Client::open(self.url()).and_then(|client| client.get_connection()).expect("redis is there")
    }
}

pub(crate) struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(folder: &std::path::Path) -> Child {
    let socket = folder.join("redis.sock");
    let child = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always"])
        .arg("--unixsocket")
        .arg(&socket)
        .arg("--dir")
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    wait_until("redis-server opens its socket", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    child
}

/// Waits for a condition.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn noop() -> AgentSlug {
    "noop".parse().expect("a lawful slug")
}

fn noop_type() -> AgentType {
    let json = serde_json::json!({ "slug": "noop", "mode": "noop", "command": [] });
    serde_json::from_value(json).expect("an agent type")
}

/// A run of `count` steps that depend on nothing.
pub(crate) async fn submit_run(store: &Store, count: u32) -> RunId {
    let queue = QueueName::agent(&noop());
    let shared = SharedSpec {
        agent: noop(),
        assigned: None,
        queue: queue.clone(),
        priority: 3,
        role: None,
        prompt: None,
        references: References::default(),
        when: None,
        publish: IndexMap::new(),
        env: IndexMap::new(),
        timeout_ms: 600_000,
        queue_timeout_ms: None,
        stall_timeout_ms: None,
        retry: RetryPolicy::default(),
        workspace: WorkspaceChoice::Task,
        continue_on: ContinueOn::default(),
    };
    let task = |index: u32| PlannedTask {
        step: format!("s{index}").parse().expect("a lawful id"),
        shared: 0,
        kind: TaskKind::Agent,
        prompt: Some("x".to_owned()),
        references: References::default(),
        dependencies: 0,
        triggers: 0,
        dependents: Vec::new(),
        handled: false,
        handler: false,
    };
    let plan = Plan {
        context: RunContext {
            workflow: "sample".to_owned(),
            version: None,
            vars: IndexMap::new(),
            params: IndexMap::new(),
            folder: None,
            trace: false,
        },
        policy: RunPolicy::default(),
        agents: IndexMap::from([(noop(), noop_type())]),
        shared: vec![shared],
        tasks: (0..count).map(task).collect(),
        roots: vec![RootRange { queue: Some(queue), first: 0, count }],
        bound_agents: Vec::new(),
        definition: None,
        key: None,
        waits_for: Vec::new(),
        seeds: Default::default(),
    };
    let run = RunId::random(0);
    store.submit(&run, &plan, 3).await.expect("accepted");
    run
}

/// A worker that only the store knows.
pub(crate) async fn attach_worker(store: &Store, name: &str, lease: Duration) -> Incarnation {
    let about = AboutProcess {
        role: ProcessRole::Worker,
        host: "elsewhere".to_owned(),
        pid: 1,
        slots: 4,
        version: "0".to_owned(),
        labels: std::collections::BTreeMap::new(),
        confinement: Vec::new(),
        isolation: None,
    };
    let incarnation = Incarnation::random();
    let types = ["noop".to_owned()];
    store.attach(&incarnation, name, &types, lease, false, &about).await.expect("attached");
    incarnation
}

/// Carries out what is queued, as a worker would.
pub(crate) async fn work_off(store: &Store, incarnation: &Incarnation) {
    let mut reports = Vec::new();
    for request_id in 1.. {
        let request = StepRequest {
            lane: 0,
            request_id,
            want: 64,
            queues: vec![QueueName::agent(&noop())],
            reports: std::mem::take(&mut reports),
            state_ttl_ms: 0,
        };
        let reply = store.step(incarnation, &request).await.expect("answered");
        if reply.grants.is_empty() {
            return;
        }
        reports = reply.grants.into_iter().map(completed).collect();
    }
}

fn completed(grant: maestro_store::step::Grant) -> StepReport {
    StepReport {
        task: grant.task,
        attempt: grant.attempt,
        ending: Ending::Completed { exit_code: Some(0) },
        output: String::new(),
        publish: Vec::new(),
    }
}

/// Settings of a worker that beats often.
pub(crate) fn settings(root: &std::path::Path, name: Option<&str>) -> WorkerSettings {
    WorkerSettings {
        name: name.map(str::to_owned),
        concurrency: 2,
        only_agents: Vec::new(),
        local_agents: IndexMap::from([(noop(), noop_type())]),
        agents_folders: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        workspace_root: root.to_owned(),
        short_folders: Vec::new(),
        heartbeat: Duration::from_millis(200),
        lease: Duration::from_secs(8),
        engine: maestro_worker::container::EngineAddress::default(),
        grace: Duration::from_secs(1),
        drain_deadline: Duration::from_secs(5),
        state_ttl: Duration::from_secs(60),
        kilo_program: None,
        snapshot_folder: std::env::temp_dir(),
        confinement: None,
        failsafe: Default::default(),
        workspace_retention: Duration::from_secs(3600),
        version: "0".to_owned(),
        pulse: None,
        probe: None,
    }
}
