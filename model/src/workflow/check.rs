//! What only the whole workflow can tell: unknown steps and agents, double ids, circles, warnings.
//!
//! The entrance to the language: whoever has a `Workflow` got it from `parse_workflow`.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::definition::{ForeachList, Workflow, WorkspaceName};
use super::edges::{StepEdge, StepGraph};
use super::names::{NameCheck, steps_read};
use super::read::{DraftWorkflow, read_workflow};
use super::warnings::warn;
use crate::diagnostic::{Diagnostic, Diagnostics, SourceText};
use crate::ids::StepId;
use crate::plan::{EdgeKind, TASKS_PER_RUN_MAX};
use crate::yaml::{Marked, YamlReader, load};

/// What is known from outside the file.
#[derive(Debug, Clone, Copy, Default)]
pub struct KnownNames<'a> {
    /// The agent types there are; none = not checked.
    pub agents: Option<&'a [String]>,
    /// Variables given beside those of the file (`--vars`).
    pub vars: &'a [String],
}

/// A workflow without errors, and what is probably not as meant.
#[derive(Debug, Clone)]
pub struct ParsedWorkflow {
    /// The workflow.
    pub workflow: Workflow,
    /// Warnings only.
    pub warnings: Diagnostics,
}

/// Reads and checks a workflow.
///
/// # Errors
/// All that is wrong with it, in the order of the file, warnings among it.
pub fn parse_workflow(
    source: impl Into<Arc<SourceText>>,
    known: KnownNames<'_>,
) -> Result<ParsedWorkflow, Diagnostics> {
    let source = source.into();
    let mut reader = YamlReader::new(&source);
    let root = load(&source, &mut reader.problems);
    let draft = root.and_then(|root| read_workflow(&mut reader, &source, &root));
    let workflow = draft.map(|draft| check(&mut reader, draft, known));
    let problems = reader.problems.sorted();
    match workflow {
        Some(workflow) if !problems.has_errors() => Ok(ParsedWorkflow { workflow, warnings: problems }),
        _ => Err(problems),
    }
}

fn check(reader: &mut YamlReader<'_>, draft: DraftWorkflow, known: KnownNames<'_>) -> Workflow {
    let DraftWorkflow { mut workflow, ids, steps_missing } = draft;
    let places = check_ids(reader, &ids);
    if let Some(agents) = known.agents {
        check_agents(reader, &workflow, agents);
    }
    check_items(reader, &workflow);
    let vars: HashSet<&str> = workflow.vars.keys().chain(known.vars).map(String::as_str).collect();
    NameCheck { steps: &places, vars: &vars }.check(reader, &workflow);
    let edges = written_edges(reader, &workflow, &places);
    // Places count in the list of ids: with a step missing they would lead to another.
    let doubled = places.len() < ids.len();
    if !steps_missing && !doubled {
        workflow.edges = check_edges(reader, &workflow, &places, edges);
    }
    workflow
}

/// Places of the steps by id; of a double id, the first.
fn check_ids<'a>(reader: &mut YamlReader<'_>, ids: &'a [Marked<StepId>]) -> HashMap<&'a str, u32> {
    let mut places = HashMap::with_capacity(ids.len());
    for (place, id) in ids.iter().enumerate() {
        if let Some(first) = places.get(id.value.as_str()) {
            let first: &u32 = first;
            let line = reader.source.line_of(ids[*first as usize].place.start);
            let problem =
                reader.source.error(id.place.clone(), format!("two steps are called `{}`", id.value));
            reader.problems.push(problem.hint(format!("the first is in line {line}")));
            continue;
        }
        places.insert(id.value.as_str(), place as u32);
    }
    if let Some(first_too_many) = ids.get(TASKS_PER_RUN_MAX as usize) {
        let message = format!("{} steps are more than the {TASKS_PER_RUN_MAX} a run may have", ids.len());
        reader.refuse(first_too_many.place.clone(), message);
    }
    places
}

/// What is said of a `foreach` with which a run has too many tasks.
pub(crate) fn too_many_items(items: usize, step: &StepId) -> String {
    format!("the {items} items of step `{step}` make more tasks than the {TASKS_PER_RUN_MAX} a run may have")
}

/// Lists in the file are known before anything runs.
fn check_items(reader: &mut YamlReader<'_>, workflow: &Workflow) {
    let mut count = workflow.steps.len();
    for step in &workflow.steps {
        let Some(ForeachList::Literal { items, place, .. }) = &step.foreach else { continue };
        count += items.len();
        if count > TASKS_PER_RUN_MAX as usize {
            reader.refuse(place.clone(), too_many_items(items.len(), &step.id.value));
            return;
        }
    }
}

fn check_agents(reader: &mut YamlReader<'_>, workflow: &Workflow, agents: &[String]) {
    let known: HashSet<&str> = agents.iter().map(String::as_str).collect();
    let mut seen = HashSet::new();
    let named = workflow.defaults.agent.iter().chain(workflow.steps.iter().map(|step| &step.agent));
    for agent in named {
        let slug = agent.value.as_str();
        // An agent that comes from `defaults` stands at one place in the file, but in many steps.
        if known.contains(slug) || !seen.insert((agent.place.start, slug)) {
            continue;
        }
        let problem = reader.source.error(agent.place.clone(), format!("unknown agent type `{slug}`"));
        let problem = problem.nearest(slug, agents.iter().map(String::as_str));
        let problem = match problem.nearest {
            Some(_) => problem,
            None => problem.hint(
                "`maestro agent types` lists those there are; an agent with a folder of its own is known to `create` \
                 and `run`, which ask the cluster",
            ),
        };
        reader.problems.push(problem);
    }
}

/// Edges that keys say, with a report of unknown steps and edges of a step to itself.
fn written_edges(
    reader: &mut YamlReader<'_>,
    workflow: &Workflow,
    places: &HashMap<&str, u32>,
) -> Vec<StepEdge> {
    let mut edges = Vec::new();
    for step in &workflow.steps {
        let own = places[step.id.value.as_str()];
        let keys = [
            ("depends_on", EdgeKind::Needs, &step.depends_on),
            ("on_success", EdgeKind::OnSuccess, &step.on_success),
            ("on_failure", EdgeKind::OnFailure, &step.on_failure),
        ];
        for (key, kind, ids) in keys {
            for id in ids {
                let Some(other) = known_step(reader, places, id) else {
                    continue;
                };
                if other == own {
                    reader.refuse(id.place.clone(), format!("step `{}` names itself in `{key}`", id.value));
                    continue;
                }
                let (from, to) = if kind == EdgeKind::Needs { (other, own) } else { (own, other) };
                edges.push(StepEdge { from, to, kind, implied: false, place: id.place.clone() });
            }
        }
        if let Some(Marked { value: WorkspaceName::Step(id), place }) = &step.workspace {
            known_step(reader, places, &Marked::new(id.clone(), place.clone()));
        }
    }
    edges
}

fn known_step(reader: &mut YamlReader<'_>, places: &HashMap<&str, u32>, id: &Marked<StepId>) -> Option<u32> {
    let found = places.get(id.value.as_str()).copied();
    if found.is_none() {
        let problem = reader.source.error(id.place.clone(), format!("unknown step `{}`", id.value));
        let nearest = reader.nearest(id.value.as_str(), places.keys().copied()).map(str::to_owned);
        reader.problems.push(Diagnostic { nearest, ..problem });
    }
    found
}

/// Adds what templates imply, and reports circles, workspaces that cannot be there yet, and warnings.
fn check_edges(
    reader: &mut YamlReader<'_>,
    workflow: &Workflow,
    places: &HashMap<&str, u32>,
    mut edges: Vec<StepEdge>,
) -> Vec<StepEdge> {
    edges.extend(implied_edges(workflow, places));
    let graph = StepGraph::new(workflow.steps.len(), edges);
    let circles = graph.circles();
    if !circles.is_empty() {
        for circle in circles {
            report_circle(reader, workflow, &circle);
        }
        return Vec::new();
    }
    check_workspaces(reader, workflow, places, &graph);
    let edges = graph.without_needless();
    warn(reader, workflow, &edges);
    edges
}

/// Their place is that of the whole text: where in it the name stands is looked up only if it matters.
fn implied_edges(workflow: &Workflow, places: &HashMap<&str, u32>) -> Vec<StepEdge> {
    let mut edges = Vec::new();
    let mut seen = HashSet::new();
    for (own, step) in workflow.steps.iter().enumerate() {
        let own = own as u32;
        for (text, name) in steps_read(step) {
            let from = name.step().and_then(|id| places.get(id).copied());
            let Some(from) = from.filter(|from| *from != own && seen.insert((*from, own))) else {
                continue;
            };
            let place = text.place.clone();
            edges.push(StepEdge { from, to: own, kind: EdgeKind::Needs, implied: true, place });
        }
    }
    edges
}

fn report_circle(reader: &mut YamlReader<'_>, workflow: &Workflow, circle: &[&StepEdge]) {
    let id = |step: u32| workflow.steps[step as usize].id.value.as_str();
    let mut names: Vec<&str> = circle.iter().map(|edge| id(edge.from)).collect();
    names.push(names[0]);
    let shown = if names.len() <= CIRCLE_STEPS_SHOWN_MAX {
        names.join(" → ")
    } else {
        let left_out = names.len() - CIRCLE_STEPS_SHOWN_MAX;
        let (head, last) = (&names[..CIRCLE_STEPS_SHOWN_MAX - 1], names[names.len() - 1]);
        format!("{} → … ({left_out} more) → {last}", head.join(" → "))
    };
    let first = circle[0];
    let (from, to) = (id(first.from), id(first.to));
    let place = place_of_edge(reader.source, workflow, first);
    let message = format!("steps wait for each other in a circle: `{shown}`");
    let problem = reader.source.error(place, message);
    let problem = problem.expecting(format!("`{to}` waits for `{from}`"));
    let implied = circle.iter().find(|edge| edge.implied);
    reader.problems.push(match implied {
        Some(edge) => {
            let (from, to) = (id(edge.from), id(edge.to));
            problem.hint(format!("a step waits for those it reads: `{to}` reads `steps.{from}`"))
        }
        None => problem.hint("take one of these edges out"),
    });
}

fn place_of_edge(source: &SourceText, workflow: &Workflow, edge: &StepEdge) -> Range<usize> {
    if !edge.implied {
        return edge.place.clone();
    }
    let from = workflow.steps[edge.from as usize].id.value.as_str();
    let mut read = steps_read(&workflow.steps[edge.to as usize]);
    let found = read.find(|(_, name)| name.step() == Some(from));
    found.map_or(edge.place.clone(), |(text, name)| text.place_of(source, name.span.clone()))
}

/// Most steps of a circle that are named.
const CIRCLE_STEPS_SHOWN_MAX: usize = 12;

fn check_workspaces(
    reader: &mut YamlReader<'_>,
    workflow: &Workflow,
    places: &HashMap<&str, u32>,
    graph: &StepGraph,
) {
    let copies = workflow.steps.iter().enumerate().filter_map(|(own, step)| {
        let Some(Marked { value: WorkspaceName::Step(id), place }) = &step.workspace else {
            return None;
        };
        places.get(id.as_str()).map(|source| ((*source, own as u32), place, id))
    });
    let copies: Vec<_> = copies.collect();
    let pairs: Vec<(u32, u32)> = copies.iter().map(|(pair, ..)| *pair).collect();
    for ((pair, place, id), way) in copies.iter().zip(graph.ways(&pairs)) {
        if workflow.steps[pair.0 as usize].foreach.is_some() {
            let message = format!("step `{id}` is a `foreach`: each of its items has a folder of its own");
            let problem = reader.source.error((*place).clone(), message);
            reader.problems.push(problem.hint("name a step that leaves one folder"));
            continue;
        }
        if way {
            continue;
        }
        let own = &workflow.steps[pair.1 as usize].id.value;
        let message = format!("step `{own}` works in a copy of what `{id}` left, but does not wait for it");
        let problem = reader.source.error((*place).clone(), message);
        reader.problems.push(problem.hint(format!("add `depends_on: [{id}]`")));
    }
}
