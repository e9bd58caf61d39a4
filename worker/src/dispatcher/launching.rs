//! When what is ready is launched: never beside another attempt of the same task, or another task of the same
//! agent.

use maestro_model::agent_type::OnDisconnect;
use maestro_model::ids::Attempt;

use super::{Dispatcher, Holding, Stage};
use crate::events::WorkerAction;
use crate::held::AttemptKey;

impl Dispatcher {
    /// Launches what is ready, unless an earlier attempt of the same task is still being ended here: two
    /// attempts of one task never run at one time on one worker, nor do two tasks of one agent in its folder.
    pub(super) fn launch_waiting(&mut self, actions: &mut Vec<WorkerAction>) {
        if self.waiting.is_empty() {
            return;
        }
        for key in std::mem::take(&mut self.waiting) {
            let earlier = (key.0.clone(), Attempt(0))..key.clone();
            if self.held.range(earlier).next().is_some() || self.is_agent_at_work(&key) {
                self.waiting.push(key);
                continue;
            }
            let Some(holding) = self.held.get_mut(&key) else { continue };
            let Stage::Waiting(rendered) = &holding.stage else { continue };
            let keeps_on = rendered.ready.agent.on_disconnect == OnDisconnect::Keep;
            let launched = Stage::Launched { shared: rendered.ready.shared.clone(), keeps_on };
            if let Stage::Waiting(rendered) = std::mem::replace(&mut holding.stage, launched) {
                actions.push(WorkerAction::Launch(rendered));
            }
        }
    }

    /// Whether the assigned agent of a task that is to be launched still does something else.
    fn is_agent_at_work(&self, key: &AttemptKey) -> bool {
        let Some(Holding { stage: Stage::Waiting(rendered), .. }) = self.held.get(key) else { return false };
        let Some(agent) = &rendered.ready.shared.assigned else { return false };
        let works_on = |holding: &Holding| match &holding.stage {
            Stage::Launched { shared, .. } => shared.assigned.as_ref() == Some(agent),
            Stage::Fetching | Stage::Waiting(_) => false,
        };
        self.held.values().any(works_on)
    }
}
