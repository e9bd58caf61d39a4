//! Agents that have their folder on this worker, and whether their type can be launched here.
//!
//! Looked at together with the types (`serving`). Whose turn it is, and that an agent does one task at a
//! time, is decided in the claim; making and checking a folder is `mailbox`'s business.

use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::assignment::Assignment;
use maestro_model::ids::{AgentId, AgentSlug, WorkerName};

use crate::host_checks::obstacle;
use crate::settings::WorkerSettings;

/// An agent whose tasks can be run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentHere {
    /// Its id.
    pub id: AgentId,
    /// Its type.
    pub agent_type: AgentSlug,
    /// Its folder.
    pub path: String,
}

/// All agents of this worker that are not stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentsHere {
    /// Their tasks can be run.
    pub ready: Vec<AgentHere>,
    /// Their tasks wait, and why.
    pub hindered: Vec<(AgentId, String)>,
}

impl AgentsHere {
    /// Sorts the agents of this worker. `--agents` does not count: whoever assigns an agent to this worker
    /// wants it here.
    pub fn find(
        settings: &WorkerSettings,
        name: &WorkerName,
        known: &IndexMap<AgentSlug, AgentType>,
        assignments: &IndexMap<AgentId, Assignment>,
    ) -> AgentsHere {
        let mut here = AgentsHere::default();
        for agent in assignments.values().filter(|agent| agent.worker == *name && agent.held.is_none()) {
            let obstacle = match known.get(&agent.agent_type) {
                None => Some(format!("agent type `{}` is not registered", agent.agent_type)),
                Some(known) => obstacle(settings, known),
            };
            match obstacle {
                Some(reason) => here.hindered.push((agent.id.clone(), reason)),
                None => here.ready.push(AgentHere {
                    id: agent.id.clone(),
                    agent_type: agent.agent_type.clone(),
                    path: agent.path.clone(),
                }),
            }
        }
        here
    }
}
