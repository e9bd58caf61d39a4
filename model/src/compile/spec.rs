//! What tasks have in common, each kept once.
//!
//! A run of a hundred thousand tasks has a handful of these; the plan and Redis hold each once, and
//! a task names its own by number.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use indexmap::IndexMap;

use super::inputs::{DEFAULT_PRIORITY, Given, RunInputs};
use crate::agent_type::AgentType;
use crate::catalogue::{AgentCatalogue, NamedAgent};
use crate::diagnostic::Diagnostics;
use crate::ids::{AgentSlug, StepId};
use crate::plan::{QueueName, References, SharedSpec, WorkspaceChoice};
use crate::retry::RetryPolicy;
use crate::template::{NameUse, Root, Template};
use crate::template_text::TemplateText;
use crate::workflow::{RetryRules, Step, Workflow, WorkspaceName};

/// What a step says, with defaults of the workflow, the agent type and the run filled in.
pub(super) struct SpecMaker<'a> {
    workflow: &'a Workflow,
    inputs: &'a RunInputs,
    /// Where tasks of `workspace: run` wait.
    bound_queue: Option<QueueName>,
    /// The names that templates of an agent type read.
    agent_names: HashMap<&'a AgentSlug, Vec<NameUse>>,
}

impl<'a> SpecMaker<'a> {
    /// Looks at the agent types that are used; what they cannot read is added to the problems.
    pub(super) fn new(
        workflow: &'a Workflow,
        inputs: &'a RunInputs,
        bound: &[AgentSlug],
        agents: &'a AgentCatalogue,
        given: &Given,
        problems: &mut Diagnostics,
    ) -> SpecMaker<'a> {
        let mut agent_names: HashMap<&AgentSlug, Vec<NameUse>> = HashMap::new();
        for step in &workflow.steps {
            let slug = &step.agent.value;
            if agent_names.contains_key(slug) {
                continue;
            }
            let Ok(NamedAgent { agent_type, .. }) = agents.find(slug.as_str()) else {
                continue;
            };
            let names = agent_type_names(agent_type);
            for name in names.iter().filter(|name| given.lacks(name)) {
                let read_by = &agent_type.slug;
                let message = format!("agent type `{read_by}` reads `{name}`, which this run does not have");
                let problem = workflow.source.error(step.agent.place.clone(), message);
                problems.push(problem.hint(match name.root {
                    Root::Params => "give it with `--param`",
                    _ => "add it to `vars`, or give it with `--vars`",
                }));
            }
            agent_names.insert(slug, names);
        }
        let bound_queue = (!bound.is_empty()).then(|| QueueName::agents(bound));
        SpecMaker { workflow, inputs, bound_queue, agent_names }
    }

    /// What the step's tasks have in common, and what its own prompt reads. `items` = all its tasks are
    /// items, which share the prompt as well; `certain` = its `when` needs no deciding any more.
    pub(super) fn spec(
        &self,
        step: &Step,
        agent: NamedAgent<'_>,
        items: bool,
        certain: bool,
        places: &dyn Fn(&str) -> Option<u32>,
    ) -> SharedSpec {
        let defaults = &self.workflow.defaults;
        let NamedAgent { agent_type, assigned } = agent;
        let mut env: IndexMap<String, String> = IndexMap::new();
        for (name, text) in defaults.env.iter().chain(&step.env) {
            env.insert(name.clone(), text.text().to_owned());
        }
        let workspace = match (assigned, workspace_of(self.workflow, step)) {
            // An agent has a folder of its own, wherever the workflow would put a type.
            (Some(_), _) => WorkspaceChoice::Assigned,
            (None, None | Some(WorkspaceName::Task)) => WorkspaceChoice::Task,
            (None, Some(WorkspaceName::Run)) => WorkspaceChoice::Run,
            (None, Some(WorkspaceName::Step(id))) => WorkspaceChoice::Step(id.clone()),
        };
        let queue = match (assigned, &workspace, &self.bound_queue) {
            (Some(assigned), ..) => QueueName::assigned(&assigned.id),
            (None, WorkspaceChoice::Run, Some(queue)) => queue.clone(),
            _ => QueueName::agent(&agent_type.slug),
        };
        let when = step.when.as_ref().filter(|_| !certain);
        SharedSpec {
            agent: agent_type.slug.clone(),
            assigned: assigned.map(|assigned| assigned.id.clone()),
            queue,
            priority: priority_of(self.workflow, step, agent),
            role: step.role.clone().or_else(|| assigned.and_then(|assigned| assigned.role.clone())),
            prompt: step.prompt.as_ref().filter(|_| items).map(|prompt| prompt.text().to_owned()),
            references: self.shared_references(step, items, when, places),
            when: when.map(|when| when.text().to_owned()),
            publish: step.publish.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect(),
            env,
            timeout_ms: step
                .timeout_ms
                .or(defaults.timeout_ms)
                .or(agent_type.timeout_ms)
                .unwrap_or(self.inputs.default_timeout_ms),
            queue_timeout_ms: step.queue_timeout_ms.or(defaults.queue_timeout_ms),
            stall_timeout_ms: step
                .stall_timeout_ms
                .or(defaults.stall_timeout_ms)
                .or(agent_type.stall_timeout_ms),
            retry: retry_policy(&step.retry, &defaults.retry),
            workspace,
            continue_on: step.continue_on,
        }
    }

    fn shared_references(
        &self,
        step: &Step,
        items: bool,
        when: Option<&TemplateText>,
        places: &dyn Fn(&str) -> Option<u32>,
    ) -> References {
        let prompt = step.prompt.iter().filter(|_| items);
        let env = self.workflow.defaults.env.values().chain(step.env.values());
        let publish = step.publish.values().flat_map(|value| &value.templates);
        let texts = prompt.chain(when).chain(env).chain(publish).flat_map(|text| &text.names);
        let agent = self.agent_names.get(&step.agent.value).into_iter().flatten();
        let mut references = references(texts.chain(agent), places);
        // The record of the step whose folder is copied says where that folder is.
        if let Some(WorkspaceName::Step(id)) = workspace_of(self.workflow, step)
            && let Some(place) = places(id.as_str())
        {
            references.steps.insert(id.clone(), place);
        }
        references
    }
}

/// What names read beyond the run's context, with steps as numbers of their tasks.
pub(crate) fn references<'n>(
    names: impl Iterator<Item = &'n NameUse>,
    places: &dyn Fn(&str) -> Option<u32>,
) -> References {
    let mut found = References::default();
    for name in names {
        if let Some(key) = name.state_key()
            && !found.state.iter().any(|known| known == key)
        {
            found.state.push(key.to_owned());
        }
        if let Some(step) = name.step()
            && let (Some(index), Ok(id)) = (places(step), step.parse::<StepId>())
        {
            found.steps.insert(id, index);
        }
    }
    found
}

/// The folder a step works in, by itself or by the workflow's defaults.
pub(super) fn workspace_of<'w>(workflow: &'w Workflow, step: &'w Step) -> Option<&'w WorkspaceName> {
    step.workspace.as_ref().or(workflow.defaults.workspace.as_ref()).map(|name| &name.value)
}

/// The priority of a step: by itself, by the workflow's defaults, or by its agent.
pub(super) fn priority_of(workflow: &Workflow, step: &Step, agent: NamedAgent<'_>) -> u8 {
    let agents = || agent.assigned.and_then(|assigned| assigned.priority);
    step.priority.or(workflow.defaults.priority).or_else(agents).unwrap_or(DEFAULT_PRIORITY)
}

fn retry_policy(own: &RetryRules, defaults: &RetryRules) -> RetryPolicy {
    let built_in = RetryPolicy::default();
    RetryPolicy {
        max_attempts: own.max_attempts.or(defaults.max_attempts).unwrap_or(built_in.max_attempts),
        delay_ms: own.delay_ms.or(defaults.delay_ms).unwrap_or(built_in.delay_ms),
        backoff: own.backoff.or(defaults.backoff).unwrap_or(built_in.backoff),
        max_delay_ms: own.max_delay_ms.or(defaults.max_delay_ms).unwrap_or(built_in.max_delay_ms),
        jitter: own.jitter.or(defaults.jitter).unwrap_or(built_in.jitter),
        on: own.on.clone().or_else(|| defaults.on.clone()).unwrap_or(built_in.on),
    }
}

/// Every name that a template of an agent type reads. Texts that are no templates were refused when
/// the type was read.
pub(crate) fn agent_type_names(agent: &AgentType) -> Vec<NameUse> {
    let command = agent.command.iter().flatten();
    let paths = agent.paths.read.iter().chain(&agent.paths.write);
    let texts = command.chain(agent.env.values()).chain(paths).chain(&agent.image);
    texts
        .filter_map(|text| Template::parse(text).ok())
        .flat_map(|template| template.names().to_vec())
        .collect()
}

/// Shared parts, each once.
#[derive(Default)]
pub(super) struct SharedSpecs {
    list: Vec<SharedSpec>,
    /// Numbers of those with one hash.
    by_hash: HashMap<u64, Vec<u32>>,
}

impl SharedSpecs {
    /// The number of a part that equals this one.
    pub(super) fn number(&mut self, spec: SharedSpec) -> u32 {
        let known = self.by_hash.entry(hash(&spec)).or_default();
        if let Some(number) = known.iter().find(|number| self.list[**number as usize] == spec) {
            return *number;
        }
        let number = self.list.len() as u32;
        known.push(number);
        self.list.push(spec);
        number
    }

    pub(super) fn into_list(self) -> Vec<SharedSpec> {
        self.list
    }
}

/// Only what usually differs: equal parts must have equal hashes, not the other way about.
fn hash(spec: &SharedSpec) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&spec.agent, &spec.queue, spec.priority, &spec.role, &spec.prompt, &spec.when).hash(&mut hasher);
    (spec.timeout_ms, spec.queue_timeout_ms, spec.stall_timeout_ms).hash(&mut hasher);
    (spec.retry.max_attempts, spec.retry.delay_ms).hash(&mut hasher);
    (spec.continue_on.failed, spec.continue_on.skipped).hash(&mut hasher);
    for (key, value) in &spec.publish {
        (key, value.as_str()).hash(&mut hasher);
    }
    for (key, value) in &spec.env {
        (key, value).hash(&mut hasher);
    }
    for (id, place) in &spec.references.steps {
        (id, place).hash(&mut hasher);
    }
    spec.references.state.hash(&mut hasher);
    if let WorkspaceChoice::Step(id) = &spec.workspace {
        id.hash(&mut hasher);
    }
    hasher.finish()
}
