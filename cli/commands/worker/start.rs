//! `maestro worker start`: claims tasks and runs agents until it is told to end.

use std::collections::BTreeMap;

use clap::Args;
use maestro_model::ids::AgentSlug;
use maestro_vitals::pulse::WorkerPulse;
use maestro_worker::settings::WorkerSettings;

use crate::catalogue::agents_to_serve;
use crate::cluster::{DAEMON_PATIENCE, store_options};
use crate::commands::{CommandContext, Outcome};
use crate::endpoint::Endpoint;
use crate::engine::{Interruptions, RunningWorker, say_serving, worker_settings};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::logging::{LogRole, start_logging};
use crate::watched::WatchedWorker;
use crate::within_task::refuse_within_task;

/// Threads beside the one that beats.
const THREADS: usize = 2;
/// Most tasks of one worker.
const CONCURRENCY_MAX: u32 = 10_000;

/// Flags of `worker start`.
#[derive(Debug, Args)]
#[command(
    after_help = "SIGTERM drains: no new tasks, running ones may end until MAESTRO_DRAIN_DEADLINE, then \
                        they go back unburned. SIGTERM twice ends them at once, with their grace period; a third one without.\n\n\
                        Example:\n  maestro worker start --name alpha --concurrency 8 --agents shell,noop"
)]
pub(crate) struct WorkerStartArgs {
    /// Tasks at one time (default: MAESTRO_MAX_CONCURRENT)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(CONCURRENCY_MAX)))]
    concurrency: Option<u32>,
    /// Serve only these agent types
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    agents: Vec<AgentSlug>,
    /// The worker's name (default: the host's)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Serve /metrics, /healthz and /readyz on this port (default: MAESTRO_METRICS_PORT)
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    metrics_port: Option<u16>,
    /// A label that agent types may ask for (repeatable)
    #[arg(long = "label", value_name = "K=V")]
    labels: Vec<String>,
}

/// Serves until SIGTERM.
pub(crate) fn run(args: WorkerStartArgs, context: &CommandContext) -> Outcome {
    let settings = context.settings()?;
    refuse_within_task(&settings, context)?;
    start_logging(LogRole::Service, &settings, &context.printer);
    settings.check_lease()?;
    settings.check_failsafe()?;
    let defaults = worker_settings(&settings, agents_to_serve(&settings, context)?);
    let pulse = WorkerPulse::default();
    let port = args.metrics_port.or(settings.metrics_port());
    let watched = WatchedWorker { pulse: pulse.clone(), lease: settings.lease() };
    let worker = WorkerSettings {
        name: args.name,
        concurrency: args.concurrency.map_or(defaults.concurrency, |number| number as usize),
        only_agents: args.agents,
        labels: labels(&args.labels)?,
        // Where nobody asks nothing is measured.
        pulse: port.is_some().then_some(pulse),
        ..defaults
    };
    let options = store_options(&settings, DAEMON_PATIENCE);
    context.block_on(THREADS, async {
        let mut interruptions = Interruptions::take_over()?;
        Endpoint::serve_at(port, watched).await?;
        let concurrency = worker.concurrency;
        let (mut running, ready) = RunningWorker::start(worker, options).await?;
        say_serving(&ready, concurrency);
        for (slug, reason) in &ready.unserved {
            tracing::info!("agent type `{slug}` is not served: {reason}");
        }
        loop {
            tokio::select! {
                result = running.ended() => {
                    result?;
                    tracing::info!(worker = %ready.name, "ended; nothing is left running");
                    return Ok(Exit::Done);
                }
                () = interruptions.next() => {
                    tracing::info!(worker = %ready.name, "draining");
                    running.terminate();
                }
            }
        }
    })
}

fn labels(pairs: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let read = |pair: &String| match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("`{pair}` is not a label: expected `NAME=VALUE`"))),
    };
    pairs.iter().map(read).collect()
}
