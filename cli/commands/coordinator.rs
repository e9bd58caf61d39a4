//! `maestro coordinator start`: leads or stands by until it is told to end.

use clap::{Args, Subcommand};
use maestro_coordinator::gauges::GaugeDesk;

use super::{CommandContext, Outcome};
use crate::cluster::{DAEMON_PATIENCE, connect, store_options};
use crate::endpoint::Endpoint;
use crate::engine::{Interruptions, RunningCoordinator, coordinator_settings};
use crate::exit::Exit;
use crate::logging::{LogRole, start_logging};
use crate::watched::WatchedCluster;
use crate::within_task::refuse_within_task;

/// Threads of a coordinator.
const THREADS: usize = 1;

/// The verbs of `coordinator`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  maestro coordinator start")]
pub(crate) enum CoordinatorCommand {
    /// Lead or stand by, until told to end
    Start(CoordinatorStartArgs),
}

/// Flags of `coordinator start`.
#[derive(Debug, Args)]
#[command(after_help = "Any number may run; one leads, another takes over within 15 s.\n\n\
                        Example:\n  maestro coordinator start --redis-url redis://redis.internal:6379")]
pub(crate) struct CoordinatorStartArgs {
    /// Serve /metrics, /healthz and /readyz on this port (default: MAESTRO_METRICS_PORT)
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    metrics_port: Option<u16>,
}

/// Runs one of the verbs.
pub(crate) fn run(command: CoordinatorCommand, context: &CommandContext) -> Outcome {
    let CoordinatorCommand::Start(args) = command;
    let settings = context.settings()?;
    refuse_within_task(&settings, context)?;
    settings.check_failsafe()?;
    start_logging(LogRole::Service, &settings, &context.printer);
    context.block_on(THREADS, async {
        let mut interruptions = Interruptions::take_over()?;
        let store = connect(&store_options(&settings, DAEMON_PATIENCE)).await?;
        tracing::info!(redis = store.address(), cluster = store.cluster_id(), "coordinating");
        let mut running = RunningCoordinator::start(coordinator_settings(&settings), store);
        let wires = running.wires.clone();
        let watched =
            WatchedCluster { store: wires.store.subscribe(), turn: wires.turn, desk: GaugeDesk::default() };
        Endpoint::serve_at(args.metrics_port.or(settings.metrics_port()), watched).await?;
        let mut leading = wires.leading.subscribe();
        loop {
            tokio::select! {
                result = running.ended() => {
                    result?;
                    return Ok(Exit::Done);
                }
                Ok(()) = leading.changed() => {
                    let word = if *leading.borrow_and_update() { "leading" } else { "standing by" };
                    tracing::info!("{word}");
                }
                () = interruptions.next() => running.terminate(),
            }
        }
    })
}
