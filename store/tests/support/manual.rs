//! A worker played by hand: it claims and reports when the test says so.

use std::time::Duration;

use maestro_model::ids::{Incarnation, RunId, TaskId};
use maestro_model::plan::{Plan, QueueName};
use maestro_model::task::{Reason, TaskStatus};
use maestro_store::Store;
use maestro_store::runs::RunStatus;
use maestro_store::step::{Ending, Grant, StepReply, StepReport, StepRequest};
use maestro_store::worker::{AboutProcess, ProcessRole};

/// It asks the queue of `noop`, its own, and that of steps to be expanded.
pub struct ManualWorker {
    pub store: Store,
    pub incarnation: Incarnation,
    next_request: u64,
}

impl ManualWorker {
    pub async fn attach(store: &Store, name: &str) -> ManualWorker {
        let incarnation = Incarnation::random();
        let about = AboutProcess {
            role: ProcessRole::Worker,
            host: "here".to_owned(),
            pid: 1,
            slots: 4,
            version: "1.2.0".to_owned(),
            labels: Default::default(),
            confinement: Vec::new(),
            isolation: None,
        };
        let types = ["noop".to_owned()];
        let lease = Duration::from_secs(300);
        store.attach(&incarnation, name, &types, lease, false, &about).await.expect("the name is free");
        ManualWorker { store: store.clone(), incarnation, next_request: 1 }
    }

    pub async fn step(&mut self, want: usize, reports: Vec<StepReport>) -> StepReply {
        self.next_request += 1;
        let queues = ["w:hand", "a:noop", "c:expand"].map(QueueName::from_stored).to_vec();
        let request =
            StepRequest { lane: 0, request_id: self.next_request, want, queues, reports, state_ttl_ms: 0 };
        self.store.step(&self.incarnation, &request).await.expect("the step is accepted")
    }

    /// Claims one task; its index.
    pub async fn claim(&mut self) -> Option<Grant> {
        self.step(1, Vec::new()).await.grants.pop()
    }

    pub async fn end(&mut self, grant: &Grant, ending: Ending) {
        let report = StepReport {
            task: grant.task.clone(),
            attempt: grant.attempt,
            ending,
            output: String::new(),
            publish: Vec::new(),
        };
        self.step(0, vec![report]).await;
    }

    pub async fn complete(&mut self, grant: &Grant) {
        self.end(grant, Ending::Completed { exit_code: Some(0) }).await;
    }

    pub async fn fail(&mut self, grant: &Grant) {
        let ending = Ending::Failed { reason: Reason::Exit, exit_code: Some(1), retry_in_ms: None };
        self.end(grant, ending).await;
    }

    /// Does all there is, in the order of the queues, failing those of the given indexes; what it did.
    pub async fn do_all(&mut self, failing: &[u32]) -> Vec<u32> {
        let mut done = Vec::new();
        while let Some(grant) = self.claim().await {
            done.push(grant.task.index);
            if failing.contains(&grant.task.index) {
                self.fail(&grant).await;
            } else {
                self.complete(&grant).await;
            }
        }
        done
    }
}

pub async fn submit_plan(store: &Store, plan: &Plan) -> RunId {
    let run = RunId::random(0);
    store.submit(&run, plan, 3).await.expect("the plan is lawful");
    run
}

/// The letters of all tasks of a run, in their order.
pub async fn letters(store: &Store, run: &RunId) -> String {
    let count = store.run(run).await.expect("readable").expect("there").tasks;
    let tasks = store.tasks(run, 0..count).await.expect("readable");
    tasks.into_iter().map(|task| task.status.letter()).collect()
}

pub async fn status_of(store: &Store, run: &RunId, index: u32) -> TaskStatus {
    store.task(&TaskId { run: run.clone(), index }).await.expect("there").status
}

pub async fn run_word(store: &Store, run: &RunId) -> &'static str {
    store.run(run).await.expect("readable").map_or("gone", |record| RunStatus::word(record.status))
}
