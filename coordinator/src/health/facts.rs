//! All that the rules look at, read at one moment.

use std::collections::BTreeSet;
use std::time::Duration;

use maestro_model::assignment::Assignment;
use maestro_model::ids::AgentSlug;
use maestro_store::step::CellMode;
use maestro_store::worker::{AttachedProcess, ProcessRole};
use maestro_store::{Store, StoreError};

/// A worker that was lost is spoken of for so long, unless it comes back.
const LOST_TOLD: Duration = Duration::from_secs(600);

/// What is known of a cluster's health.
#[derive(Debug, Clone)]
pub struct HealthFacts {
    /// Redis' clock, ms since 1970.
    pub now_ms: u64,
    /// Attempts lost so far.
    pub losses: u64,
    /// What the cell does with work.
    pub mode: CellMode,
    /// Workers that have a lease, or had one a moment ago.
    pub workers: Vec<AttachedProcess>,
    /// Workers whose lease ran out and that are not back, and when, ms since 1970.
    pub lost: Vec<(String, u64)>,
    /// Agents and their folders.
    pub assigned: Vec<Assignment>,
    /// Registered agent types.
    pub types: BTreeSet<AgentSlug>,
}

impl HealthFacts {
    /// Reads them.
    ///
    /// # Errors
    /// What the store says.
    pub async fn read(store: &Store) -> Result<HealthFacts, StoreError> {
        let moment = store.moment().await?;
        let mut workers = store.processes().await?;
        workers.retain(|process| process.about.role == ProcessRole::Worker);
        Ok(HealthFacts {
            now_ms: moment.now_ms,
            losses: moment.losses,
            mode: store.cell_mode().await?,
            workers,
            lost: store.lost_workers(moment.now_ms.saturating_sub(LOST_TOLD.as_millis() as u64)).await?,
            assigned: store.assignments().await?.into_values().collect(),
            types: store.agent_types().await?.into_keys().collect(),
        })
    }
}
