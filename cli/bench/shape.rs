//! Plans of known shape: as many tasks as wanted, all alike.

use clap::ValueEnum;
use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::plan::{
    ContinueOn, Dependent, EdgeKind, Plan, PlannedTask, QueueName, References, RootRange, RunContext,
    RunPolicy, SharedSpec, TaskKind, WorkspaceChoice,
};
use maestro_model::retry::RetryPolicy;

/// Tasks of one layer, and how many of the layer before each of them needs.
const LAYER_WIDTH: u32 = 100;
const LAYER_NEEDS: u32 = 3;
/// Longest time of one attempt, ms.
const TIMEOUT_MS: u64 = 600_000;
/// The prompt of every task: 200 bytes, as in the published measurements of others.
const PROMPT_BYTES: usize = 200;

/// The shape of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphShape {
    /// No edges
    Flat,
    /// Each needs the one before
    Chain,
    /// One, then all but two side by side, then one
    Fan,
    /// Layers of 100; each needs three of the layer before
    Layers,
}

impl GraphShape {
    /// The word on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            GraphShape::Flat => "flat",
            GraphShape::Chain => "chain",
            GraphShape::Fan => "fan",
            GraphShape::Layers => "layers",
        }
    }

    /// What a task needs, by index.
    fn needs(self, index: u32, count: u32) -> Vec<u32> {
        match self {
            GraphShape::Flat => Vec::new(),
            GraphShape::Chain => index.checked_sub(1).into_iter().collect(),
            GraphShape::Fan if index == 0 => Vec::new(),
            GraphShape::Fan if index + 1 == count => (1..index.max(1)).collect(),
            GraphShape::Fan => vec![0],
            GraphShape::Layers if index < LAYER_WIDTH => Vec::new(),
            GraphShape::Layers => {
                let before = (index / LAYER_WIDTH - 1) * LAYER_WIDTH;
                (0..LAYER_NEEDS).map(|step| before + (index + step) % LAYER_WIDTH).collect()
            }
        }
    }
}

/// A plan of `count` tasks of one shape for one agent type.
pub(crate) fn shaped_plan(shape: GraphShape, count: u32, agent: &AgentType) -> Plan {
    let shared = SharedSpec {
        agent: agent.slug.clone(),
        assigned: None,
        queue: QueueName::agent(&agent.slug),
        priority: 3,
        role: None,
        prompt: None,
        references: References::default(),
        when: None,
        publish: IndexMap::new(),
        env: IndexMap::new(),
        timeout_ms: TIMEOUT_MS,
        queue_timeout_ms: None,
        stall_timeout_ms: None,
        retry: RetryPolicy::default(),
        workspace: WorkspaceChoice::Task,
        continue_on: ContinueOn::default(),
    };
    let needs: Vec<Vec<u32>> = (0..count).map(|index| shape.needs(index, count)).collect();
    let mut tasks: Vec<PlannedTask> =
        needs.iter().enumerate().map(|(index, needs)| task(index, needs.len() as u32)).collect();
    for (index, needs) in needs.iter().enumerate() {
        for need in needs {
            tasks[*need as usize].dependents.push(Dependent { index: index as u32, edge: EdgeKind::Needs });
        }
    }
    let roots = needs.iter().take_while(|needs| needs.is_empty()).count() as u32;
    Plan {
        context: RunContext {
            workflow: format!("bench-{}", shape.word()),
            version: None,
            vars: IndexMap::new(),
            params: IndexMap::new(),
            folder: None,
            trace: false,
        },
        policy: RunPolicy::default(),
        agents: IndexMap::from([(agent.slug.clone(), agent.clone())]),
        roots: vec![RootRange { queue: Some(shared.queue.clone()), first: 0, count: roots }],
        shared: vec![shared],
        tasks,
        bound_agents: Vec::new(),
        definition: None,
        key: None,
        waits_for: Vec::new(),
        seeds: Default::default(),
    }
}

fn task(index: usize, dependencies: u32) -> PlannedTask {
    PlannedTask {
        step: format!("t{index}").parse().expect("a letter and digits are a step id"),
        shared: 0,
        kind: TaskKind::Agent,
        prompt: Some("x".repeat(PROMPT_BYTES)),
        references: References::default(),
        dependencies,
        triggers: 0,
        dependents: Vec::new(),
        handled: false,
        handler: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_the_edges_it_is_named_after() {
        let edges = |shape: GraphShape, count| -> u32 {
            (0..count).map(|index| shape.needs(index, count).len() as u32).sum()
        };
        assert_eq!(edges(GraphShape::Flat, 50), 0);
        assert_eq!(edges(GraphShape::Chain, 50), 49);
        assert_eq!(edges(GraphShape::Fan, 50), 48 + 48);
        assert_eq!(edges(GraphShape::Layers, 300), 600);
    }
}
