//! `maestro agent assign --from-snapshot`: every assignment that a snapshot has, made again.

use std::path::Path;

use maestro_model::assignment::Assignment;
use maestro_store::assignments::AssignAnswer;

use super::assign::{AssignedRecord, SHAPE, prepare, record_of};
use crate::agents::AgentOverview;
use crate::cluster::open_store;
use crate::commands::state::open_verified;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::letters::find_worker;

/// Assigns each; what is so already stays.
pub(super) fn run(snapshot: &Path, context: &CommandContext) -> Outcome {
    let archive = open_verified(snapshot, context)?;
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let overview = AgentOverview::read(&store).await?;
        let mut records: Vec<AssignedRecord> = Vec::new();
        for archived in &archive.agents.assignments {
            if !overview.types.contains_key(&archived.agent_type) {
                return Err(Failure::not_found(format!("there is no agent type `{}`", archived.agent_type))
                    .hint("register it first, or restore the snapshot: `maestro state restore`"));
            }
            let is_same =
                overview.assigned.get(&archived.id).is_some_and(|known| says_the_same(known, archived));
            let answer = if is_same {
                AssignAnswer::Unchanged
            } else {
                let worker = find_worker(&store, archived.worker.as_str()).await?;
                prepare(&store, &worker, archived, &overview, context).await?;
                store.assign(archived).await?
            };
            records.push(record_of(archived, &answer)?);
        }
        context.printer.list(&records, &SHAPE)?;
        Ok(Exit::Done)
    })
}

/// Whether all that can be assigned is the same.
fn says_the_same(known: &Assignment, archived: &Assignment) -> bool {
    (&known.agent_type, &known.path, &known.worker, &known.role, known.priority)
        == (&archived.agent_type, &archived.path, &archived.worker, &archived.role, archived.priority)
}
