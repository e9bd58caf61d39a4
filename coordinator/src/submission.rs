//! From a checked workflow to a run in the cluster.

use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::compile::{RunInputs, compile};
use maestro_model::diagnostic::Diagnostics;
use maestro_model::ids::{AgentSlug, RunId};
use maestro_model::plan::Plan;
use maestro_model::workflow::Workflow;
use maestro_store::{Store, StoreError};

/// Why a run was not submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// The workflow and what it was given do not fit.
    #[error("the workflow cannot be run as it is given")]
    Invalid(Diagnostics),
    /// Redis refused, or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A submitted run.
#[derive(Debug)]
pub struct SubmittedRun {
    /// Its id.
    pub run: RunId,
    /// What was submitted.
    pub plan: Plan,
}

/// Agent types a workflow may use: those registered come before those of this host.
///
/// # Errors
/// `Unreachable`, `Refused`.
pub async fn agent_catalogue(
    store: &Store,
    local: &IndexMap<AgentSlug, AgentType>,
) -> Result<IndexMap<AgentSlug, AgentType>, StoreError> {
    let mut catalogue = store.agent_types().await?;
    for (slug, agent) in local {
        catalogue.entry(slug.clone()).or_insert_with(|| agent.clone());
    }
    Ok(catalogue)
}

/// Compiles a workflow and submits it as a new run. `lost_max` is `MAESTRO_MAX_ATTEMPTS`.
///
/// # Errors
/// `Invalid` with marked lines, or what the store refuses.
pub async fn submit_workflow(
    store: &Store,
    workflow: &Workflow,
    inputs: &RunInputs,
    local_agents: &IndexMap<AgentSlug, AgentType>,
    lost_max: u32,
) -> Result<SubmittedRun, SubmissionError> {
    let catalogue = agent_catalogue(store, local_agents).await?;
    let plan = compile(workflow, inputs, &catalogue).map_err(SubmissionError::Invalid)?;
    let run = RunId::random(0);
    store.submit(&run, &plan, lost_max).await?;
    Ok(SubmittedRun { run, plan })
}
