//! What a grant brings along, made into what templates read.
//!
//! Workers and coordinators both claim, so both need it, and neither may know the other.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::attempt::TaskOutputs;
use maestro_model::ids::{AgentId, AgentSlug, RunId};
use maestro_model::plan::{References, RunContext, SharedSpec};
use maestro_model::task::TaskStatus;
use maestro_model::template::{Root, Scope};
use serde_json::{Map, Value};

use crate::cell::Store;
use crate::error::StoreError;
use crate::record::TaskRecord;
use crate::runs::StoredOutput;
use crate::state::from_stored;
use crate::step::{GatheredValue, Grant};

/// What all tasks of a run share, as far as this process has needed it.
#[derive(Debug, Clone)]
pub struct KnownRun {
    /// What templates read.
    pub context: Arc<RunContext>,
    /// Agent types as at submission.
    pub agents: HashMap<String, Arc<AgentType>>,
    /// Shared parts, by number.
    pub shared: HashMap<u32, Arc<SharedSpec>>,
}

/// Results of a `foreach`, in item order, null where an item failed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupOutputs {
    /// `steps.<id>.result`
    pub result: Vec<Value>,
    /// `steps.<id>.outputs`
    pub outputs: Map<String, Value>,
}

impl GroupOutputs {
    /// Puts the items' outputs side by side.
    pub fn join(items: &[Option<StoredOutput>]) -> GroupOutputs {
        let mut joined = GroupOutputs::default();
        for (place, item) in items.iter().enumerate() {
            let outputs = item.as_ref().and_then(|item| item.outputs.clone());
            let TaskOutputs { result, outputs } = outputs.unwrap_or_default();
            joined.result.push(result);
            for (name, value) in outputs {
                let list = joined
                    .outputs
                    .entry(name)
                    .or_insert_with(|| Value::Array(vec![Value::Null; items.len()]));
                if let Value::Array(list) = list {
                    list[place] = value;
                }
            }
        }
        joined
    }
}

/// A grant with all it needs.
#[derive(Debug, Clone)]
pub struct ReadyGrant {
    /// The grant.
    pub grant: Grant,
    /// Its shared part.
    pub shared: Arc<SharedSpec>,
    /// Its agent type.
    pub agent: Arc<AgentType>,
    /// What the run's templates read.
    pub context: Arc<RunContext>,
    /// Outputs of the groups among its values.
    pub groups: HashMap<u32, GroupOutputs>,
}

/// Whether the run is known well enough for this grant.
pub fn make_ready(
    grant: Grant,
    known: Option<&KnownRun>,
    groups: HashMap<u32, GroupOutputs>,
) -> Result<Box<ReadyGrant>, Box<Grant>> {
    let needs_groups = grant.values.iter().any(|value| match value {
        GatheredValue::Group { index, .. } => !groups.contains_key(index),
        _ => false,
    });
    let found = known.and_then(|known| {
        let shared = known.shared.get(&grant.shared)?;
        let agent = known.agents.get(shared.agent.as_str())?;
        Some((shared.clone(), agent.clone(), known.context.clone()))
    });
    match found {
        Some((shared, agent, context)) if !needs_groups => {
            Ok(Box::new(ReadyGrant { grant, shared, agent, context, groups }))
        }
        _ => Err(Box::new(grant)),
    }
}

/// What the templates of a task read, short of `prompt` and `workspace`.
pub fn scope_of(ready: &ReadyGrant, worker: &str) -> Scope {
    let context = &ready.context;
    let grant = &ready.grant;
    let object = |map: &IndexMap<String, Value>| Value::Object(map.clone().into_iter().collect());
    let mut scope = Scope::new()
        .with(Root::Vars, object(&context.vars))
        .with(Root::Params, object(&context.params))
        .with(Root::Run, run_value(&grant.task.run, context))
        .with(Root::Attempt, grant.attempt.0)
        .with(Root::Task, task_value(ready))
        .with(Root::Agent, agent_value(ready))
        .with(Root::Env, serde_json::json!({ "MAESTRO_WORKER": worker }));
    if let Some(item) = &grant.own.item {
        scope.set(Root::Item, item.clone());
    }
    let (steps, state) = gathered(ready);
    scope.set(Root::Steps, steps);
    scope.set(Root::State, state);
    scope
}

fn run_value(run: &RunId, context: &RunContext) -> Value {
    let mut value =
        serde_json::json!({ "id": run, "workflow": context.workflow, "version": context.version });
    if let Some(folder) = &context.folder {
        value["folder"] = folder.as_str().into();
    }
    value
}

fn task_value(ready: &ReadyGrant) -> Value {
    let grant = &ready.grant;
    serde_json::json!({
        "id": grant.task.to_string(),
        "step": grant.own.step,
        "index": grant.own.number,
        "priority": ready.shared.priority,
    })
}

fn agent_value(ready: &ReadyGrant) -> Value {
    let id = ready.shared.assigned.as_ref().map_or(ready.agent.slug.as_str(), AgentId::as_str);
    serde_json::json!({
        "id": id,
        "type": ready.agent.slug,
        "mode": ready.agent.mode,
        "role": ready.shared.role,
        "priority": ready.shared.priority,
    })
}

/// `steps` and `state` of the scope: only what was asked for is there, so that an unknown name is one.
fn gathered(ready: &ReadyGrant) -> (Value, Value) {
    let mut steps = Map::new();
    let mut state = Map::new();
    let names = |references: &References| references.steps.clone();
    let mut by_index: HashMap<u32, Vec<String>> = HashMap::new();
    for (name, index) in names(&ready.grant.own.references).into_iter().chain(names(&ready.shared.references))
    {
        by_index.entry(index).or_default().push(name.to_string());
    }
    for value in &ready.grant.values {
        let (index, value) = match value {
            GatheredValue::State { key, value, json } => {
                if let Some(text) = value {
                    state.insert(key.clone(), from_stored(text.clone(), *json));
                }
                continue;
            }
            GatheredValue::Step { index, record, output } => {
                (index, step_value(record.as_ref(), output.as_deref()))
            }
            GatheredValue::Group { index, record, .. } => {
                let group = ready.groups.get(index).cloned().unwrap_or_default();
                (index, group_value(record.as_ref(), group))
            }
        };
        for name in by_index.get(index).into_iter().flatten() {
            steps.insert(name.clone(), value.clone());
        }
    }
    (Value::Object(steps), Value::Object(state))
}

fn record_fields(record: Option<&TaskRecord>) -> Map<String, Value> {
    let mut fields = Map::new();
    if let Some(record) = record {
        fields.insert("status".to_owned(), record.status.word().into());
        if let Some(reason) = record.reason {
            fields.insert("reason".to_owned(), reason.word().into());
        }
        if let Some(code) = record.exit_code {
            fields.insert("exit_code".to_owned(), code.into());
        }
    }
    fields
}

/// What `steps.<id>` stands for. A step without a result has none: reading it is an unknown name.
pub fn step_value(record: Option<&TaskRecord>, output: Option<&str>) -> Value {
    let mut fields = record_fields(record);
    let stored: StoredOutput = output.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    if let Some(TaskOutputs { result, outputs }) = stored.outputs {
        fields.insert("result".to_owned(), result);
        fields.insert("outputs".to_owned(), Value::Object(outputs.into_iter().collect()));
    }
    if let Some(message) = stored.message {
        fields.insert("message".to_owned(), message.into());
    }
    Value::Object(fields)
}

fn group_value(record: Option<&TaskRecord>, group: GroupOutputs) -> Value {
    let mut fields = record_fields(record);
    if record.is_some_and(|record| record.status == TaskStatus::Skipped) {
        // Its items never were: a list of nulls would look like items that failed.
        return Value::Object(fields);
    }
    fields.insert("result".to_owned(), Value::Array(group.result));
    fields.insert("outputs".to_owned(), Value::Object(group.outputs));
    Value::Object(fields)
}

impl Store {
    /// Reads what a grant's run shares, and the outputs of groups it refers to.
    ///
    /// # Errors
    /// `NotFound` if the run is gone.
    pub async fn grant_parts(
        &self,
        grant: &Grant,
    ) -> Result<(KnownRun, HashMap<u32, GroupOutputs>), StoreError> {
        let run = &grant.task.run;
        let parts = self.run_parts(run, &[grant.shared], &[]).await?;
        let slugs: Vec<AgentSlug> = parts.shared.values().map(|shared| shared.agent.clone()).collect();
        let agents = self.run_parts(run, &[], &slugs).await?.agents;
        let known = KnownRun {
            context: Arc::new(parts.context),
            agents: agents.into_iter().map(|(slug, agent)| (slug.to_string(), Arc::new(agent))).collect(),
            shared: parts.shared.into_iter().map(|(number, shared)| (number, Arc::new(shared))).collect(),
        };
        let mut groups = HashMap::new();
        for value in &grant.values {
            if let GatheredValue::Group { index, first, count, .. } = value {
                let indexes: Vec<u32> = (*first..first + count).collect();
                groups.insert(*index, GroupOutputs::join(&self.outputs(run, &indexes).await?));
            }
        }
        Ok((known, groups))
    }
}
