//! `--resume-from`: a new run of an old one's definition, in which everything not downstream of a step
//! keeps what it came to.
//!
//! The plan is compiled anew from the text, the values and the agent types that the old run kept; tasks
//! that are not to run again are taken over with their records and outputs, ended before the run begins.
//! Deliberately not here: which run is meant, and asking anybody.

mod keeping;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use indexmap::IndexMap;
use maestro_model::catalogue::AgentCatalogue;
use maestro_model::compile::{RunInputs, compile};
use maestro_model::diagnostic::{Diagnostics, SourceText, nearest_name};
use maestro_model::ids::{RunId, StepId, TaskId};
use maestro_model::plan::{Plan, TASKS_PER_RUN_MAX};
use maestro_model::task::TaskStatus;
use maestro_model::workflow::{KnownNames, Workflow, parse_workflow};
use maestro_store::runs::{RunParts, RunRecord, RunStatus, TaskView};
use maestro_store::{Refusal, Store, StoreError};

use keeping::KeepingSteps;

/// Runs looked at when none is named.
const RUNS_LOOKED_AT_MAX: usize = 10_000;

/// A run that goes on where another one is to be taken up again; nothing is submitted yet.
#[derive(Debug)]
pub struct ResumePlan {
    /// What `submit_plan` takes.
    pub plan: Plan,
    /// The workflow, as the old run had it.
    pub workflow: Workflow,
    /// Steps that run, as far as their edges and their `when` let them, in the order of the file.
    pub will_run: Vec<StepId>,
    /// Steps that do not, and what they came to, in the order of the file.
    pub keeps: Vec<KeptStep>,
}

/// A step that does not run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptStep {
    /// Which.
    pub step: StepId,
    /// Its end in the new run: that of the old one; `skipped` if it had none there and cannot run now.
    pub status: TaskStatus,
}

/// Why a run cannot be taken up again.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// It goes on: stop it first, or wait for its end.
    #[error("run `{run}` has not ended: it is {}", status.word())]
    NotEnded {
        /// The run.
        run: RunId,
        /// Where it is in its life.
        status: RunStatus,
    },
    /// It was not made from a definition: a dispatch has none.
    #[error("run `{run}` is no run of a workflow: there is nothing to resume")]
    NoDefinition {
        /// The run.
        run: RunId,
    },
    /// It has no such step.
    #[error("run `{run}` has no step `{step}`")]
    UnknownStep {
        /// The run.
        run: RunId,
        /// The step asked for.
        step: StepId,
        /// The nearest one that there is.
        nearest: Option<String>,
    },
    /// The items that are taken over and those of the new run are too many.
    #[error("the run would have {tasks} tasks; the limit is {TASKS_PER_RUN_MAX}")]
    TooManyTasks {
        /// How many.
        tasks: usize,
    },
    /// Its definition does not hold any more.
    #[error("the definition of run `{run}` cannot be run any more")]
    Invalid {
        /// The run.
        run: RunId,
        /// Every error, marked.
        problems: Diagnostics,
    },
    /// Redis refused, or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The newest run of a workflow that did not complete: what is resumed if no run is named.
///
/// # Errors
/// `NotFound` if there is none among the newest ten thousand runs.
pub async fn newest_incomplete_run(store: &Store, workflow: &str) -> Result<RunRecord, StoreError> {
    for id in store.run_ids(RUNS_LOOKED_AT_MAX).await? {
        let Some(record) = store.run(&id).await? else { continue };
        let incomplete = !matches!(record.status, RunStatus::Completed | RunStatus::Loading);
        if record.workflow == workflow && incomplete {
            return Ok(record);
        }
    }
    let what = format!("run of workflow `{workflow}` that did not complete");
    Err(Refusal::NotFound { what }.into())
}

/// Works out what a resumed run is made of. `default_timeout_ms` is `MAESTRO_AGENT_TIMEOUT`.
///
/// # Errors
/// See [`ResumeError`]; `NotFound` if the run is not there.
pub async fn resume_plan(
    store: &Store,
    run: &RunId,
    from: &StepId,
    default_timeout_ms: u64,
    trace: bool,
) -> Result<ResumePlan, ResumeError> {
    let record = store.run(run).await?;
    let record = record.ok_or_else(|| Refusal::NotFound { what: format!("run `{run}`") });
    let record = record.map_err(StoreError::from)?;
    if !record.status.is_final() {
        return Err(ResumeError::NotEnded { run: run.clone(), status: record.status });
    }
    let text = store.run_definition(run).await?;
    let text = text.ok_or_else(|| ResumeError::NoDefinition { run: run.clone() })?;
    let old = OldRun::read(store, &record).await?;
    let invalid = |problems| ResumeError::Invalid { run: run.clone(), problems };
    let catalogue = old.catalogue(store).await?;
    let context = old.parts.context.clone();
    let vars: Vec<String> = context.vars.keys().cloned().collect();
    let source = SourceText::new(format!("{}.yaml", context.workflow), text);
    let parsed = parse_workflow(source, KnownNames { agents: None, vars: &vars }).map_err(invalid)?;
    let workflow = parsed.workflow;
    let inputs = RunInputs {
        vars: context.vars,
        params: context.params,
        default_timeout_ms,
        trace,
        folder: context.folder,
    };
    let plan = compile(&workflow, &inputs, &catalogue).map_err(invalid)?;
    let Some(start) = plan.tasks.iter().position(|task| task.step == *from) else {
        let steps = workflow.steps.iter().map(|step| step.id.value.as_str());
        let nearest = nearest_name(from.as_str(), steps).map(str::to_owned);
        return Err(ResumeError::UnknownStep { run: run.clone(), step: from.clone(), nearest });
    };
    let kept = KeepingSteps::new(&plan, &old, start as u32).decide();
    let plan = kept.apply(plan, &old).map_err(|tasks| ResumeError::TooManyTasks { tasks })?;
    Ok(listed(plan, workflow))
}

/// The steps of a plan by what becomes of them, in the order of the file.
fn listed(plan: Plan, workflow: Workflow) -> ResumePlan {
    let ends: HashMap<&StepId, TaskStatus> = plan
        .tasks
        .iter()
        .enumerate()
        .filter(|(_, task)| !keeping::is_item(task))
        .filter_map(|(index, task)| Some((&task.step, plan.seeds.get(&(index as u32))?.status)))
        .collect();
    let (mut will_run, mut keeps) = (Vec::new(), Vec::new());
    for step in workflow.steps.iter().map(|step| &step.id.value) {
        match ends.get(step) {
            Some(status) => keeps.push(KeptStep { step: step.clone(), status: *status }),
            None => will_run.push(step.clone()),
        }
    }
    ResumePlan { plan, workflow, will_run, keeps }
}

/// All that is known of the run that is taken up again.
pub(crate) struct OldRun {
    parts: RunParts,
    /// Steps by name.
    steps: HashMap<String, TaskView>,
    /// Items by the task of their `foreach`, in their order.
    items: HashMap<u32, Vec<TaskView>>,
    /// Outputs of what ended, as stored.
    outputs: HashMap<u32, String>,
    /// Agents that its steps named, as against agent types.
    assigned: BTreeSet<String>,
}

impl OldRun {
    async fn read(store: &Store, record: &RunRecord) -> Result<OldRun, StoreError> {
        let run = &record.id;
        let (mut steps, mut items) = (HashMap::new(), HashMap::<u32, Vec<TaskView>>::new());
        let mut numbers = BTreeSet::new();
        let mut ended = Vec::new();
        for task in store.tasks(run, 0..record.tasks).await? {
            numbers.insert(task.shared);
            if task.record.is_some() {
                ended.push(task.id.index);
            }
            match task.group {
                Some(group) => items.entry(group).or_default().push(task),
                None => drop(steps.insert(task.own.step.clone(), task)),
            }
        }
        let numbers: Vec<u32> = numbers.into_iter().collect();
        let shared = store.run_parts(run, &numbers, &[]).await?.shared;
        let slugs: BTreeSet<_> = shared.values().map(|part| part.agent.clone()).collect();
        let assigned = shared.values().filter_map(|part| part.assigned.as_ref()).map(ToString::to_string);
        let assigned = assigned.collect();
        let parts = store.run_parts(run, &numbers, &slugs.into_iter().collect::<Vec<_>>()).await?;
        let found = store.stored_outputs(run, &ended).await?;
        let outputs = ended.into_iter().zip(found).filter_map(|(index, text)| Some((index, text?)));
        Ok(OldRun { parts, steps, items, outputs: outputs.collect(), assigned })
    }

    /// The agent types as the old run had them; of the agents only those that it named.
    async fn catalogue(&self, store: &Store) -> Result<AgentCatalogue, StoreError> {
        let mut assigned: IndexMap<_, _> = store.assignments().await?;
        assigned.retain(|id, _| self.assigned.contains(id.as_str()));
        Ok(AgentCatalogue { types: self.parts.agents.clone(), assigned })
    }

    /// The task that did the work: of one that was taken over itself, that of the run before.
    fn origin(&self, task: &TaskView) -> TaskId {
        let taken_over = task.record.as_ref().is_some_and(|record| record.flags.contains('o'));
        let origin = task.own.origin.clone().filter(|_| taken_over);
        origin.unwrap_or_else(|| task.id.clone())
    }
}

/// Seeds by index.
pub(crate) type Seeds = BTreeMap<u32, maestro_model::plan::TaskSeed>;
