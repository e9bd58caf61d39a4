//! `maestro monitor problems`: what needs a person.

use clap::Args;
use maestro_coordinator::health::{HealthFacts, problems};

use super::entry::{PROBLEM_ROWS, ProblemEntry};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;

/// Flags of `monitor problems`: none.
#[derive(Debug, Args)]
#[command(
    after_help = "What passes by itself is left out: a worker whose tasks have gone back, an agent that is ended for \
                        its silence. `maestro monitor start --once` prints that too and ends with 1 if anything is \
                        wrong.\n\nExample:\n  maestro monitor problems"
)]
pub(crate) struct MonitorProblemsArgs {}

/// Looks once and lists it.
pub(crate) fn run(_args: &MonitorProblemsArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let found = problems(&HealthFacts::read(&store).await?);
        let found = found.into_iter().filter(|problem| problem.needs_person);
        let entries: Vec<ProblemEntry> = found.map(ProblemEntry::of).collect();
        context.printer.list(&entries, &PROBLEM_ROWS)?;
        Ok(Exit::Done)
    })
}
