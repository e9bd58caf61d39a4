//! From a checked workflow to a run in the cluster.

use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::catalogue::AgentCatalogue;
use maestro_model::compile::{RunInputs, compile};
use maestro_model::diagnostic::Diagnostics;
use maestro_model::dispatch::{DispatchError, DispatchOrder, compile_dispatch};
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
    /// The dispatch cannot be carried out as it is given.
    #[error(transparent)]
    Dispatch(DispatchError),
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
    /// Whether it was submitted before: `run` is that of the first dispatch with the same key.
    pub repeated: bool,
    /// Whether that first one has another plan, and this one is carried out by nobody.
    pub differs: bool,
}

/// Agents and agent types a workflow may name: registered types come before those of this host.
///
/// # Errors
/// `Unreachable`, `Refused`.
pub async fn agent_catalogue(
    store: &Store,
    local: &IndexMap<AgentSlug, AgentType>,
) -> Result<AgentCatalogue, StoreError> {
    let mut types = store.agent_types().await?;
    for (slug, agent) in local {
        types.entry(slug.clone()).or_insert_with(|| agent.clone());
    }
    Ok(AgentCatalogue { types, assigned: store.assignments().await? })
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
    submit_plan(store, plan, lost_max).await
}

/// Submits a plan as a new run. `lost_max` is `MAESTRO_MAX_ATTEMPTS`.
///
/// # Errors
/// What the store refuses: `NotFound` for something it waits for that is not there (any more).
pub async fn submit_plan(store: &Store, plan: Plan, lost_max: u32) -> Result<SubmittedRun, SubmissionError> {
    // A run lies in the cell of those it waits for, where one script reaches both.
    let cell = plan.waits_for.first().map_or(0, |need| need.on.run().cell());
    let answer = store.submit(&RunId::random(cell), &plan, lost_max).await?;
    Ok(SubmittedRun { run: answer.run, plan, repeated: answer.repeated, differs: answer.differs })
}

/// Makes a dispatch and submits it. `lost_max` is `MAESTRO_MAX_ATTEMPTS`.
///
/// # Errors
/// `Dispatch` in words for the user, or what the store refuses.
pub async fn submit_dispatch(
    store: &Store,
    order: &DispatchOrder,
    local_agents: &IndexMap<AgentSlug, AgentType>,
    lost_max: u32,
) -> Result<SubmittedRun, SubmissionError> {
    let catalogue = agent_catalogue(store, local_agents).await?;
    let plan = compile_dispatch(order, &catalogue).map_err(SubmissionError::Dispatch)?;
    submit_plan(store, plan, lost_max).await
}
