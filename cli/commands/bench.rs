//! `maestro bench`: how fast this cluster is, or a private one where there is none.

use std::time::Instant;

use clap::{Args, ValueEnum};
use maestro_model::agent_type::{AgentType, Isolation, NetworkChoice, PullPolicy};
use maestro_store::{Store, StoreOptions};
use maestro_worker::settings::{GrantStamp, WorkerSettings};
use tokio::sync::mpsc;

use super::{CommandContext, Outcome};
use crate::bench::measure::{
    Measurement, Submitted, gaps_ms, percentile, process_cpu, submit, take_stamps, wait_for_end,
};
use crate::bench::shape::{GraphShape, shaped_plan};
use crate::catalogue::local_agents;
use crate::cluster::{DAEMON_PATIENCE, connect, open_store, store_failure, store_options};
use crate::config::settings::Settings;
use crate::engine::{LOCAL_END_WAIT, RunningWorker, worker_settings};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::local_workspaces::LocalWorkspaces;
use crate::output::shape::{Column, Field, Shape};
use crate::private_redis::{PrivateRedis, PrivateRedisPlan};
use crate::within_task::refuse_within_task;

/// Threads of a private cluster.
const THREADS: usize = 2;
/// Tasks at one time of the private worker, where nothing is launched.
const NOOP_CONCURRENCY: usize = 128;
/// Single tasks submitted to an idle cluster.
const SINGLES: usize = 200;
/// Tasks run before a measurement, so that nothing is done for the first time in it.
const WARM_UP_TASKS: u32 = 500;
/// The same for containers, which take a thousand times as long.
const CONTAINER_SINGLES: usize = 10;
const CONTAINER_WARM_UP_TASKS: u32 = 8;

/// Flags of `bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without a cluster it measures a private one: redis-server and one worker on this host.\n\n\
                        Example:\n  maestro bench --graph layers --tasks 10000"
)]
pub(crate) struct BenchArgs {
    /// Tasks of the run
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tasks: u32,
    /// The shape of the graph
    #[arg(long, value_enum, default_value_t = GraphShape::Flat)]
    graph: GraphShape,
    /// What each task does
    #[arg(long, value_enum, default_value_t = BenchAgent::Noop)]
    agent: BenchAgent,
    /// The image for `--agent docker`, which has a program `true`; it is not pulled
    #[arg(long, value_name = "IMAGE", required_if_eq("agent", "docker"))]
    image: Option<String>,
}

/// What each task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchAgent {
    /// Nothing: the cluster itself is measured
    Noop,
    /// Launch /bin/true in a workspace of its own
    Process,
    /// The same in a container of `--image`, without a network
    Docker,
}

const SHAPE: Shape<Measurement> = Shape {
    columns: &[
        Column::new("GRAPH", |one| one.graph.clone().into()),
        Column::new("AGENT", |one| one.agent.clone().into()),
        Column::new("TASKS", |one| Field::number(one.tasks)),
        Column::new("SUBMITTED/S", |one| Field::number(format!("{:.0}", one.submitted_per_second))),
        Column::new("TASKS/S", |one| Field::number(format!("{:.0}", one.tasks_per_second))),
        Column::new("EDGE P50 MS", |one| Field::or_none(one.edge_p50_ms.map(|ms| format!("{ms:.3}")))),
        Column::new("EDGE P99 MS", |one| Field::or_none(one.edge_p99_ms.map(|ms| format!("{ms:.3}")))),
        Column::new("START P50 MS", |one| Field::or_none(one.start_p50_ms.map(|ms| format!("{ms:.3}")))),
        Column::new("START P99 MS", |one| Field::or_none(one.start_p99_ms.map(|ms| format!("{ms:.3}")))),
        Column::new("ROUND TRIPS/TASK", |one| Field::number(format!("{:.3}", one.roundtrips_per_task))),
        Column::new("WIRE BYTES/TASK", |one| Field::number(format!("{:.0}", one.wire_bytes_per_task))),
        Column::new("WAITING BYTES/TASK", |one| {
            Field::or_none(one.waiting_bytes_per_task.map(|bytes| format!("{bytes:.0}")))
        }),
        Column::new("REDIS CPU US/TASK", |one| Field::number(format!("{:.1}", one.redis_cpu_us_per_task))),
        Column::new("WORKER CPU US/TASK", |one| {
            Field::or_none(one.worker_cpu_us_per_task.map(|us| format!("{us:.1}")))
        }),
    ],
    name: |one| one.graph.clone(),
    none: "nothing was measured",
};

/// Measures and prints.
pub(crate) fn run(args: &BenchArgs, context: &CommandContext) -> Outcome {
    let settings = context.settings()?;
    context.block_on(THREADS, async {
        let measurement = if settings.redis_is_given() || settings.is_up() {
            on_the_cluster(args, &settings, context).await?
        } else {
            on_a_private_one(args, &settings, context).await?
        };
        context.printer.record(&measurement, &SHAPE)?;
        Ok(Exit::Done)
    })
}

fn agent_type(args: &BenchArgs, settings: &Settings, context: &CommandContext) -> Result<AgentType, Failure> {
    let known = local_agents(settings, context)?;
    let noop = known.values().find(|agent| agent.slug.as_str() == "noop").cloned();
    let noop = noop.ok_or_else(|| Failure::not_found("there is no agent type `noop`"))?;
    if let (BenchAgent::Docker, Some(image)) = (args.agent, &args.image) {
        let engine = settings.container_engine();
        engine.ask().map_err(|why| Failure::unavailable(why).hint("start it, or set `DOCKER_HOST`"))?;
        if !engine.has_image(image) {
            let missing = Failure::unavailable(format!("the engine has no image `{image}`"));
            return Err(missing.hint("pull it, or build it"));
        }
    }
    Ok(match args.agent {
        BenchAgent::Noop => noop,
        BenchAgent::Docker => AgentType {
            slug: "bench-container".parse().expect("a lawful slug"),
            description: "launches true in a container, for measurement".to_owned(),
            mode: "bench-container".to_owned(),
            command: Some(vec!["true".to_owned()]),
            isolate_with: Isolation::Docker,
            image: args.image.clone(),
            network: NetworkChoice::None,
            pull: PullPolicy::Never,
            ..noop
        },
        BenchAgent::Process => AgentType {
            slug: "bench-true".parse().expect("a lawful slug"),
            description: "launches /bin/true, for measurement".to_owned(),
            mode: "bench-true".to_owned(),
            command: Some(vec!["/bin/true".to_owned()]),
            ..noop
        },
    })
}

async fn on_the_cluster(
    args: &BenchArgs,
    settings: &Settings,
    context: &CommandContext,
) -> Result<Measurement, Failure> {
    let store = open_store(settings).await?;
    let agent = match args.agent {
        BenchAgent::Noop => agent_type(args, settings, context)?,
        // Workers elsewhere serve what is registered: `shell` is everywhere.
        BenchAgent::Process => {
            let known = local_agents(settings, context)?;
            let shell = known.values().find(|agent| agent.slug.as_str() == "shell").cloned();
            shell.ok_or_else(|| Failure::not_found("there is no agent type `shell`"))?
        }
        BenchAgent::Docker => {
            let refused = Failure::usage("containers are measured on a private cluster");
            return Err(refused.hint("leave out `--redis-url`, and unset `MAESTRO_REDIS_URL`"));
        }
    };
    let mut plan = shaped_plan(args.graph, args.tasks, &agent);
    if args.agent == BenchAgent::Process {
        plan.tasks.iter_mut().for_each(|task| task.prompt = Some("exec /bin/true".to_owned()));
    }
    let begun = Instant::now();
    let submitted = submit(&store, &plan).await?;
    let ended = wait_for_end(&store, &submitted.run).await?;
    let after = store.server_counters().await.map_err(store_failure)?;
    let tasks = f64::from(args.tasks);
    let measurement = Measurement {
        graph: args.graph.word().to_owned(),
        agent: agent.slug.to_string(),
        tasks: args.tasks,
        submitted_per_second: tasks / submitted.took.as_secs_f64(),
        tasks_per_second: tasks / (ended - begun).as_secs_f64(),
        edge_p50_ms: None,
        edge_p99_ms: None,
        start_p50_ms: None,
        start_p99_ms: None,
        roundtrips_per_task: (after.scripts - submitted.after.scripts) as f64 / tasks,
        wire_bytes_per_task: (after.wire_bytes - submitted.after.wire_bytes) as f64 / tasks,
        waiting_bytes_per_task: None,
        redis_cpu_us_per_task: (after.cpu_us - submitted.after.cpu_us) as f64 / tasks,
        worker_cpu_us_per_task: None,
    };
    store.collect_run(&submitted.run).await.map_err(store_failure)?;
    Ok(measurement)
}

/// A Redis and a worker of this command's own. The worker starts after the submission, so that what
/// waits can be weighed.
async fn on_a_private_one(
    args: &BenchArgs,
    settings: &Settings,
    context: &CommandContext,
) -> Result<Measurement, Failure> {
    refuse_within_task(settings, context)?;
    let surroundings = context.surroundings()?;
    let redis = PrivateRedis::start(PrivateRedisPlan::of_local(&surroundings)?, &surroundings)?;
    let options = StoreOptions { url: redis.url(), ..store_options(settings, DAEMON_PATIENCE) };
    let store = connect(&options).await?;
    let workspaces = LocalWorkspaces::make(settings)?;
    let agent = agent_type(args, settings, context)?;
    let (probe, stamps) = mpsc::unbounded_channel();
    let defaults = worker_settings(settings, [(agent.slug.clone(), agent.clone())].into());
    let concurrency = match args.agent {
        BenchAgent::Noop => NOOP_CONCURRENCY,
        BenchAgent::Process | BenchAgent::Docker => settings.max_concurrent() as usize,
    };
    let worker = WorkerSettings {
        workspace_root: workspaces.path.clone(),
        concurrency,
        probe: Some(probe),
        ..defaults
    };
    let bench = PrivateBench { args, store, agent, worker, options };
    let measurement = bench.measure(stamps).await;
    redis.stop();
    measurement
}

struct PrivateBench<'a> {
    args: &'a BenchArgs,
    store: Store,
    agent: AgentType,
    worker: WorkerSettings,
    options: StoreOptions,
}

impl PrivateBench<'_> {
    async fn measure(&self, mut stamps: mpsc::UnboundedReceiver<GrantStamp>) -> Result<Measurement, Failure> {
        self.warm_up().await?;
        let plan = shaped_plan(self.args.graph, self.args.tasks, &self.agent);
        let submitted = submit(&self.store, &plan).await?;
        take_stamps(&mut stamps);
        let cpu_before = process_cpu();
        let (mut worker, _) = RunningWorker::start(self.worker.clone(), self.options.clone()).await?;
        let ended = wait_for_end(&self.store, &submitted.run).await?;
        let cpu = process_cpu().saturating_sub(cpu_before);
        let after = self.store.server_counters().await.map_err(store_failure)?;
        let claims = take_stamps(&mut stamps);
        let mut starts = self.singles(&mut stamps).await?;
        worker.terminate();
        let _ = tokio::time::timeout(LOCAL_END_WAIT, worker.ended()).await;
        let first = claims.iter().map(|stamp| stamp.at).min().unwrap_or(ended);
        Ok(self.measurement(&submitted, &after, &claims, (first, ended), cpu, &mut starts))
    }

    fn measurement(
        &self,
        submitted: &Submitted,
        after: &maestro_store::queues::ServerCounters,
        claims: &[GrantStamp],
        (first, ended): (Instant, Instant),
        cpu: std::time::Duration,
        starts: &mut [f64],
    ) -> Measurement {
        let tasks = f64::from(self.args.tasks);
        let mut gaps = match self.args.graph {
            GraphShape::Chain => gaps_ms(claims, &submitted.run),
            _ => Vec::new(),
        };
        let grown = submitted.after.used_bytes.saturating_sub(submitted.before.used_bytes);
        Measurement {
            graph: self.args.graph.word().to_owned(),
            agent: self.agent.slug.to_string(),
            tasks: self.args.tasks,
            submitted_per_second: tasks / submitted.took.as_secs_f64(),
            tasks_per_second: tasks / ended.saturating_duration_since(first).as_secs_f64(),
            edge_p50_ms: percentile(&mut gaps, 0.5),
            edge_p99_ms: percentile(&mut gaps, 0.99),
            start_p50_ms: percentile(starts, 0.5),
            start_p99_ms: percentile(starts, 0.99),
            roundtrips_per_task: (after.scripts - submitted.after.scripts) as f64 / tasks,
            wire_bytes_per_task: (after.wire_bytes - submitted.after.wire_bytes) as f64 / tasks,
            waiting_bytes_per_task: Some(grown as f64 / tasks),
            redis_cpu_us_per_task: (after.cpu_us - submitted.after.cpu_us) as f64 / tasks,
            worker_cpu_us_per_task: Some(cpu.as_micros() as f64 / tasks),
        }
    }

    fn is_slow(&self) -> bool {
        self.args.agent == BenchAgent::Docker
    }

    async fn warm_up(&self) -> Result<(), Failure> {
        let tasks = if self.is_slow() { CONTAINER_WARM_UP_TASKS } else { WARM_UP_TASKS };
        let plan = shaped_plan(GraphShape::Flat, tasks.min(self.args.tasks), &self.agent);
        let (mut worker, _) = RunningWorker::start(self.worker.clone(), self.options.clone()).await?;
        let submitted = submit(&self.store, &plan).await?;
        wait_for_end(&self.store, &submitted.run).await?;
        self.store.collect_run(&submitted.run).await.map_err(store_failure)?;
        worker.terminate();
        let _ = tokio::time::timeout(LOCAL_END_WAIT, worker.ended()).await;
        Ok(())
    }

    /// Single tasks on an idle cluster: ms from before the submission to the claim.
    async fn singles(&self, stamps: &mut mpsc::UnboundedReceiver<GrantStamp>) -> Result<Vec<f64>, Failure> {
        let plan = shaped_plan(GraphShape::Flat, 1, &self.agent);
        let mut starts = Vec::new();
        for _ in 0..if self.is_slow() { CONTAINER_SINGLES } else { SINGLES } {
            let run = maestro_model::ids::RunId::random(0);
            let begun = Instant::now();
            self.store.submit(&run, &plan, 3).await.map_err(store_failure)?;
            wait_for_end(&self.store, &run).await?;
            let claim = take_stamps(stamps).into_iter().find(|stamp| stamp.task.run == run);
            starts
                .extend(claim.map(|claim| claim.at.saturating_duration_since(begun).as_secs_f64() * 1000.0));
        }
        Ok(starts)
    }
}
