//! What a worker may claim: the queues of the types it serves and of the agents assigned to it, less those
//! that its host fails.
//!
//! Whether it has room for a task, and whether it takes any at all, is the dispatcher's business.

use std::collections::BTreeMap;

use maestro_model::agent_type::NOOP;
use maestro_model::ids::{AgentSlug, WorkerName};
use maestro_model::plan::QueueName;

use crate::assigned::{AgentHere, AgentsHere};
use crate::events::Breakage;

/// The types served and what is broken.
#[derive(Debug)]
pub struct Intake {
    own: QueueName,
    types: Vec<AgentSlug>,
    agents: AgentsHere,
    broken: BTreeMap<Breakage, String>,
}

impl Intake {
    /// All works.
    pub fn new(name: &WorkerName, types: Vec<AgentSlug>) -> Intake {
        let own = QueueName::worker(name.as_str());
        Intake { own, types, agents: AgentsHere::default(), broken: BTreeMap::new() }
    }

    /// The queue of tasks that must run here: steps that share a folder which is here.
    pub fn own_queue(&self) -> &QueueName {
        &self.own
    }

    /// Where tasks are claimed now.
    ///
    /// One's own queue is left out while no agent can run at all. A single type that is broken does not
    /// close it: its tasks fail one by one, with their reason, and the others go on.
    pub fn queues(&self) -> Vec<QueueName> {
        let own = (!self.is_host_broken()).then(|| self.own.clone());
        let types = self.working_types().map(QueueName::agent);
        let agents = self.agents.ready.iter().filter(|agent| self.can_launch(agent));
        own.into_iter().chain(types).chain(agents.map(|agent| QueueName::assigned(&agent.id))).collect()
    }

    /// Types whose tasks would be claimed now.
    pub fn serves(&self) -> Vec<AgentSlug> {
        self.working_types().cloned().collect()
    }

    fn working_types(&self) -> impl Iterator<Item = &AgentSlug> {
        self.types.iter().filter(|slug| self.is_working(slug))
    }

    fn is_working(&self, slug: &AgentSlug) -> bool {
        // What launches nothing needs neither a workspace nor the launcher.
        let is_reached = slug.as_str() == NOOP || !self.is_host_broken();
        is_reached && !self.broken.contains_key(&Breakage::Type(slug.clone()))
    }

    fn can_launch(&self, agent: &AgentHere) -> bool {
        self.is_working(&agent.agent_type) && !self.broken.contains_key(&Breakage::Agent(agent.id.clone()))
    }

    fn is_host_broken(&self) -> bool {
        self.broken.contains_key(&Breakage::Workspaces) || self.broken.contains_key(&Breakage::Launcher)
    }

    /// Serves other types from now on; true if that changes anything.
    pub fn set_types(&mut self, types: Vec<AgentSlug>) -> bool {
        let changed = self.types != types;
        self.types = types;
        changed
    }

    /// Has other agents from now on; true if that changes anything.
    pub fn set_agents(&mut self, agents: AgentsHere) -> bool {
        if self.agents == agents {
            return false;
        }
        let is_elsewhere = |agent: &&AgentHere| !agents.ready.contains(agent);
        for agent in self.agents.ready.iter().filter(is_elsewhere) {
            // What was wrong with its folder was wrong with another one.
            self.broken.remove(&Breakage::Agent(agent.id.clone()));
        }
        self.agents = agents;
        true
    }

    /// Notes that a part is broken; true if it was not known to be.
    pub fn break_down(&mut self, part: Breakage, message: String) -> bool {
        self.broken.insert(part, message).is_none()
    }

    /// Notes that a part works; true if it was broken.
    pub fn mend(&mut self, part: &Breakage) -> bool {
        self.broken.remove(part).is_some()
    }

    /// One line for people, if anything is broken.
    pub fn trouble(&self) -> Option<String> {
        let broken = self.broken.iter().map(|(part, message)| format!("{part}: {message}"));
        let hindered = self.agents.hindered.iter().map(|(id, reason)| format!("agent `{id}`: {reason}"));
        let lines: Vec<String> = broken.chain(hindered).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slug(text: &str) -> AgentSlug {
        text.parse().expect("a lawful slug")
    }

    fn intake() -> Intake {
        Intake::new(&"alpha".parse().expect("a lawful name"), vec![slug("shell"), slug("noop")])
    }

    fn names(intake: &Intake) -> Vec<String> {
        intake.queues().iter().map(|queue| queue.as_str().to_owned()).collect()
    }

    #[test]
    fn what_needs_a_broken_part_is_not_claimed_until_it_is_mended() {
        let mut intake = intake();
        assert_eq!(names(&intake), ["w:alpha", "a:shell", "a:noop"]);
        assert_eq!(intake.trouble(), None);

        assert!(intake.break_down(Breakage::Type(slug("shell")), "binary not found: `sh`".to_owned()));
        assert!(!intake.break_down(Breakage::Type(slug("shell")), "binary not found: `sh`".to_owned()));
        assert_eq!(names(&intake), ["w:alpha", "a:noop"]);
        assert_eq!(intake.serves(), [slug("noop")]);

        assert!(intake.break_down(Breakage::Workspaces, "disk full".to_owned()));
        assert_eq!(names(&intake), ["a:noop"]);
        let trouble = "workspaces: disk full; agent type `shell`: binary not found: `sh`";
        assert_eq!(intake.trouble().as_deref(), Some(trouble));

        assert!(intake.mend(&Breakage::Workspaces));
        assert!(!intake.mend(&Breakage::Workspaces));
        assert!(intake.mend(&Breakage::Type(slug("shell"))));
        assert_eq!(names(&intake), ["w:alpha", "a:shell", "a:noop"]);
    }

    #[test]
    fn agents_are_claimed_after_types_and_only_if_their_type_works() {
        let mut intake = intake();
        let agent = |id: &str, of: &str| AgentHere {
            id: id.parse().expect("a lawful id"),
            agent_type: slug(of),
            path: "/srv/app".to_owned(),
        };
        let ready = vec![agent("jones", "kilo"), agent("smith", "shell")];
        assert!(intake.set_agents(AgentsHere { ready, hindered: Vec::new() }));
        assert_eq!(names(&intake), ["w:alpha", "a:shell", "a:noop", "i:jones", "i:smith"]);
        intake.break_down(Breakage::Type(slug("shell")), "binary not found: `sh`".to_owned());
        assert_eq!(names(&intake), ["w:alpha", "a:noop", "i:jones"]);
        intake.break_down(Breakage::Launcher, "gone".to_owned());
        assert_eq!(names(&intake), ["a:noop"]);
    }

    #[test]
    fn a_change_of_types_is_told_from_none() {
        let mut intake = intake();
        assert!(!intake.set_types(vec![slug("shell"), slug("noop")]));
        assert!(intake.set_types(vec![slug("noop")]));
        assert_eq!(names(&intake), ["w:alpha", "a:noop"]);
    }
}
