//! What a step or a dispatch may name as its agent: agents first, then agent types.

use indexmap::IndexMap;

use crate::agent_type::AgentType;
use crate::assignment::Assignment;
use crate::ids::{AgentId, AgentSlug};

/// All agent types and agents there are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentCatalogue {
    /// The types, by slug.
    pub types: IndexMap<AgentSlug, AgentType>,
    /// The agents, by id.
    pub assigned: IndexMap<AgentId, Assignment>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NamedAgent<'c> {
    /// What to launch.
    pub agent_type: &'c AgentType,
    /// Which agent, if the name is that of one.
    pub assigned: Option<&'c Assignment>,
}

/// Why a name stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownAgent {
    /// There is neither an agent nor a type of that name.
    #[error("unknown agent type `{name}`")]
    Name {
        /// The name.
        name: String,
    },
    /// There is an agent, and its type is not registered.
    #[error("agent `{id}` is of agent type `{agent_type}`, which is not registered")]
    Type {
        /// The agent.
        id: AgentId,
        /// What it should be an instance of.
        agent_type: AgentSlug,
    },
}

impl AgentCatalogue {
    /// Types alone.
    pub fn of_types(types: IndexMap<AgentSlug, AgentType>) -> AgentCatalogue {
        AgentCatalogue { types, assigned: IndexMap::new() }
    }

    /// What a name stands for: a name that is both means the agent.
    ///
    /// # Errors
    /// If it stands for nothing that can be launched.
    pub fn find(&self, name: &str) -> Result<NamedAgent<'_>, UnknownAgent> {
        let assigned = name.parse::<AgentId>().ok().and_then(|id| self.assigned.get(&id));
        let Some(assigned) = assigned else {
            let known = name.parse::<AgentSlug>().ok().and_then(|slug| self.types.get(&slug));
            let unknown = || UnknownAgent::Name { name: name.to_owned() };
            return known.map(|agent_type| NamedAgent { agent_type, assigned: None }).ok_or_else(unknown);
        };
        match self.types.get(&assigned.agent_type) {
            Some(agent_type) => Ok(NamedAgent { agent_type, assigned: Some(assigned) }),
            None => {
                Err(UnknownAgent::Type { id: assigned.id.clone(), agent_type: assigned.agent_type.clone() })
            }
        }
    }

    /// All that may be named, agents before types, to find the nearest of a name that stands for nothing.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let agents = self.assigned.keys().map(AgentId::as_str);
        agents.chain(self.types.keys().map(AgentSlug::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::ASSIGNMENT_VERSION;

    fn catalogue() -> AgentCatalogue {
        let type_of = |slug: &str| -> AgentType {
            serde_json::from_value(serde_json::json!({"slug": slug, "mode": slug, "command": ["sh"]}))
                .expect("a lawful type")
        };
        let agent = |id: &str, agent_type: &str| Assignment {
            v: ASSIGNMENT_VERSION,
            id: id.parse().expect("a lawful id"),
            agent_type: agent_type.parse().expect("a lawful slug"),
            path: "/srv/app".to_owned(),
            role: None,
            priority: None,
            worker: "one".parse().expect("a lawful name"),
            assigned_at_ms: 0,
            held: None,
        };
        let types = ["shell", "both"].map(type_of).map(|one| (one.slug.clone(), one));
        let agents = [agent("smith", "shell"), agent("both", "shell"), agent("orphan", "gone")];
        AgentCatalogue {
            types: types.into(),
            assigned: agents.into_iter().map(|one| (one.id.clone(), one)).collect(),
        }
    }

    #[test]
    fn a_name_that_is_both_means_the_agent() {
        let catalogue = catalogue();
        let found = catalogue.find("both").expect("it is there");
        assert_eq!(found.agent_type.slug.as_str(), "shell");
        assert_eq!(found.assigned.map(|agent| agent.id.as_str()), Some("both"));
        assert_eq!(catalogue.find("shell").expect("it is there").assigned, None);
    }

    #[test]
    fn a_name_that_stands_for_nothing_says_what_is_missing() {
        let catalogue = catalogue();
        let message = |name: &str| catalogue.find(name).expect_err("it cannot be launched").to_string();
        assert_eq!(message("nobody"), "unknown agent type `nobody`");
        assert_eq!(message("no/name"), "unknown agent type `no/name`");
        assert_eq!(message("orphan"), "agent `orphan` is of agent type `gone`, which is not registered");
        let names: Vec<&str> = catalogue.names().collect();
        assert_eq!(names, ["smith", "both", "orphan", "shell", "both"]);
    }
}
