//! Steps that name an assigned agent.

use serde_json::json;

use super::*;
use crate::assignment::Assignment;

/// `smith` is a shell with a role and a priority, and `other` is both an agent and a type.
fn with_agents() -> AgentCatalogue {
    let agent = |id: &str, priority: Option<u8>, role: Option<&str>| -> Assignment {
        let text = json!({
            "v": 1, "id": id, "agent_type": "shell", "path": "/srv/app", "worker": "one",
            "priority": priority, "role": role,
        });
        serde_json::from_value(text).expect("a lawful agent")
    };
    let assigned = [agent("smith", Some(1), Some("builder")), agent("other", None, None)];
    AgentCatalogue { assigned: assigned.map(|one| (one.id.clone(), one)).into(), ..all_agents() }
}

#[test]
fn a_step_for_an_agent_waits_for_that_agent_and_works_in_its_folder() {
    let text = "
name: demo
defaults: {workspace: run}
steps:
  - {id: a, agent: smith, prompt: x}
  - {id: b, agent: smith, prompt: x, priority: 4, role: critic, workspace: task}
  - {id: c, agent: other, prompt: x}
  - {id: d, agent: shell, prompt: x}
  - {id: e, agent: smith, prompt: x, depends_on: a, foreach: \"<< steps.a.outputs.list >>\"}
";
    let plan = compile(&workflow(text), &RunInputs::default(), &with_agents()).expect("all is known");
    let shown = |step: &str| {
        let shared = &plan.shared[task(&plan, step).shared as usize];
        let assigned = shared.assigned.as_ref().map_or("-", |id| id.as_str());
        let role = shared.role.as_deref().unwrap_or("-");
        let of = (shared.agent.as_str(), assigned, shared.queue.as_str());
        (of, shared.priority, role, shared.workspace.clone())
    };
    let smiths = ("shell", "smith", "i:smith");
    assert_eq!(shown("a"), (smiths, 1, "builder", WorkspaceChoice::Assigned));
    assert_eq!(shown("b"), (smiths, 4, "critic", WorkspaceChoice::Assigned));
    assert_eq!(shown("c"), (("shell", "other", "i:other"), 3, "-", WorkspaceChoice::Assigned));
    assert_eq!(shown("d"), (("shell", "-", "a:shell"), 3, "-", WorkspaceChoice::Run));
    assert_eq!(shown("e").0, smiths);
    assert_eq!(plan.bound_agents.iter().map(AgentSlug::as_str).collect::<Vec<_>>(), ["shell"]);
    assert_eq!(plan.agents.keys().map(AgentSlug::as_str).collect::<Vec<_>>(), ["shell"]);
    let queues: Vec<&str> =
        plan.roots.iter().filter_map(|range| range.queue.as_ref()).map(|queue| queue.as_str()).collect();
    assert_eq!(queues, ["i:smith", "i:other", "a:shell"]);
}

#[test]
fn an_unknown_agent_is_compared_with_agents_and_types() {
    let text = "name: demo\nsteps: [{id: a, agent: smit, prompt: x}]\n";
    let problems = compile(&workflow(text), &RunInputs::default(), &with_agents()).expect_err("unknown");
    assert!(problems.to_string().contains("did you mean `smith`?"), "{problems}");
    let mut orphaned = with_agents();
    orphaned.types.shift_remove(&"shell".parse::<AgentSlug>().expect("a lawful slug"));
    let text = "name: demo\nsteps: [{id: a, agent: smith, prompt: x}]\n";
    let problems = compile(&workflow(text), &RunInputs::default(), &orphaned).expect_err("it lacks its type");
    let told = problems.to_string();
    assert!(told.contains("agent `smith` is of agent type `shell`, which is not registered"), "{told}");
}
