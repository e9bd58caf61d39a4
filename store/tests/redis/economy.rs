//! What work costs Redis: round trips and bytes, counted and not timed.

use std::time::Duration;

use maestro_model::ids::{Incarnation, RunId};
use maestro_model::plan::QueueName;
use maestro_store::Store;
use maestro_store::step::{Ending, Grant, StepReport, StepRequest};
use maestro_store::worker::{AboutProcess, ProcessRole};

use crate::support::{PlanSketch, TestRedis};

/// SPEC 15: bytes of a waiting task with a 200-byte prompt in a run of 10,000.
const BYTES_PER_WAITING_TASK: u64 = 400;

async fn attach(store: &Store) -> Incarnation {
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
    let incarnation = Incarnation::random();
    let types = ["noop".to_owned()];
    let hour = Duration::from_secs(3600);
    store.attach(&incarnation, "hand", &types, hour, false, &about).await.expect("the name is free");
    incarnation
}

fn done(grant: Grant) -> StepReport {
    StepReport {
        task: grant.task,
        attempt: grant.attempt,
        ending: Ending::Completed { exit_code: Some(0) },
        output: String::new(),
        publish: Vec::new(),
    }
}

/// Works a run off in batches and counts the requests that Redis saw meanwhile.
async fn requests_to_drain(sketch: &PlanSketch, batch: usize) -> (usize, u64) {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let run = RunId::random(0);
    store.submit(&run, &sketch.plan(), 3).await.expect("the plan is lawful");
    let incarnation = attach(&store).await;
    let mut raw = redis.raw();
    redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut raw).expect("reset");
    let mut finished = 0;
    let mut grants: Vec<Grant> = Vec::new();
    for request_id in 1.. {
        let reports: Vec<StepReport> = grants.drain(..).map(done).collect();
        finished += reports.len();
        let queues = vec![QueueName::from_stored("w:hand"), QueueName::from_stored("a:noop")];
        let request = StepRequest { lane: 0, request_id, want: batch, queues, reports, state_ttl_ms: 0 };
        grants = store.step(&incarnation, &request).await.expect("accepted").grants;
        if grants.is_empty() {
            break;
        }
    }
    let info: String = redis::cmd("INFO").arg("commandstats").query(&mut raw).expect("info");
    let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap_or("0");
    let calls = calls.split(',').next().and_then(|text| text.parse().ok()).expect("a number");
    assert_eq!(store.run(&run).await.expect("readable").expect("there").status.word(), "completed");
    (finished, calls)
}

#[tokio::test]
async fn a_task_in_steady_flow_costs_at_most_one_request() {
    for (sketch, batch) in
        [(PlanSketch::new(500), 1), (PlanSketch::chain(500), 1), (PlanSketch::new(2_000), 64)]
    {
        let (tasks, requests) = requests_to_drain(&sketch, batch).await;
        assert_eq!(tasks, sketch.tasks.len());
        // The first request has nothing to report yet.
        let allowed = tasks.div_ceil(batch) as u64 + 1;
        assert!(requests <= allowed, "{requests} requests for {tasks} tasks in batches of {batch}");
    }
}

#[tokio::test]
async fn a_waiting_task_takes_at_most_four_hundred_bytes() {
    const TASKS: u64 = 10_000;
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut sketch = PlanSketch::new(TASKS as usize);
    sketch.prompt = "p".repeat(200);
    store.submit(&RunId::random(0), &sketch.plan(), 3).await.expect("the plan is lawful");
    let mut raw = redis.raw();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut raw).expect("keys");
    let mut bytes = 0;
    let mut list = Vec::new();
    for key in keys {
        let size: u64 = redis::cmd("MEMORY")
            .arg("USAGE")
            .arg(&key)
            .arg("SAMPLES")
            .arg(0)
            .query(&mut raw)
            .expect("a size");
        list.push((size, key));
        bytes += size;
    }
    list.sort();
    assert!(bytes / TASKS <= BYTES_PER_WAITING_TASK, "{} bytes a task: {list:?}", bytes / TASKS);
}
