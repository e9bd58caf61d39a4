//! What Redis says of runs and tasks, read with the product's own crates from outside its processes.

use std::collections::HashSet;
use std::time::Duration;

use maestro_model::ids::RunId;
use maestro_store::events::{AuditEvent, EventPosition};
use maestro_store::runs::{RunRecord, StoredOutput, TaskView};
use maestro_store::worker::AttachedProcess;
use maestro_store::{Store, StoreError, StoreOptions};
use tokio::runtime::{Builder, Runtime};

/// Reads a cluster; blocking, for tests.
pub struct Observer {
    runtime: Runtime,
    store: Store,
}

/// A run with all that is known of it.
#[derive(Debug)]
pub struct RunStory {
    pub record: RunRecord,
    pub tasks: Vec<TaskView>,
    /// By place in `tasks`.
    pub outputs: Vec<Option<StoredOutput>>,
    pub events: Vec<AuditEvent>,
}

impl Observer {
    /// Connects to the Redis itself, whatever road the cluster takes.
    pub fn connect(url: &str, namespace: &str) -> Observer {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let options = StoreOptions {
            url: url.to_owned(),
            namespace: namespace.to_owned(),
            patience: Duration::from_secs(5),
        };
        let store = runtime.block_on(Store::connect(&options)).expect("redis is there");
        Observer { runtime, store }
    }

    /// Asks anything of the store.
    pub fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.runtime.block_on(question(&self.store))
    }

    pub fn run(&self, run: &RunId) -> RunRecord {
        let found = self.ask(async |store| store.run(run).await).expect("redis is there");
        found.unwrap_or_else(|| panic!("no run {run}"))
    }

    pub fn tasks(&self, run: &RunId) -> Vec<TaskView> {
        let count = self.run(run).tasks;
        self.ask(async |store| store.tasks(run, 0..count).await).expect("redis is there")
    }

    /// All of a run; its events come from `events`, in which other runs may be too.
    pub fn story(&self, run: &RunId, events: &[AuditEvent]) -> RunStory {
        let record = self.run(run);
        let tasks = self.tasks(run);
        let indexes: Vec<u32> = tasks.iter().map(|task| task.id.index).collect();
        let outputs = self.ask(async |store| store.outputs(run, &indexes).await).expect("redis is there");
        let events = events.iter().filter(|event| event.run() == Some(run)).cloned().collect();
        RunStory { record, tasks, outputs, events }
    }

    /// Everything that has happened so far.
    pub fn events(&self) -> Vec<AuditEvent> {
        let mut all = Vec::new();
        let mut position = EventPosition::start();
        loop {
            let (events, next) =
                self.ask(async |store| store.events_after(&position).await).expect("redis is there");
            if events.is_empty() && next == position {
                return all;
            }
            all.extend(events);
            position = next;
        }
    }

    /// Workers and coordinators whose lease has not run out.
    pub fn alive(&self) -> Vec<AttachedProcess> {
        let all = self.ask(async |store| store.processes().await).expect("redis is there");
        all.into_iter().filter(|process| process.alive).collect()
    }

    /// Removes every run, as retention would; all have to be final.
    pub fn collect_all(&self) -> Result<(), String> {
        let runs = self.ask(async |store| store.run_ids(100_000).await).map_err(|error| error.to_string())?;
        for run in runs {
            let gone = self.ask(async |store| store.collect_run(&run).await);
            if !gone.map_err(|error| format!("run {run}: {error}"))? {
                return Err(format!("run {run} cannot be collected: {:?}", self.run(&run)));
            }
        }
        Ok(())
    }

    /// Every key there is.
    pub fn keys(connection: &mut redis::Connection) -> HashSet<String> {
        redis::cmd("KEYS").arg("*").query(connection).expect("redis is there")
    }
}
