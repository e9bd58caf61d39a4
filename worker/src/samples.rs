//! Tasks, runs and agent types for tests of several modules.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::ids::{Attempt, TaskId};
use maestro_model::plan::{ContinueOn, References, RunContext, SharedSpec, WorkspaceChoice};
use maestro_model::retry::RetryPolicy;
use maestro_store::brought::KnownRun;
use maestro_store::encode::OwnSpec;
use maestro_store::step::Grant;

use crate::held::AttemptKey;

/// An attempt of a task of the one run that tests know.
pub(crate) fn key(index: u32, attempt: u32) -> AttemptKey {
    let run = "0k3v9x2mqf1a".parse().expect("a lawful id");
    (TaskId { run, index }, Attempt(attempt))
}

/// An agent type whose command is itself.
pub(crate) fn agent_type(slug: &str) -> AgentType {
    let command = if slug == "noop" { Vec::new() } else { vec![slug] };
    let json = serde_json::json!({ "slug": slug, "mode": slug, "command": command });
    serde_json::from_value(json).expect("an agent type")
}

/// The shared part of steps of a type.
pub(crate) fn shared_spec(slug: &str) -> SharedSpec {
    let agent: maestro_model::ids::AgentSlug = slug.parse().expect("a lawful slug");
    SharedSpec {
        queue: maestro_model::plan::QueueName::agent(&agent),
        agent,
        assigned: None,
        priority: 3,
        role: None,
        prompt: None,
        references: References::default(),
        when: None,
        publish: IndexMap::new(),
        env: IndexMap::new(),
        timeout_ms: 60_000,
        queue_timeout_ms: None,
        stall_timeout_ms: None,
        retry: RetryPolicy { jitter: false, ..RetryPolicy::default() },
        workspace: WorkspaceChoice::Task,
        continue_on: ContinueOn::default(),
    }
}

/// A run with this shared part as number 0.
pub(crate) fn known_run(shared: SharedSpec) -> KnownRun {
    let context = RunContext {
        workflow: "sample".to_owned(),
        version: None,
        vars: IndexMap::new(),
        params: IndexMap::new(),
        folder: None,
        trace: false,
    };
    let agent = agent_type(shared.agent.as_str());
    KnownRun {
        context: Arc::new(context),
        agents: HashMap::from([(agent.slug.to_string(), Arc::new(agent))]),
        shared: HashMap::from([(0, Arc::new(shared))]),
    }
}

/// A grant of an attempt, of shared part 0.
pub(crate) fn grant(key: &AttemptKey, prompt: &str) -> Grant {
    let own = OwnSpec {
        step: "build".to_owned(),
        prompt: Some(prompt.to_owned()),
        ..serde_json::from_str::<OwnSpec>(r#"{"s":"build"}"#).expect("a task's own part")
    };
    Grant {
        task: key.0.clone(),
        attempt: key.1,
        failures: 0,
        losses: 0,
        come_backs: 0,
        host_failures: 0,
        shared: 0,
        group: None,
        own,
        values: Vec::new(),
        agent: None,
        waited_ms: 0,
    }
}
