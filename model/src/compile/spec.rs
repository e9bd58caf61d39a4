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
        agents: &IndexMap<AgentSlug, AgentType>,
        given: &Given,
        problems: &mut Diagnostics,
    ) -> SpecMaker<'a> {
        let mut agent_names: HashMap<&AgentSlug, Vec<NameUse>> = HashMap::new();
        for step in &workflow.steps {
            let slug = &step.agent.value;
            if agent_names.contains_key(slug) {
                continue;
            }
            let Some(agent) = agents.get(slug) else {
                continue;
            };
            let names = agent_type_names(agent);
            for name in names.iter().filter(|name| given.lacks(name)) {
                let message = format!("agent type `{slug}` reads `{name}`, which this run does not have");
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
        agent: &AgentType,
        items: bool,
        certain: bool,
        places: &dyn Fn(&str) -> Option<u32>,
    ) -> SharedSpec {
        let defaults = &self.workflow.defaults;
        let mut env: IndexMap<String, String> = IndexMap::new();
        for (name, text) in defaults.env.iter().chain(&step.env) {
            env.insert(name.clone(), text.text().to_owned());
        }
        let workspace = match workspace_of(self.workflow, step) {
            None | Some(WorkspaceName::Task) => WorkspaceChoice::Task,
            Some(WorkspaceName::Run) => WorkspaceChoice::Run,
            Some(WorkspaceName::Step(id)) => WorkspaceChoice::Step(id.clone()),
        };
        let queue = match (&workspace, &self.bound_queue) {
            (WorkspaceChoice::Run, Some(queue)) => queue.clone(),
            _ => QueueName::agent(&agent.slug),
        };
        let when = step.when.as_ref().filter(|_| !certain);
        SharedSpec {
            agent: agent.slug.clone(),
            queue,
            priority: priority_of(self.workflow, step),
            role: step.role.clone(),
            prompt: step.prompt.as_ref().filter(|_| items).map(|prompt| prompt.text().to_owned()),
            references: self.shared_references(step, items, when, places),
            when: when.map(|when| when.text().to_owned()),
            publish: step.publish.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect(),
            env,
            timeout_ms: step
                .timeout_ms
                .or(defaults.timeout_ms)
                .or(agent.timeout_ms)
                .unwrap_or(self.inputs.default_timeout_ms),
            queue_timeout_ms: step.queue_timeout_ms.or(defaults.queue_timeout_ms),
            stall_timeout_ms: step.stall_timeout_ms.or(defaults.stall_timeout_ms).or(agent.stall_timeout_ms),
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
        references(texts.chain(agent), places)
    }
}

/// What names read beyond the run's context, with steps as numbers of their tasks.
pub(super) fn references<'n>(
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

/// The priority of a step, by itself or by the workflow's defaults.
pub(super) fn priority_of(workflow: &Workflow, step: &Step) -> u8 {
    step.priority.or(workflow.defaults.priority).unwrap_or(DEFAULT_PRIORITY)
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
fn agent_type_names(agent: &AgentType) -> Vec<NameUse> {
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
