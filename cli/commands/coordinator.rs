//! `maestro coordinator start`: leads or stands by until it is told to end.

use clap::{Args, Subcommand};

use super::{CommandContext, Outcome};
use crate::cluster::{DAEMON_PATIENCE, connect, store_options};
use crate::engine::{Interruptions, RunningCoordinator, coordinator_settings};
use crate::exit::Exit;
use crate::logging::{LogRole, start_logging};

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
pub(crate) struct CoordinatorStartArgs {}

/// Runs one of the verbs.
pub(crate) fn run(command: CoordinatorCommand, context: &CommandContext) -> Outcome {
    let CoordinatorCommand::Start(CoordinatorStartArgs {}) = command;
    let settings = context.settings()?;
    start_logging(LogRole::Service, &settings, &context.printer);
    context.block_on(THREADS, async {
        let mut interruptions = Interruptions::take_over()?;
        let store = connect(&store_options(&settings, DAEMON_PATIENCE)).await?;
        tracing::info!(redis = store.address(), cluster = store.cluster_id(), "coordinating");
        let mut running = RunningCoordinator::start(coordinator_settings(&settings), store);
        let mut leading = running.leading.clone();
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
