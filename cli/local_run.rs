//! The cluster of one `workflow run --local`: a private Redis, a coordinator and a worker, all gone at the end.
//!
//! What is kept are logs and results, as files in the data folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;
use maestro_coordinator::automatic::AutomaticSettings;
use maestro_coordinator::service::CoordinatorSettings;
use maestro_model::agent_type::AgentType;
use maestro_model::ids::{AgentSlug, Attempt, RunId};
use maestro_model::plan::Plan;
use maestro_model::workflow::Workflow;
use maestro_store::{Store, StoreOptions};
use maestro_worker::service::servable;
use maestro_worker::settings::WorkerSettings;
use maestro_worker::workspace::{WorkspacePlace, WorkspaceRoot};

use crate::cluster::{DAEMON_PATIENCE, connect, store_failure, store_options};
use crate::commands::CommandContext;
use crate::config::folders;
use crate::config::settings::Settings;
use crate::engine::{
    LOCAL_END_WAIT, RunningCoordinator, RunningWorker, coordinator_settings, worker_settings,
};
use crate::failure::Failure;
use crate::local_workspaces::LocalWorkspaces;
use crate::private_redis::{PrivateRedis, PrivateRedisPlan};
use crate::within_task::refuse_within_task;

/// A cluster in this process.
pub(crate) struct LocalCluster {
    store: Store,
    redis: PrivateRedis,
    worker: RunningWorker,
    coordinator: RunningCoordinator,
    workspaces: LocalWorkspaces,
    worker_settings: WorkerSettings,
    data: PathBuf,
}

impl LocalCluster {
    /// Starts everything. The Redis is always a private one: a cluster that is named elsewhere must not
    /// see a run that ends with this process.
    ///
    /// # Errors
    /// 77 inside a task; 69 if there is no Redis to start, or a part does not come up.
    pub(crate) async fn start(
        settings: &Settings,
        context: &CommandContext,
        agents: IndexMap<AgentSlug, AgentType>,
    ) -> Result<LocalCluster, Failure> {
        refuse_within_task(settings, context)?;
        let surroundings = context.surroundings()?;
        settings.check_lease()?;
        settings.check_failsafe()?;
        let redis = PrivateRedis::start(PrivateRedisPlan::of_local(&surroundings)?, &surroundings)?;
        let options = StoreOptions { url: redis.url(), ..store_options(settings, DAEMON_PATIENCE) };
        let store = connect(&options).await?;
        let workspaces = LocalWorkspaces::make(settings)?;
        let mut worker_settings =
            WorkerSettings { workspace_root: workspaces.path.clone(), ..worker_settings(settings, agents) };
        let coordinator_settings = CoordinatorSettings {
            // Nobody goes back to a run of a moment.
            snapshots: AutomaticSettings {
                interval: Duration::ZERO,
                ..coordinator_settings(settings).snapshots
            },
            ..coordinator_settings(settings)
        };
        let coordinator = RunningCoordinator::start(coordinator_settings, store.clone());
        let (worker, ready) = RunningWorker::start(worker_settings.clone(), options).await?;
        worker_settings.confinement = ready.confinement;
        let data = folders::data_folder(&surroundings);
        Ok(LocalCluster { store, redis, worker, coordinator, workspaces, worker_settings, data })
    }

    /// The store of this cluster.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Refuses (69) a workflow that names an agent whose program is not here: nobody else will come.
    ///
    /// # Errors
    /// Names the program and the way to mend it.
    pub(crate) fn check_agents(&self, workflow: &Workflow) -> Result<(), Failure> {
        let (_, unserved) = servable(&self.worker_settings, &self.worker_settings.local_agents);
        let used = |slug: &str| workflow.steps.iter().any(|step| step.agent.value.as_str() == slug);
        let Some((slug, reason)) = unserved.iter().find(|(slug, _)| used(slug)) else { return Ok(()) };
        Err(Failure::unavailable(format!("agent type `{slug}` cannot run here")).cause(reason))
    }

    /// Waits until the private Redis ends without having been told.
    pub(crate) async fn broke_down(&self) -> Failure {
        Failure::unavailable("the private redis ended").cause(self.redis.ended().await)
    }

    /// Copies logs and results of a run into the data folder; where they are.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(crate) async fn keep_files(&self, run: &RunId, plan: &Plan) -> Result<PathBuf, Failure> {
        let folder = self.data.join("runs").join(run.as_str());
        let cannot = |error: std::io::Error| {
            Failure::unavailable(format!("cannot keep logs and results in `{}`", folder.display()))
                .caused_by(&error)
        };
        std::fs::create_dir_all(&folder).map_err(cannot)?;
        let record = self.store.run(run).await.map_err(store_failure)?;
        let count = record.as_ref().map_or(plan.tasks.len() as u32, |record| record.tasks);
        let root = WorkspaceRoot::open(&self.workspaces.path)
            .map_err(|error| Failure::unavailable("cannot read the workspaces").caused_by(&error))?;
        let mut tasks = Vec::new();
        for task in self.store.tasks(run, 0..count).await.map_err(store_failure)? {
            let Some(known) = &task.record else { continue };
            let output =
                self.store.outputs(run, &[task.id.index]).await.map_err(store_failure)?.pop().flatten();
            let label = task.own.label();
            tasks.push(serde_json::json!({
                "id": task.id, "step": label, "status": task.status.word(), "attempt": known.attempt,
                "reason": known.reason, "exit_code": known.exit_code, "output": output,
            }));
            let agent = plan.shared.get(task.shared as usize).map(|shared| shared.agent.clone());
            let Some(agent) = agent else { continue };
            for attempt in 1..=known.attempt.0 {
                let paths = root.paths(&agent, &task.id, Attempt(attempt), WorkspacePlace::Task);
                copy_if_there(&paths.log(), &folder.join(format!("{label}.{attempt}.log")))
                    .map_err(cannot)?;
            }
        }
        let text = serde_json::json!({
            "version": 1, "run": run, "workflow": plan.context.workflow,
            "status": record.map(|record| record.status), "tasks": tasks,
        });
        std::fs::write(folder.join("run.json"), format!("{text:#}\n")).map_err(cannot)?;
        Ok(folder)
    }

    /// Ends what still runs without its grace period: to drain, to end, and not to wait.
    pub(crate) fn end_agents_at_once(&self) {
        for _ in 0..3 {
            self.worker.terminate();
        }
    }

    /// Ends everything and waits until it is gone.
    ///
    /// # Errors
    /// What a part ended for, if it was not told to.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        self.worker.terminate();
        self.worker.terminate();
        let worker = tokio::time::timeout(LOCAL_END_WAIT, self.worker.ended()).await;
        self.coordinator.terminate();
        let _ = tokio::time::timeout(LOCAL_END_WAIT, self.coordinator.ended()).await;
        drop(self.store);
        self.redis.stop();
        drop(self.workspaces);
        match worker {
            Ok(result) => result,
            Err(_) => Err(Failure::unavailable("the worker did not end in time")),
        }
    }
}

fn copy_if_there(from: &Path, to: &Path) -> std::io::Result<()> {
    match std::fs::copy(from, to) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
