//! A Redis of the test's own, and small plans to try the scripts with.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod manual;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use maestro_model::ids::AgentSlug;
use maestro_model::plan::{
    ContinueOn, Dependent, EdgeKind, Plan, PlannedTask, QueueName, References, RootRange, RunContext,
    RunPolicy, SharedSpec, TaskKind, WorkspaceChoice,
};
use maestro_model::retry::RetryPolicy;
use maestro_store::scripts::ScriptSet;
use maestro_store::{Store, StoreOptions};

/// A redis-server on a unix socket in a folder of its own; it goes with the value.
pub struct TestRedis {
    child: Child,
    folder: tempfile::TempDir,
}

impl TestRedis {
    pub fn start() -> TestRedis {
        let folder = tempfile::tempdir().expect("a folder for redis");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--enable-debug-command", "local"])
            .arg("--unixsocket")
            .arg(folder.path().join("redis.sock"))
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let redis = TestRedis { child, folder };
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(redis.folder.path().join("redis.sock")).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "redis-server did not open its socket");
            std::thread::yield_now();
        }
        redis
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.folder.path().join("redis.sock").display())
    }

    pub fn options(&self) -> StoreOptions {
        StoreOptions { url: self.url(), namespace: "maestro".to_owned(), patience: Duration::from_secs(5) }
    }

    pub async fn store(&self) -> Store {
        Store::connect(&self.options()).await.expect("redis is there")
    }

    pub async fn store_with(&self, scripts: ScriptSet) -> Store {
        Store::connect_with(&self.options(), scripts).await.expect("redis is there")
    }

    /// A plain connection, for looking at keys and changing them behind the store's back.
    pub fn raw(&self) -> redis::Connection {
        redis::Client::open(self.url()).and_then(|client| client.get_connection()).expect("redis is there")
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn slug(name: &str) -> AgentSlug {
    name.parse().expect("a lawful slug")
}

/// A plan put together by hand: steps by number, edges between them.
#[derive(Debug, Clone)]
pub struct PlanSketch {
    pub agent: String,
    pub tasks: Vec<SketchTask>,
    pub policy: RunPolicy,
    pub prompt: String,
    pub bound: bool,
}

#[derive(Debug, Clone, Default)]
pub struct SketchTask {
    pub needs: Vec<u32>,
    pub on_success: Vec<u32>,
    pub on_failure: Vec<u32>,
    pub continue_on: ContinueOn,
    pub items: Option<(u32, Option<u32>)>,
    pub priority: Option<u8>,
}

impl PlanSketch {
    pub fn new(count: usize) -> PlanSketch {
        PlanSketch {
            agent: "noop".to_owned(),
            tasks: vec![SketchTask::default(); count],
            policy: RunPolicy::default(),
            prompt: "do it".to_owned(),
            bound: false,
        }
    }

    pub fn chain(count: usize) -> PlanSketch {
        let mut sketch = PlanSketch::new(count);
        for index in 1..count {
            sketch.tasks[index].needs.push(index as u32 - 1);
        }
        sketch
    }

    pub fn needs(mut self, task: u32, on: &[u32]) -> PlanSketch {
        self.tasks[task as usize].needs.extend(on);
        self
    }

    /// Roots must come first: a sketch keeps its numbers.
    pub fn plan(&self) -> Plan {
        let shared = |priority: u8, continue_on: ContinueOn| SharedSpec {
            agent: slug(&self.agent),
            assigned: None,
            queue: QueueName::agent(&slug(&self.agent)),
            priority,
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
            workspace: if self.bound { WorkspaceChoice::Run } else { WorkspaceChoice::Task },
            continue_on,
        };
        let mut shared_parts: Vec<SharedSpec> = Vec::new();
        let mut tasks: Vec<PlannedTask> = Vec::new();
        for (index, task) in self.tasks.iter().enumerate() {
            let part = shared(task.priority.unwrap_or(3), task.continue_on);
            let number = shared_parts.iter().position(|known| *known == part).unwrap_or_else(|| {
                shared_parts.push(part);
                shared_parts.len() - 1
            });
            tasks.push(PlannedTask {
                step: format!("step{index}").parse().expect("a lawful step"),
                shared: number as u32,
                kind: TaskKind::Agent,
                prompt: Some(self.prompt.clone()),
                references: References::default(),
                dependencies: task.needs.len() as u32,
                triggers: 0,
                dependents: Vec::new(),
                handled: !task.on_failure.is_empty() || task.continue_on.failed,
                handler: false,
            });
        }
        for (index, task) in self.tasks.iter().enumerate() {
            let from = index as u32;
            for need in &task.needs {
                tasks[*need as usize].dependents.push(Dependent { index: from, edge: EdgeKind::Needs });
            }
            for (targets, edge) in
                [(&task.on_success, EdgeKind::OnSuccess), (&task.on_failure, EdgeKind::OnFailure)]
            {
                for target in targets {
                    tasks[index].dependents.push(Dependent { index: *target, edge });
                    tasks[*target as usize].triggers += 1;
                    if edge == EdgeKind::OnFailure {
                        tasks[*target as usize].handler = true;
                    }
                }
            }
        }
        let roots =
            tasks.iter().take_while(|task| task.dependencies == 0 && task.triggers == 0).count() as u32;
        for (index, task) in self.tasks.iter().enumerate() {
            let Some((count, max_parallel)) = task.items else { continue };
            let first = tasks.len() as u32;
            tasks[index].kind = TaskKind::Group { first, count, max_parallel };
            for number in 0..count {
                let mut item = tasks[index].clone();
                item.kind = TaskKind::Item { group: index as u32, number, item: number.into() };
                item.prompt = None;
                item.dependencies = 0;
                item.triggers = 0;
                item.dependents = vec![Dependent { index: index as u32, edge: EdgeKind::Item }];
                tasks.push(item);
            }
        }
        let mut root_ranges: Vec<RootRange> = Vec::new();
        for index in 0..roots {
            let group = matches!(tasks[index as usize].kind, TaskKind::Group { .. });
            let queue = (!group).then(|| QueueName::agent(&slug(&self.agent)));
            match root_ranges.last_mut() {
                Some(range) if range.queue == queue => range.count += 1,
                _ => root_ranges.push(RootRange { queue, first: index, count: 1 }),
            }
        }
        Plan {
            context: RunContext {
                workflow: "sketch".to_owned(),
                version: None,
                vars: IndexMap::new(),
                params: IndexMap::new(),
                folder: None,
                trace: false,
            },
            policy: self.policy.clone(),
            agents: IndexMap::new(),
            shared: shared_parts,
            tasks,
            roots: root_ranges,
            bound_agents: if self.bound { vec![slug(&self.agent)] } else { Vec::new() },
            definition: None,
            key: None,
            waits_for: Vec::new(),
            seeds: Default::default(),
        }
    }
}
