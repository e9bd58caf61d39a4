//! A cluster to ask: a Redis, runs in it, and workers that are played by the test.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use maestro_model::ids::{Incarnation, RunId, TaskId};
use maestro_model::plan::{Plan, QueueName};
use maestro_store::Store;
use maestro_store::step::{Ending, Grant, StepReport, StepRequest};
use maestro_store::worker::{AboutProcess, ProcessRole};

use crate::sandbox::{Answer, Sandbox};
use crate::support::{PlanSketch, TestRedis, slug};

/// A lease that outlives every test.
pub(crate) const LEASE: Duration = Duration::from_secs(300);

/// A Redis with a cluster in it, and the command line beside it.
pub(crate) struct Cluster {
    pub(crate) redis: TestRedis,
    pub(crate) sandbox: Sandbox,
    runtime: tokio::runtime::Runtime,
    pub(crate) store: Store,
}

/// A worker that is played by the test.
pub(crate) struct PlayedWorker {
    pub(crate) incarnation: Incarnation,
    types: Vec<String>,
    requests: std::cell::Cell<u64>,
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        let redis = TestRedis::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let store = runtime.block_on(redis.store());
        Cluster { redis, sandbox: Sandbox::new(), runtime, store }
    }

    /// Runs the asynchronous part of a test.
    pub(crate) fn wait<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// The command, pointed at this cluster.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.sandbox.command(words);
        command.env("MAESTRO_REDIS_URL", self.redis.url());
        command
    }

    /// One call.
    pub(crate) fn ask(&self, words: &[&str]) -> Answer {
        self.answer(self.command(words))
    }

    /// One call, with its table instead of JSON.
    pub(crate) fn ask_table(&self, words: &[&str]) -> Answer {
        self.ask(&[words, &["--format", "table"]].concat())
    }

    /// One call that has to end with 0; what it printed as JSON.
    pub(crate) fn ask_json(&self, words: &[&str]) -> serde_json::Value {
        let answer = self.ask(words);
        assert_eq!(answer.code, 0, "{}", answer.picture());
        answer.json()
    }

    pub(crate) fn answer(&self, mut command: Command) -> Answer {
        self.sandbox.answer(command.output().expect("the binary starts"))
    }

    /// A call that goes on.
    pub(crate) fn start(&self, words: &[&str]) -> Child {
        let mut command = self.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary starts")
    }

    /// Submits a plan under a chosen id.
    pub(crate) fn submit(&self, run: &str, plan: &Plan) -> RunId {
        let run: RunId = run.parse().expect("a lawful id");
        self.wait(self.store.submit(&run, plan, 3)).expect("submitted");
        run
    }

    /// Submits a sketch that is worked on by `agent`.
    pub(crate) fn submit_sketch(&self, run: &str, sketch: PlanSketch) -> RunId {
        self.submit(run, &sketch.plan())
    }

    /// Attaches a worker that serves these types.
    pub(crate) fn worker(&self, name: &str, types: &[&str], slots: u32) -> PlayedWorker {
        self.process(name, types, slots, ProcessRole::Worker)
    }

    pub(crate) fn process(&self, name: &str, types: &[&str], slots: u32, role: ProcessRole) -> PlayedWorker {
        let incarnation = Incarnation::random();
        let types: Vec<String> = types.iter().map(|slug| (*slug).to_owned()).collect();
        let about = AboutProcess {
            role,
            host: "host1".to_owned(),
            pid: 42,
            slots,
            version: "1.2.0".to_owned(),
            labels: std::collections::BTreeMap::new(),
            confinement: Vec::new(),
            isolation: None,
        };
        let attached = self.store.attach(&incarnation, name, &types, LEASE, false, &about);
        self.wait(attached).expect("attached");
        PlayedWorker { incarnation, types, requests: std::cell::Cell::new(1) }
    }

    /// Claims up to `want` tasks.
    pub(crate) fn claim(&self, worker: &PlayedWorker, want: usize) -> Vec<Grant> {
        self.step(worker, want, Vec::new())
    }

    /// Reports how an attempt ended.
    pub(crate) fn report(&self, worker: &PlayedWorker, grant: &Grant, ending: Ending, output: &str) {
        let report = StepReport {
            task: grant.task.clone(),
            attempt: grant.attempt,
            ending,
            output: output.to_owned(),
            publish: Vec::new(),
        };
        self.step(worker, 0, vec![report]);
    }

    fn step(&self, worker: &PlayedWorker, want: usize, reports: Vec<StepReport>) -> Vec<Grant> {
        worker.requests.set(worker.requests.get() + 1);
        let request = StepRequest {
            lane: 0,
            request_id: worker.requests.get(),
            want,
            queues: worker.types.iter().map(|name| QueueName::agent(&slug(name))).collect(),
            reports,
            state_ttl_ms: 0,
        };
        self.wait(self.store.step(&worker.incarnation, &request)).expect("answered").grants
    }

    /// Claims one task and ends it.
    pub(crate) fn work(&self, worker: &PlayedWorker, ending: Ending, output: &str) -> Grant {
        let grant = self.claim(worker, 1).pop().expect("a task is ready");
        self.report(worker, &grant, ending, output);
        grant
    }
}

/// An id that the test chose.
pub(crate) fn task_id(run: &RunId, index: u32) -> TaskId {
    TaskId { run: run.clone(), index }
}

pub(crate) const COMPLETED: Ending = Ending::Completed { exit_code: Some(0) };

/// Failed for good with an exit code.
pub(crate) fn failed(code: i32) -> Ending {
    Ending::Failed { reason: maestro_model::task::Reason::Exit, exit_code: Some(code), retry_in_ms: None }
}

/// What a worker sends with a failure.
pub(crate) fn message(text: &str) -> String {
    serde_json::json!({ "message": text }).to_string()
}

/// Whatever differs from call to call, by name.
pub(crate) fn without_times(text: &str) -> String {
    let mut shown = String::new();
    for line in text.split_inclusive('\n') {
        let mut words: Vec<String> = Vec::new();
        for word in line.split(' ') {
            words.push(redacted(word));
        }
        shown.push_str(&words.join(" "));
    }
    shown
}

fn redacted(word: &str) -> String {
    if let Some(inner) = word.strip_prefix('(') {
        return format!("({}", redacted(inner));
    }
    if let Some(inner) = word.strip_suffix(':') {
        return format!("{}:", redacted(inner));
    }
    let (core, rest) = match word.find(['\n', ',', ';', ')']) {
        Some(end) => word.split_at(end),
        None => (word, ""),
    };
    let number = core.strip_suffix('s').or_else(|| core.strip_suffix('m'));
    let is_duration = number.is_some_and(|number| !number.is_empty() && number.parse::<f64>().is_ok());
    if is_duration {
        return format!("[TOOK]{rest}");
    }
    if core.len() >= 20 && core.starts_with("20") && core.ends_with('Z') && core.contains('T') {
        return format!("[TIME]{rest}");
    }
    word.to_owned()
}

/// The times of a JSON record, by name.
pub(crate) fn without_json_times(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = redacted(text),
        serde_json::Value::Array(values) => values.iter_mut().for_each(without_json_times),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(without_json_times),
        _ => {}
    }
}

/// An answer as a picture without times.
pub(crate) fn picture(answer: &Answer) -> String {
    without_times(&answer.picture())
}

/// Where the workflows of the repository are.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
