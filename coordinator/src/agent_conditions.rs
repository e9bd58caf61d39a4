//! Which assigned agents are failed now, by the rules of `health`: for snapshots, which say it.

use std::collections::BTreeSet;

use maestro_model::ids::AgentSlug;
use maestro_store::worker::ProcessRole;
use maestro_store::{Store, StoreError};

use crate::health::agent_problems;

/// Ids of the agents with which something is wrong.
///
/// # Errors
/// `Unreachable`, `Refused`, `Unreadable`.
pub async fn failed_agents(store: &Store) -> Result<Vec<String>, StoreError> {
    let mut workers = store.processes().await?;
    workers.retain(|process| process.about.role == ProcessRole::Worker);
    let types: BTreeSet<AgentSlug> = store.agent_types().await?.into_keys().collect();
    let (assigned, now_ms) = (store.assignments().await?, store.server_time_ms().await?);
    let failed = assigned.values().filter(|agent| {
        let worker = workers.iter().find(|worker| worker.name == agent.worker.as_str());
        !agent_problems(agent, worker, &types, now_ms).is_empty()
    });
    Ok(failed.map(|agent| agent.id.to_string()).collect())
}
