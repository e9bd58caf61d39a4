//! Random plans of every shape the scripts know, and what a test must remember of each.

use indexmap::IndexMap;
use maestro_model::ids::{AgentId, AgentSlug, RunId};
use maestro_model::plan::{
    ContinueOn, Dependent, EdgeKind, Plan, PlannedTask, QueueName, References, RootRange, RunContext,
    RunPolicy, SharedSpec, TaskKind, WorkspaceChoice,
};
use maestro_model::retry::RetryPolicy;
use rand::Rng;
use rand::rngs::StdRng;

/// The agent types of the played cluster; the second one is limited.
pub const TYPES: [&str; 2] = ["alpha", "beta"];
/// The agents of the played cluster, each with its type: one of a type that is limited as well.
pub const AGENTS: [(&str, &str); 2] = [("jones", "beta"), ("smith", "alpha")];
/// How many of the second type may run at one time.
pub const BETA_LIMIT: usize = 2;
/// `MAESTRO_MAX_ATTEMPTS` of the played cluster.
pub const LOST_MAX: u32 = 2;

/// A submitted run as the test knows it.
#[derive(Debug)]
pub struct ShadowRun {
    pub id: RunId,
    pub plan: Plan,
    /// By task: who it waits for.
    pub parents: Vec<Vec<Dependent>>,
    /// Whether the submission was acknowledged.
    pub acknowledged: bool,
    /// Whether it was collected.
    pub collected: bool,
}

impl ShadowRun {
    pub fn new(id: RunId, plan: Plan) -> ShadowRun {
        let mut parents = vec![Vec::new(); plan.tasks.len()];
        for (index, task) in plan.tasks.iter().enumerate() {
            for edge in task.dependents.iter().filter(|edge| edge.edge != EdgeKind::Item) {
                parents[edge.index as usize].push(Dependent { index: index as u32, edge: edge.edge });
            }
        }
        ShadowRun { id, plan, parents, acknowledged: false, collected: false }
    }

    /// Tasks that are steps; items follow them.
    pub fn steps(&self) -> u32 {
        let steps = self.plan.tasks.iter().filter(|task| !matches!(task.kind, TaskKind::Item { .. }));
        steps.count() as u32
    }

    pub fn task(&self, index: u32) -> &PlannedTask {
        &self.plan.tasks[index as usize]
    }

    pub fn shared(&self, index: u32) -> &SharedSpec {
        &self.plan.shared[self.task(index).shared as usize]
    }

    pub fn is_group(&self, index: u32) -> bool {
        matches!(self.task(index).kind, TaskKind::Group { .. } | TaskKind::Expand { .. })
    }
}

fn slug(name: &str) -> AgentSlug {
    name.parse().expect("a lawful slug")
}

/// One step before it has a number of its own in the plan.
struct Draft {
    shared: SharedSpec,
    kind: TaskKind,
    parents: Vec<(usize, EdgeKind)>,
}

fn draft_shared(die: &mut StdRng, bound: bool) -> SharedSpec {
    let named = die.random_bool(0.3).then(|| AGENTS[die.random_range(0..AGENTS.len())]);
    let agent = slug(named.map_or_else(|| TYPES[usize::from(die.random_bool(0.4))], |(_, of)| of));
    let assigned: Option<AgentId> = named.map(|(id, _)| id.parse().expect("a lawful id"));
    let bound = bound && assigned.is_none() && die.random_bool(0.7);
    let queue = match &assigned {
        Some(id) => QueueName::assigned(id),
        None if bound => QueueName::agents(&TYPES.map(slug)),
        None => QueueName::agent(&agent),
    };
    let workspace = match &assigned {
        Some(_) => WorkspaceChoice::Assigned,
        None if bound => WorkspaceChoice::Run,
        None => WorkspaceChoice::Task,
    };
    SharedSpec {
        queue,
        agent,
        assigned,
        priority: die.random_range(1..=5),
        role: None,
        prompt: None,
        references: if die.random_bool(0.2) {
            References { steps: IndexMap::new(), state: vec!["color of it".to_owned()] }
        } else {
            References::default()
        },
        when: None,
        publish: IndexMap::new(),
        env: IndexMap::new(),
        timeout_ms: if die.random_bool(0.25) { 4_000 } else { 600_000 },
        queue_timeout_ms: die.random_bool(0.15).then_some(15_000),
        stall_timeout_ms: None,
        retry: RetryPolicy {
            max_attempts: die.random_range(1..=3),
            delay_ms: 3_000,
            ..RetryPolicy::default()
        },
        workspace,
        continue_on: ContinueOn { failed: die.random_bool(0.15), skipped: die.random_bool(0.15) },
    }
}

fn draft_kind(die: &mut StdRng) -> TaskKind {
    let max_parallel = die.random_bool(0.6).then(|| die.random_range(1..=3));
    match die.random_range(0..20) {
        0..=3 => {
            let count = if die.random_bool(0.1) { 20 } else { die.random_range(0..7) };
            TaskKind::Group { first: 0, count, max_parallel }
        }
        4..=5 => TaskKind::Expand { list: "state.list".to_owned(), max_parallel },
        _ => TaskKind::Agent,
    }
}

fn draft_parents(die: &mut StdRng, before: usize) -> Vec<(usize, EdgeKind)> {
    let mut parents: Vec<(usize, EdgeKind)> = Vec::new();
    for _ in 0..die.random_range(1..=3) {
        let edge = match die.random_range(0..10) {
            0..=1 => EdgeKind::OnSuccess,
            2..=3 => EdgeKind::OnFailure,
            _ => EdgeKind::Needs,
        };
        let parent = (die.random_range(0..before), edge);
        if !parents.contains(&parent) {
            parents.push(parent);
        }
    }
    parents
}

/// A small graph of every kind of step and edge, or now and then a wide one.
pub fn random_plan(die: &mut StdRng) -> Plan {
    let bound = die.random_bool(0.2);
    let wide = die.random_bool(0.08);
    let roots = if die.random_bool(0.1) { die.random_range(6..20) } else { die.random_range(1..4) };
    let others = if wide { die.random_range(65..140) } else { die.random_range(0..8) };
    let mut drafts: Vec<Draft> = Vec::new();
    for number in 0..roots + others {
        let mut shared = draft_shared(die, bound);
        let kind = if wide { TaskKind::Agent } else { draft_kind(die) };
        if matches!(kind, TaskKind::Group { .. }) {
            shared.queue_timeout_ms = None;
        }
        let parents = match number {
            number if number < roots => Vec::new(),
            // All hang on the first: more edges than one portion holds.
            _ if wide => vec![(0, if die.random_bool(0.9) { EdgeKind::Needs } else { EdgeKind::OnFailure })],
            number => draft_parents(die, number),
        };
        drafts.push(Draft { shared, kind, parents });
    }
    let waiting = drafts.split_off(roots);
    let queue_of = |draft: &Draft| match draft.kind {
        TaskKind::Group { .. } => None,
        TaskKind::Expand { .. } => Some(QueueName::expand()),
        _ => Some(draft.shared.queue.clone()),
    };
    drafts
        .sort_by_key(|draft| (queue_of(draft).map(|queue| queue.as_str().to_owned()), draft.shared.priority));
    let root_queues: Vec<Option<QueueName>> = drafts.iter().map(queue_of).collect();
    drafts.extend(waiting);
    let policy = RunPolicy {
        concurrency: die.random_bool(0.35).then(|| die.random_range(1..4)),
        timeout_ms: die.random_bool(0.12).then_some(40_000),
        fail_fast: die.random_bool(0.45),
        trace: false,
    };
    assemble(drafts, &root_queues, policy, if bound { TYPES.map(slug).to_vec() } else { Vec::new() })
}

fn assemble(
    drafts: Vec<Draft>,
    root_queues: &[Option<QueueName>],
    policy: RunPolicy,
    bound_agents: Vec<AgentSlug>,
) -> Plan {
    let mut shared: Vec<SharedSpec> = Vec::new();
    let mut tasks: Vec<PlannedTask> = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        let number = shared.iter().position(|known| *known == draft.shared).unwrap_or_else(|| {
            shared.push(draft.shared.clone());
            shared.len() - 1
        });
        let count = |needs: bool| {
            draft.parents.iter().filter(|(_, edge)| (*edge == EdgeKind::Needs) == needs).count() as u32
        };
        tasks.push(PlannedTask {
            step: format!("step{index}").parse().expect("a lawful step"),
            shared: number as u32,
            kind: draft.kind.clone(),
            prompt: Some("do it".to_owned()),
            references: References::default(),
            dependencies: count(true),
            triggers: count(false),
            dependents: Vec::new(),
            handled: draft.shared.continue_on.failed,
            handler: false,
        });
    }
    for (index, draft) in drafts.iter().enumerate() {
        for (parent, edge) in &draft.parents {
            tasks[*parent].dependents.push(Dependent { index: index as u32, edge: *edge });
            tasks[*parent].handled |= *edge == EdgeKind::OnFailure;
            // Parents have lower numbers, so what lies behind a handler is one as well.
            tasks[index].handler |= *edge == EdgeKind::OnFailure || tasks[*parent].handler;
            if index % 3 == 0 {
                let step = tasks[*parent].step.clone();
                tasks[index].references.steps.insert(step, *parent as u32);
            }
        }
    }
    add_items(&mut tasks);
    let mut roots: Vec<RootRange> = Vec::new();
    for (index, queue) in root_queues.iter().enumerate() {
        match roots.last_mut() {
            Some(range) if range.queue == *queue => range.count += 1,
            _ => roots.push(RootRange { queue: queue.clone(), first: index as u32, count: 1 }),
        }
    }
    let context = RunContext {
        workflow: "random".to_owned(),
        version: None,
        vars: IndexMap::new(),
        params: IndexMap::new(),
        folder: None,
        trace: false,
    };
    Plan {
        context,
        policy,
        agents: IndexMap::new(),
        shared,
        tasks,
        roots,
        bound_agents,
        definition: None,
        key: None,
        waits_for: Vec::new(),
        seeds: Default::default(),
    }
}

fn add_items(tasks: &mut Vec<PlannedTask>) {
    for index in 0..tasks.len() {
        let TaskKind::Group { count, max_parallel, .. } = tasks[index].kind else { continue };
        let first = tasks.len() as u32;
        tasks[index].kind = TaskKind::Group { first, count, max_parallel };
        for number in 0..count {
            let mut item = tasks[index].clone();
            item.kind = TaskKind::Item { group: index as u32, number, item: number.into() };
            item.prompt = None;
            item.dependencies = 0;
            item.triggers = 0;
            item.dependents = vec![Dependent { index: index as u32, edge: EdgeKind::Item }];
            tasks.push(item);
        }
    }
}
