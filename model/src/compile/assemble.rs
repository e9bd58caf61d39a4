//! The plan out of a workflow, its inputs and its agent types.

use std::collections::{BTreeSet, HashMap};

use indexmap::IndexMap;
use serde_json::Value;

use super::expand::{StepShape, shape};
use super::inputs::{Given, RunInputs, refuse_name};
use super::number::{Numbering, StepPlace};
use super::spec::{SharedSpecs, SpecMaker, priority_of, references, workspace_of};
use crate::catalogue::{AgentCatalogue, NamedAgent, UnknownAgent};
use crate::diagnostic::Diagnostics;
use crate::ids::AgentSlug;
use crate::plan::{
    Dependent, EdgeKind, Plan, PlannedTask, QueueName, RunPolicy, TASKS_PER_RUN_MAX, TaskKind,
};
use crate::template::Root;
use crate::workflow::{Step, StepEdge, Workflow, WorkspaceName, too_many_items};

/// Makes a plan.
///
/// `agents` are the known agents and types; the plan takes over the types that are used.
///
/// # Errors
/// An agent or type that is not known or reads what this run does not have; a `foreach` that gives no
/// list, or more tasks than a run may have; a parameter that a first step reads and nobody gave.
pub fn compile(
    workflow: &Workflow,
    inputs: &RunInputs,
    agents: &AgentCatalogue,
) -> Result<Plan, Diagnostics> {
    let workflow = &*workflow.with_snapshot_steps();
    let given = Given::new(workflow, inputs);
    let mut problems = Diagnostics::default();
    check_agents(workflow, agents, &mut problems);
    let mut shapes = Vec::with_capacity(workflow.steps.len());
    for step in &workflow.steps {
        shapes.push(shape(workflow, step, &given, &mut problems));
    }
    let shapes: Option<Vec<StepShape>> = shapes.into_iter().collect();
    check_count(workflow, shapes.as_deref(), &mut problems);
    let ends = StepEnds::new(workflow);
    check_parameters(workflow, &given, &ends, &mut problems);
    let bound = bound_agents(workflow, agents);
    let maker = SpecMaker::new(workflow, inputs, &bound, agents, &given, &mut problems);
    let shapes = match shapes {
        Some(shapes) if !problems.has_errors() => shapes,
        _ => return Err(problems.sorted()),
    };
    let assembly = Assembly { workflow, agents, ends, bound: &bound, maker, given: &given };
    let mut plan = assembly.plan(shapes);
    plan.policy = RunPolicy {
        concurrency: workflow.concurrency,
        timeout_ms: workflow.timeout_ms,
        fail_fast: workflow.fail_fast,
        trace: inputs.trace,
    };
    plan.context.folder.clone_from(&inputs.folder);
    plan.context.trace = inputs.trace;
    plan.bound_agents = bound;
    plan.definition = Some(workflow.source.text().to_owned());
    Ok(plan)
}

fn check_agents(workflow: &Workflow, agents: &AgentCatalogue, problems: &mut Diagnostics) {
    let mut seen = BTreeSet::new();
    for step in &workflow.steps {
        let name = &step.agent.value;
        let Err(unknown) = agents.find(name.as_str()) else { continue };
        if !seen.insert(name) {
            continue;
        }
        let problem = workflow.source.error(step.agent.place.clone(), unknown.to_string());
        problems.push(match unknown {
            UnknownAgent::Name { .. } => problem.nearest(name.as_str(), agents.names()),
            UnknownAgent::Type { .. } => problem.hint("register it with `maestro agent register`"),
        });
    }
}

fn check_count(workflow: &Workflow, shapes: Option<&[StepShape]>, problems: &mut Diagnostics) {
    let mut count = workflow.steps.len();
    for (step, shape) in workflow.steps.iter().zip(shapes.unwrap_or_default()) {
        let StepShape::Group(items) = shape else {
            continue;
        };
        count += items.len();
        if count > TASKS_PER_RUN_MAX as usize {
            let place = step.foreach.as_ref().map_or(step.id.place.clone(), |list| list.place());
            let message = too_many_items(items.len(), &step.id.value);
            problems.push(workflow.source.error(place, message));
            return;
        }
    }
}

/// A parameter that nobody gave, read by a step that is certain to start: said now, not a queue's
/// length later. Other steps may never start, so what they lack is found when they do.
fn check_parameters(workflow: &Workflow, given: &Given, ends: &StepEnds, problems: &mut Diagnostics) {
    let certain = workflow
        .steps
        .iter()
        .enumerate()
        .filter(|(place, step)| step.when.is_none() && step.foreach.is_none() && ends.is_root(*place));
    for (_, step) in certain {
        let defaults = workflow.defaults.env.iter().filter(|(name, _)| !step.env.contains_key(*name));
        let env = defaults.chain(&step.env).map(|(_, text)| text);
        for text in step.prompt.iter().chain(env) {
            for name in text.names.iter().filter(|name| name.root == Root::Params && given.lacks(name)) {
                let problem = refuse_name(workflow, text, name, format!("nobody gave `{name}`"));
                let first = name.path.first().map_or("", String::as_str);
                problems.push(problem.hint(format!("give it with `--param {first}=…`")));
            }
        }
    }
}

/// Every type named by a step with `workspace: run`, sorted. An agent works in its own folder whatever
/// the step says, so it binds the run to no worker.
fn bound_agents(workflow: &Workflow, agents: &AgentCatalogue) -> Vec<AgentSlug> {
    let bound =
        workflow.steps.iter().filter(|step| workspace_of(workflow, step) == Some(&WorkspaceName::Run));
    let slugs: BTreeSet<AgentSlug> = bound
        .map(|step| &step.agent.value)
        .filter(|name| agents.find(name.as_str()).is_ok_and(|found| found.assigned.is_none()))
        .cloned()
        .collect();
    slugs.into_iter().collect()
}

/// What edges say of each step.
struct StepEnds {
    outgoing: Vec<Vec<(u32, EdgeKind)>>,
    needs: Vec<u32>,
    triggers: Vec<u32>,
    handled: Vec<bool>,
    handler: Vec<bool>,
}

impl StepEnds {
    fn new(workflow: &Workflow) -> StepEnds {
        let count = workflow.steps.len();
        let mut ends = StepEnds {
            outgoing: vec![Vec::new(); count],
            needs: vec![0; count],
            triggers: vec![0; count],
            handled: workflow.steps.iter().map(|step| step.continue_on.failed).collect(),
            handler: vec![false; count],
        };
        for StepEdge { from, to, kind, .. } in &workflow.edges {
            ends.outgoing[*from as usize].push((*to, *kind));
            match kind {
                EdgeKind::Needs => ends.needs[*to as usize] += 1,
                EdgeKind::OnSuccess | EdgeKind::OnFailure => ends.triggers[*to as usize] += 1,
                EdgeKind::Item => {}
            }
            if *kind == EdgeKind::OnFailure {
                ends.handled[*from as usize] = true;
                ends.handler[*to as usize] = true;
            }
        }
        ends.spread_handlers();
        ends
    }

    /// What lies behind a handler is one as well.
    fn spread_handlers(&mut self) {
        let mut left: Vec<u32> =
            (0..self.handler.len() as u32).filter(|step| self.handler[*step as usize]).collect();
        while let Some(step) = left.pop() {
            for (follower, _) in &self.outgoing[step as usize] {
                if !std::mem::replace(&mut self.handler[*follower as usize], true) {
                    left.push(*follower);
                }
            }
        }
    }

    fn is_root(&self, step: usize) -> bool {
        self.needs[step] == 0 && self.triggers[step] == 0
    }
}

/// Everything that a plan is put together from.
struct Assembly<'a> {
    workflow: &'a Workflow,
    agents: &'a AgentCatalogue,
    ends: StepEnds,
    bound: &'a [AgentSlug],
    maker: SpecMaker<'a>,
    given: &'a Given,
}

impl Assembly<'_> {
    /// The plan, but for what does not depend on its steps.
    fn plan(&self, mut shapes: Vec<StepShape>) -> Plan {
        let numbering = Numbering::new(&self.places(&shapes));
        let by_id: HashMap<&str, u32> = (self.workflow.steps.iter().zip(&numbering.steps))
            .map(|(step, number)| (step.id.value.as_str(), *number))
            .collect();
        let lookup = |id: &str| by_id.get(id).copied();
        let mut specs = SharedSpecs::default();
        let mut agents = IndexMap::new();
        let mut tasks = Vec::new();
        for place in &numbering.order {
            let agent = self.agent(&self.workflow.steps[*place]).agent_type;
            if !agents.contains_key(&agent.slug) {
                agents.insert(agent.slug.clone(), agent.clone());
            }
            tasks.push(self.step_task(*place, &shapes[*place], &numbering, &mut specs, &lookup));
        }
        for place in &numbering.order {
            let shape = std::mem::replace(&mut shapes[*place], StepShape::Single);
            if let StepShape::Group(items) = shape {
                let group = numbering.steps[*place];
                let of_group = tasks[group as usize].clone();
                tasks
                    .extend((0..).zip(items).map(|(number, item)| item_task(&of_group, group, number, item)));
            }
        }
        Plan {
            context: self.given.context(self.workflow),
            policy: RunPolicy::default(),
            agents,
            shared: specs.into_list(),
            tasks,
            roots: numbering.roots,
            bound_agents: Vec::new(),
            definition: None,
            key: None,
            waits_for: Vec::new(),
            seeds: Default::default(),
        }
    }

    fn places(&self, shapes: &[StepShape]) -> Vec<StepPlace> {
        let bound_queue = QueueName::agents(self.bound);
        let steps = self.workflow.steps.iter().zip(shapes).enumerate();
        let place = |(place, (step, shape)): (usize, (&Step, &StepShape))| {
            let bound = workspace_of(self.workflow, step) == Some(&WorkspaceName::Run);
            let agent = self.agent(step);
            let queue = match (shape, agent.assigned) {
                (StepShape::Group(_), _) => None,
                (StepShape::Expand(_) | StepShape::Snapshot(_), _) => Some(QueueName::expand()),
                (StepShape::Single, Some(assigned)) => Some(QueueName::assigned(&assigned.id)),
                (StepShape::Single, None) if bound => Some(bound_queue.clone()),
                (StepShape::Single, None) => Some(QueueName::agent(&agent.agent_type.slug)),
            };
            let items = if let StepShape::Group(items) = shape { items.len() as u32 } else { 0 };
            let root = self.ends.is_root(place);
            StepPlace { queue, priority: priority_of(self.workflow, step, agent), root, items }
        };
        steps.map(place).collect()
    }

    fn agent(&self, step: &Step) -> NamedAgent<'_> {
        let found = self.agents.find(step.agent.value.as_str());
        found.expect("`check_agents` refuses a workflow with an unknown one")
    }

    fn step_task(
        &self,
        place: usize,
        shape: &StepShape,
        numbering: &Numbering,
        specs: &mut SharedSpecs,
        lookup: &dyn Fn(&str) -> Option<u32>,
    ) -> PlannedTask {
        let step = &self.workflow.steps[place];
        let agent = self.agent(step);
        let single = matches!(shape, StepShape::Single);
        let certain = matches!(shape, StepShape::Group(_));
        let spec = self.maker.spec(step, agent, !single, certain, lookup);
        let own_texts = match shape {
            StepShape::Single => step.prompt.as_slice(),
            StepShape::Expand(_) => step.foreach.as_ref().map_or(&[][..], |list| list.texts()),
            StepShape::Group(_) | StepShape::Snapshot(_) => &[],
        };
        let kind = match shape {
            StepShape::Single => TaskKind::Agent,
            StepShape::Group(items) => TaskKind::Group {
                first: numbering.first_items[place],
                count: items.len() as u32,
                max_parallel: step.max_parallel,
            },
            StepShape::Expand(list) => {
                TaskKind::Expand { list: list.clone(), max_parallel: step.max_parallel }
            }
            StepShape::Snapshot(label) => TaskKind::Snapshot { label: label.clone() },
        };
        let dependents = self.ends.outgoing[place].iter();
        let dependents = dependents
            .map(|(to, edge)| Dependent { index: numbering.steps[*to as usize], edge: *edge })
            .collect();
        PlannedTask {
            step: step.id.value.clone(),
            shared: specs.number(spec),
            kind,
            prompt: step.prompt.as_ref().filter(|_| single).map(|prompt| prompt.text().to_owned()),
            references: references(own_texts.iter().flat_map(|text| &text.names), lookup),
            dependencies: self.ends.needs[place],
            triggers: self.ends.triggers[place],
            dependents,
            handled: self.ends.handled[place],
            handler: self.ends.handler[place],
        }
    }
}

fn item_task(group_task: &PlannedTask, group: u32, number: u32, item: Value) -> PlannedTask {
    PlannedTask {
        step: group_task.step.clone(),
        shared: group_task.shared,
        kind: TaskKind::Item { group, number, item },
        prompt: None,
        references: Default::default(),
        dependencies: 0,
        triggers: 0,
        dependents: vec![Dependent { index: group, edge: EdgeKind::Item }],
        handled: group_task.handled,
        handler: group_task.handler,
    }
}
