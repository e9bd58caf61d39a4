//! Agents that were ended by a signal which their worker had not sent: told until one of the same name does well.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use maestro_model::ids::{AgentId, AgentSlug};
use maestro_store::worker::KilledAgent;

/// Most of them that are told; the oldest gives way.
const TOLD_MAX: usize = 32;
/// How long each is told if nothing else comes of it.
const TOLD_FOR: Duration = Duration::from_secs(600);

/// The list; clones share it.
#[derive(Debug, Clone, Default)]
pub struct KilledAgents(Arc<Mutex<Vec<(Instant, KilledAgent)>>>);

impl KilledAgents {
    /// It happened.
    pub fn add(&self, killed: KilledAgent) {
        self.did_well(&killed.agent, killed.assigned.as_ref());
        let mut list = self.0.lock().expect("no holder panics");
        if list.len() >= TOLD_MAX {
            list.remove(0);
        }
        list.push((Instant::now(), killed));
    }

    /// An agent of this name has ended well: what was before is over.
    pub fn did_well(&self, agent: &AgentSlug, assigned: Option<&AgentId>) {
        let mut list = self.0.lock().expect("no holder panics");
        list.retain(|(_, one)| one.agent != *agent || one.assigned.as_ref() != assigned);
    }

    /// What is to be told now.
    pub fn told(&self) -> Vec<KilledAgent> {
        let mut list = self.0.lock().expect("no holder panics");
        list.retain(|(at, _)| at.elapsed() < TOLD_FOR);
        list.iter().map(|(_, one)| one.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_does_well_again_is_told_of_no_more() {
        let killed = |slug: &str, assigned: Option<&str>| KilledAgent {
            agent: slug.parse().expect("lawful"),
            assigned: assigned.map(|id| id.parse().expect("lawful")),
            task: crate::samples::key(1, 1).0,
            attempt: crate::samples::key(1, 1).1,
            signal: 9,
        };
        let list = KilledAgents::default();
        list.add(killed("shell", None));
        list.add(killed("shell", Some("smith")));
        list.add(killed("shell", None));
        assert_eq!(list.told().len(), 2, "each name once");
        list.did_well(&"shell".parse().expect("lawful"), None);
        assert_eq!(list.told(), [killed("shell", Some("smith"))]);
        for number in 0..2 * TOLD_MAX {
            list.add(killed(&format!("type-{number}"), None));
        }
        assert_eq!(list.told().len(), TOLD_MAX);
    }
}
