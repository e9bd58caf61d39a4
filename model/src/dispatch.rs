//! A prompt for some agents, without a workflow: `task dispatch` made into a plan.
//!
//! A dispatch is a run like any other: one task for each target, nothing between them. Who is healthy,
//! and whether what it waits for exists, is not known here.

use std::collections::BTreeMap;

use indexmap::{IndexMap, IndexSet};

use crate::catalogue::{AgentCatalogue, NamedAgent, UnknownAgent};
use crate::compile::{DEFAULT_PRIORITY, agent_type_names, references};
use crate::diagnostic::{Diagnostics, SourceText, nearest_name};
use crate::ids::StepId;
use crate::plan::{
    ContinueOn, ExternalNeed, NeedTarget, Plan, PlannedTask, QueueName, RootRange, RunContext, RunPolicy,
    SharedSpec, TaskKind, WorkspaceChoice,
};
use crate::retry::RetryPolicy;
use crate::template::{NameUse, Root, Template, TemplateError};
use crate::template_text::is_env_name;
use crate::workflow::PROMPT_BYTES_MAX;

/// The name that runs of dispatches go by.
pub const DISPATCH_NAME: &str = "dispatch";
/// Most targets of one dispatch.
pub const TARGETS_MAX: usize = 64;
/// Most tasks and runs that one dispatch waits for.
pub const DEPENDS_ON_MAX: usize = 64;
/// Longest `--key`.
pub const KEY_BYTES_MAX: usize = 256;

/// What `task dispatch` was given.
#[derive(Debug, Clone, PartialEq)]
pub struct DispatchOrder {
    /// What the agents are to do, a template.
    pub prompt: String,
    /// Names of agents and agent types, in the order of `--to`.
    pub targets: Vec<String>,
    /// 1 (first) to 5 (last); none = the agent's own, else 3.
    pub priority: Option<u8>,
    /// Longest time of an attempt, ms; none = the agent type's, else `default_timeout_ms`.
    pub timeout_ms: Option<u64>,
    /// `MAESTRO_AGENT_TIMEOUT`, ms.
    pub default_timeout_ms: u64,
    /// Further environment of the agents; values are templates.
    pub env: IndexMap<String, String>,
    /// The same key again means the same dispatch.
    pub key: Option<String>,
    /// What must have ended well before.
    pub depends_on: Vec<NeedTarget>,
    /// `<< run.folder >>`: where the command was typed.
    pub folder: Option<String>,
    /// Whether a trace is kept.
    pub trace: bool,
}

impl DispatchOrder {
    /// A prompt for some targets, everything else as it comes.
    pub fn new(prompt: impl Into<String>, targets: &[&str]) -> DispatchOrder {
        DispatchOrder {
            prompt: prompt.into(),
            targets: targets.iter().map(|name| (*name).to_owned()).collect(),
            priority: None,
            timeout_ms: None,
            default_timeout_ms: 1_800_000,
            env: IndexMap::new(),
            key: None,
            depends_on: Vec::new(),
            folder: None,
            trace: false,
        }
    }
}

/// Why a dispatch cannot be carried out as it is given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DispatchError {
    /// It names no target.
    #[error("a dispatch names at least one agent or agent type")]
    NoTarget,
    /// One target is named more than once.
    #[error("`{name}` is named twice")]
    TargetTwice {
        /// The target.
        name: String,
    },
    /// A target stands for nothing.
    #[error("{unknown}")]
    UnknownTarget {
        /// What is wrong with it.
        unknown: UnknownAgent,
        /// The nearest name there is.
        nearest: Option<String>,
    },
    /// A template is wrong, or reads what a dispatch does not have; every error is marked.
    #[error("the prompt cannot be filled in as it is written")]
    Template(Diagnostics),
    /// An agent type reads what a dispatch does not have.
    #[error("agent type `{agent_type}` reads `{name}`, which a dispatch does not have")]
    TypeNeedsWorkflow {
        /// The type.
        agent_type: String,
        /// What it reads.
        name: String,
    },
    /// There is more of something than a dispatch may have.
    #[error("a dispatch has {found} {what}; the limit is {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// Prompt or key are too long.
    #[error("the {what} has {size} bytes; the limit is {limit}")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// Its size.
        size: usize,
        /// How many bytes it may have.
        limit: usize,
    },
    /// What cannot be a key.
    #[error("the key is empty, or holds a control character")]
    UnlawfulKey,
    /// What cannot be the name of an environment variable.
    #[error("`{name}` is not the name of an environment variable")]
    UnlawfulEnv {
        /// The name.
        name: String,
    },
    /// No such priority.
    #[error("priority {found} is none: expected 1 (first) to 5 (last)")]
    Priority {
        /// What was asked for.
        found: u8,
    },
}

/// Makes a plan: one task for each target, named after it.
///
/// # Errors
/// See [`DispatchError`].
pub fn compile_dispatch(order: &DispatchOrder, agents: &AgentCatalogue) -> Result<Plan, DispatchError> {
    check_limits(order)?;
    let targets = find_targets(order, agents)?;
    let texts = read_texts(order)?;
    let mut used = IndexMap::new();
    let mut shared = Vec::with_capacity(targets.len());
    let mut tasks = Vec::with_capacity(targets.len());
    let mut roots: Vec<RootRange> = Vec::new();
    for (index, (step, agent)) in (0..).zip(targets) {
        let spec = shared_spec(order, agent, &texts)?;
        used.entry(agent.agent_type.slug.clone()).or_insert_with(|| agent.agent_type.clone());
        if order.depends_on.is_empty() {
            roots.push(RootRange { queue: Some(spec.queue.clone()), first: index, count: 1 });
        }
        shared.push(spec);
        tasks.push(PlannedTask {
            step,
            shared: index,
            kind: TaskKind::Agent,
            prompt: Some(order.prompt.clone()),
            references: references(texts.prompt.iter(), &|_| None),
            dependencies: 0,
            triggers: 0,
            dependents: Vec::new(),
            handled: false,
            handler: false,
        });
    }
    let waits: IndexSet<&NeedTarget> = order.depends_on.iter().collect();
    let waits_for = (0..tasks.len() as u32)
        .flat_map(|task| waits.iter().map(move |on| ExternalNeed { task, on: (*on).clone() }))
        .collect();
    let context = RunContext {
        workflow: DISPATCH_NAME.to_owned(),
        version: None,
        vars: IndexMap::new(),
        params: IndexMap::new(),
        folder: order.folder.clone(),
        trace: order.trace,
    };
    Ok(Plan {
        context,
        policy: RunPolicy { trace: order.trace, ..RunPolicy::default() },
        agents: used,
        shared,
        tasks,
        roots,
        bound_agents: Vec::new(),
        definition: None,
        key: order.key.clone(),
        waits_for,
        seeds: BTreeMap::new(),
    })
}

fn check_limits(order: &DispatchOrder) -> Result<(), DispatchError> {
    let counts = [
        ("targets", order.targets.len(), TARGETS_MAX),
        ("`--depends-on`", order.depends_on.len(), DEPENDS_ON_MAX),
    ];
    for (what, found, most) in counts {
        if found > most {
            return Err(DispatchError::TooMany { what, found, most });
        }
    }
    let key = order.key.as_deref();
    let sizes =
        [("prompt", order.prompt.len(), PROMPT_BYTES_MAX), ("key", key.map_or(0, str::len), KEY_BYTES_MAX)];
    for (what, size, limit) in sizes {
        if size > limit {
            return Err(DispatchError::TooLarge { what, size, limit });
        }
    }
    if key.is_some_and(|key| key.is_empty() || key.chars().any(char::is_control)) {
        return Err(DispatchError::UnlawfulKey);
    }
    if let Some(found) = order.priority.filter(|priority| !(1..=5).contains(priority)) {
        return Err(DispatchError::Priority { found });
    }
    match order.env.keys().find(|name| !is_env_name(name)) {
        Some(name) => Err(DispatchError::UnlawfulEnv { name: name.clone() }),
        None => Ok(()),
    }
}

fn find_targets<'c>(
    order: &DispatchOrder,
    agents: &'c AgentCatalogue,
) -> Result<Vec<(StepId, NamedAgent<'c>)>, DispatchError> {
    let mut found: Vec<(StepId, NamedAgent<'c>)> = Vec::with_capacity(order.targets.len());
    for name in &order.targets {
        let unknown = |unknown| {
            let nearest = nearest_name(name, agents.names()).map(str::to_owned);
            DispatchError::UnknownTarget { unknown, nearest }
        };
        let agent = agents.find(name).map_err(unknown)?;
        let step: StepId = name.parse().expect("names of agents and types are lawful step ids");
        if found.iter().any(|(known, _)| *known == step) {
            return Err(DispatchError::TargetTwice { name: name.clone() });
        }
        found.push((step, agent));
    }
    if found.is_empty() { Err(DispatchError::NoTarget) } else { Ok(found) }
}

/// What the texts of a dispatch read.
struct ReadTexts {
    prompt: Vec<NameUse>,
    env: Vec<NameUse>,
}

/// Takes the templates apart, and refuses what cannot be read in them: now, not when a worker is free.
fn read_texts(order: &DispatchOrder) -> Result<ReadTexts, DispatchError> {
    let mut problems = Diagnostics::default();
    let prompt = read_text("prompt", &order.prompt, &mut problems);
    let mut env = Vec::new();
    for (name, text) in &order.env {
        env.extend(read_text(name, text, &mut problems));
    }
    if problems.has_errors() { Err(DispatchError::Template(problems)) } else { Ok(ReadTexts { prompt, env }) }
}

fn read_text(name: &str, text: &str, problems: &mut Diagnostics) -> Vec<NameUse> {
    let source = SourceText::new(name, text);
    let mut report = |error: &TemplateError| {
        let problem = source.error(error.span.clone(), error.message.as_str());
        problems.push(match &error.hint {
            Some(hint) => problem.hint(hint.as_str()),
            None => problem,
        });
    };
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(error) => {
            report(&error);
            return Vec::new();
        }
    };
    template.suspicions().iter().for_each(&mut report);
    for name in template.names().iter().filter(|name| !READABLE.contains(&name.root) && !name.guarded) {
        let known = READABLE.iter().map(|root| format!("`{root}`")).collect::<Vec<_>>().join(", ");
        let problem =
            source.error(name.span.clone(), format!("`{}` cannot be read in a dispatch", name.root));
        problems.push(problem.expecting(format!("one of {known}")));
    }
    template.names().to_vec()
}

/// What a dispatch's texts can read: there are no steps, variables and items in it.
const READABLE: [Root; 7] =
    [Root::State, Root::Run, Root::Task, Root::Agent, Root::Attempt, Root::Workspace, Root::Env];

fn shared_spec(
    order: &DispatchOrder,
    agent: NamedAgent<'_>,
    texts: &ReadTexts,
) -> Result<SharedSpec, DispatchError> {
    let NamedAgent { agent_type, assigned } = agent;
    let of_type = agent_type_names(agent_type);
    let lacks = |name: &&NameUse| matches!(name.root, Root::Vars | Root::Params) && !name.guarded;
    if let Some(name) = of_type.iter().find(lacks) {
        let agent_type = agent_type.slug.to_string();
        return Err(DispatchError::TypeNeedsWorkflow { agent_type, name: name.to_string() });
    }
    Ok(SharedSpec {
        agent: agent_type.slug.clone(),
        assigned: assigned.map(|assigned| assigned.id.clone()),
        queue: match assigned {
            Some(assigned) => QueueName::assigned(&assigned.id),
            None => QueueName::agent(&agent_type.slug),
        },
        priority: order
            .priority
            .or_else(|| assigned.and_then(|assigned| assigned.priority))
            .unwrap_or(DEFAULT_PRIORITY),
        role: assigned.and_then(|assigned| assigned.role.clone()),
        prompt: None,
        references: references(texts.env.iter().chain(&of_type), &|_| None),
        when: None,
        publish: IndexMap::new(),
        env: order.env.clone(),
        timeout_ms: order.timeout_ms.or(agent_type.timeout_ms).unwrap_or(order.default_timeout_ms),
        queue_timeout_ms: None,
        stall_timeout_ms: agent_type.stall_timeout_ms,
        retry: RetryPolicy::default(),
        workspace: if assigned.is_some() { WorkspaceChoice::Assigned } else { WorkspaceChoice::Task },
        continue_on: ContinueOn::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent_type::AgentType;
    use crate::assignment::{ASSIGNMENT_VERSION, Assignment};
    use crate::diagnostic::Colour;
    use crate::ids::RunId;

    fn catalogue() -> AgentCatalogue {
        let type_of = |slug: &str, env: &str| -> AgentType {
            let json = serde_json::json!({"slug": slug, "mode": slug, "command": ["sh"], "env": {"E": env}});
            serde_json::from_value(json).expect("a lawful type")
        };
        let types = [type_of("shell", "<< state.of_type >>"), type_of("picky", "<< vars.x >>")];
        let smith = Assignment {
            v: ASSIGNMENT_VERSION,
            id: "smith".parse().expect("a lawful id"),
            agent_type: "shell".parse().expect("a lawful slug"),
            path: "/srv/app".to_owned(),
            role: Some("critic".to_owned()),
            priority: Some(1),
            worker: "one".parse().expect("a lawful name"),
            assigned_at_ms: 0,
            held: None,
        };
        AgentCatalogue {
            types: types.map(|one| (one.slug.clone(), one)).into(),
            assigned: [(smith.id.clone(), smith)].into(),
        }
    }

    fn compiled(order: &DispatchOrder) -> Plan {
        compile_dispatch(order, &catalogue()).expect("it is right")
    }

    #[test]
    fn each_target_gets_a_task_of_its_name_and_its_own_queue() {
        let plan = compiled(&DispatchOrder::new("look at << state.issue >>", &["shell", "smith"]));
        let tasks: Vec<(&str, &str, u8)> = plan
            .tasks
            .iter()
            .map(|task| (task.step.as_str(), &plan.shared[task.shared as usize]))
            .map(|(step, shared)| (step, shared.queue.as_str(), shared.priority))
            .collect();
        assert_eq!(tasks, [("shell", "a:shell", 3), ("smith", "i:smith", 1)]);
        assert_eq!(plan.roots.len(), 2);
        assert_eq!(plan.agents.len(), 1, "both are of one type");
        assert_eq!(plan.tasks[0].references.state, ["issue"]);
        assert_eq!(plan.shared[0].references.state, ["of_type"]);
        assert_eq!(plan.shared[1].role.as_deref(), Some("critic"));
        assert_eq!(plan.shared[1].workspace, WorkspaceChoice::Assigned);
    }

    #[test]
    fn what_waits_is_no_root() {
        let run = RunId::random(0);
        let on = NeedTarget::Run(run.clone());
        let order =
            DispatchOrder { depends_on: vec![on.clone(), on.clone()], ..DispatchOrder::new("x", &["shell"]) };
        let plan = compiled(&order);
        assert_eq!(plan.waits_for, [ExternalNeed { task: 0, on }]);
        assert!(plan.roots.is_empty());
    }

    #[test]
    fn what_a_dispatch_says_comes_before_what_its_agents_say() {
        let order = DispatchOrder {
            priority: Some(5),
            timeout_ms: Some(7),
            env: IndexMap::from([("A".to_owned(), "<< state.e >>".to_owned())]),
            ..DispatchOrder::new("x", &["smith"])
        };
        let shared = &compiled(&order).shared[0];
        assert_eq!((shared.priority, shared.timeout_ms), (5, 7));
        assert_eq!(shared.references.state, ["e", "of_type"]);
    }

    #[test]
    fn what_cannot_be_dispatched_is_refused_in_words() {
        let order = |prompt: &str, targets: &[&str]| DispatchOrder::new(prompt, targets);
        let cases = [
            (order("x", &[]), "a dispatch names at least one agent or agent type"),
            (order("x", &["shell", "shell"]), "`shell` is named twice"),
            (order("x", &["shel"]), "unknown agent type `shel`"),
            (order("x", &["picky"]), "agent type `picky` reads `vars.x`, which a dispatch does not have"),
            (
                order(&"x".repeat(PROMPT_BYTES_MAX + 1), &["shell"]),
                "the prompt has 262145 bytes; the limit is 262144",
            ),
            (
                DispatchOrder { key: Some(String::new()), ..order("x", &["shell"]) },
                "the key is empty, or holds a control character",
            ),
            (
                DispatchOrder { key: Some("k".repeat(257)), ..order("x", &["shell"]) },
                "the key has 257 bytes; the limit is 256",
            ),
            (
                DispatchOrder { priority: Some(6), ..order("x", &["shell"]) },
                "priority 6 is none: expected 1 (first) to 5 (last)",
            ),
            (
                DispatchOrder {
                    env: IndexMap::from([("1A".to_owned(), String::new())]),
                    ..order("x", &["shell"])
                },
                "`1A` is not the name of an environment variable",
            ),
        ];
        for (order, message) in cases {
            let error = compile_dispatch(&order, &catalogue()).expect_err(message);
            assert_eq!(error.to_string(), message);
        }
        let run = RunId::random(0);
        let many: Vec<NeedTarget> = (0..65).map(|_| NeedTarget::Run(run.clone())).collect();
        let error =
            compile_dispatch(&DispatchOrder { depends_on: many, ..order("x", &["shell"]) }, &catalogue());
        assert!(matches!(error, Err(DispatchError::TooMany { found: 65, most: DEPENDS_ON_MAX, .. })));
    }

    #[test]
    fn names_that_only_a_workflow_has_are_marked() {
        let order = DispatchOrder::new("do << steps.a.result >>\nand << sate.x >>", &["shell"]);
        let Err(DispatchError::Template(problems)) = compile_dispatch(&order, &catalogue()) else {
            panic!("it is refused");
        };
        insta::assert_snapshot!(problems.render(Colour::Plain));
    }
}
