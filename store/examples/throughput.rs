//! How fast the scripts carry work: tasks a second and Redis' own time per task, for a few shapes.
//!
//! `cargo run --release -p maestro-store --example throughput [part of a shape's name]…`. No process is launched and no coordinator
//! runs: it measures the store alone, on a Redis of its own.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use maestro_model::ids::{Incarnation, RunId};
use maestro_model::plan::QueueName;
use maestro_store::Store;
use maestro_store::step::{Ending, Grant, StepReport, StepRequest};
use maestro_store::worker::{AboutProcess, ProcessRole};
use support::{PlanSketch, TestRedis};

const FLAT_TASKS: usize = 20_000;
const CHAIN_TASKS: usize = 500;
const FAN_TASKS: u32 = 1_000;
const LAYERS: u32 = 10;
const LAYER_TASKS: u32 = 100;
const BATCH: usize = 64;
/// Each shape is measured so often, unless MAESTRO_ROUNDS says otherwise; the best is shown, with the
/// worst beside it.
const ROUNDS: usize = 5;

struct Claimer {
    store: Store,
    incarnation: Incarnation,
}

impl Claimer {
    async fn attach(store: &Store) -> Claimer {
        let incarnation = Incarnation::random();
        let about = AboutProcess {
            role: ProcessRole::Worker,
            host: "here".to_owned(),
            pid: 1,
            slots: 64,
            version: "1.2.0".to_owned(),
            labels: Default::default(),
            confinement: Vec::new(),
            isolation: None,
        };
        let types = ["noop".to_owned()];
        let hour = Duration::from_secs(3600);
        store.attach(&incarnation, "probe", &types, hour, false, &about).await.expect("the name is free");
        Claimer { store: store.clone(), incarnation }
    }

    /// Reports and claims until nothing is left; how many tasks it did.
    async fn drain(&self, lane: u8, batch: usize) -> usize {
        let mut done = 0;
        let mut grants: Vec<Grant> = Vec::new();
        for request_id in 1.. {
            let reports: Vec<StepReport> = grants.drain(..).map(report).collect();
            done += reports.len();
            let queues = vec![QueueName::from_stored("w:probe"), QueueName::from_stored("a:noop")];
            let request = StepRequest { lane, request_id, want: batch, queues, reports, state_ttl_ms: 0 };
            let idle = request.reports.is_empty() && request_id > 1;
            grants = self.store.step(&self.incarnation, &request).await.expect("accepted").grants;
            if grants.is_empty() && (idle || batch == 1 || request.reports.is_empty()) {
                break;
            }
        }
        done
    }
}

fn report(grant: Grant) -> StepReport {
    StepReport {
        task: grant.task,
        attempt: grant.attempt,
        ending: Ending::Completed { exit_code: Some(0) },
        output: String::new(),
        publish: Vec::new(),
    }
}

/// Seconds of processor time that Redis has used, and microseconds in EVALSHA.
fn redis_time(redis: &TestRedis) -> (f64, f64) {
    let info: String = redis::cmd("INFO").arg("all").query(&mut redis.raw()).expect("info");
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0").to_owned();
    let cpu = |name: &str| field(name).trim().parse::<f64>().unwrap_or(0.0);
    let evalsha = field("cmdstat_evalsha:");
    let usec =
        evalsha.split(',').find_map(|part| part.strip_prefix("usec=")).and_then(|text| text.parse().ok());
    (cpu("used_cpu_user:") + cpu("used_cpu_sys:"), usec.unwrap_or(0.0))
}

async fn measure(name: &str, sketch: &PlanSketch, batch: usize, lanes: u8) {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
        return;
    }
    let plan = sketch.plan();
    let mut rates = Vec::new();
    let mut costs = Vec::new();
    let mut submits = Vec::new();
    let mut evals = Vec::new();
    let rounds = std::env::var("MAESTRO_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    for _ in 0..rounds {
        let redis = TestRedis::start();
        let store = redis.store().await;
        let run = RunId::random(0);
        let begun = Instant::now();
        store.submit(&run, &plan, 3).await.expect("submitted");
        submits.push(plan.tasks.len() as f64 / begun.elapsed().as_secs_f64());
        let claimer = std::sync::Arc::new(Claimer::attach(&store).await);
        let (cpu, usec) = redis_time(&redis);
        let begun = Instant::now();
        let mut done = 0;
        let lanes: Vec<_> = (0..lanes)
            .map(|lane| {
                let claimer = claimer.clone();
                tokio::spawn(async move { claimer.drain(lane, batch).await })
            })
            .collect();
        for lane in lanes {
            done += lane.await.expect("no lane panics");
        }
        let took = begun.elapsed().as_secs_f64();
        let (cpu_after, usec_after) = redis_time(&redis);
        let status = store.run(&run).await.expect("readable").expect("there").status;
        assert_eq!((done, status.word()), (plan.tasks.len(), "completed"), "{name}");
        rates.push(done as f64 / took);
        costs.push((cpu_after - cpu) * 1e6 / done as f64);
        evals.push((usec_after - usec) / done as f64);
    }
    let best = |values: &[f64]| values.iter().copied().fold(f64::MIN, f64::max);
    let worst = |values: &[f64]| values.iter().copied().fold(f64::MAX, f64::min);
    show(&format!(
        "{name:<28} {:>8.0} tasks/s (worst {:>7.0}) | redis {:>5.1} us CPU, {:>5.1} us in scripts | submit {:>8.0}/s",
        best(&rates),
        worst(&rates),
        worst(&costs),
        worst(&evals),
        best(&submits),
    ));
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn show(line: &str) {
    println!("{line}");
}

#[tokio::main]
async fn main() {
    let flat = PlanSketch::new(FLAT_TASKS);
    measure("flat, batches of 64, 1 lane", &flat, BATCH, 1).await;
    measure("flat, batches of 64, 2 lanes", &flat, BATCH, 2).await;
    let mut limited = flat.clone();
    limited.policy.concurrency = Some(200);
    measure("the same with a run limit", &limited, BATCH, 2).await;
    measure("chain of 500, one by one", &PlanSketch::chain(CHAIN_TASKS), 1, 1).await;
    let mut layers = PlanSketch::new((LAYERS * LAYER_TASKS) as usize);
    for task in LAYER_TASKS..LAYERS * LAYER_TASKS {
        let above = task / LAYER_TASKS * LAYER_TASKS - LAYER_TASKS;
        let needs: Vec<u32> = (0..3).map(|step| above + (task * 7 + step * 31) % LAYER_TASKS).collect();
        layers = layers.needs(task, &needs);
    }
    measure("10 layers of 100, 3 needs", &layers, BATCH, 2).await;
    let middle: Vec<u32> = (1..=FAN_TASKS).collect();
    let mut fan = PlanSketch::new(FAN_TASKS as usize + 2).needs(FAN_TASKS + 1, &middle);
    for task in middle {
        fan.tasks[task as usize].needs.push(0);
    }
    measure("1 to 1,000 to 1", &fan, BATCH, 2).await;
}
