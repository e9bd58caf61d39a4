//! How a worker comes to its end: it drains, then ends what still runs, then gives up.

use std::time::Duration;

use super::{BOUND_POLL, Dispatcher, Phase, Sparing};
use crate::events::{EndCause, WorkerAction};

impl Dispatcher {
    pub(super) fn on_runs_bound(&mut self, count: usize, actions: &mut Vec<WorkerAction>) {
        self.bound_runs = Some(count);
        if count > 0 && self.phase == Phase::Draining {
            self.hungry = true;
            actions.push(WorkerAction::AskBoundRuns(BOUND_POLL));
        }
    }

    pub(super) fn on_terminate(&mut self, actions: &mut Vec<WorkerAction>) {
        match self.phase {
            Phase::Serving => {
                self.phase = Phase::Draining;
                // The same types as before, but said at once: with them goes that it drains.
                actions.push(WorkerAction::Serve(self.intake.serves()));
                actions.push(WorkerAction::AskBoundRuns(Duration::ZERO));
                actions.push(WorkerAction::StartDrainTimer);
            }
            Phase::Draining => self.begin_ending(actions),
            Phase::Ending | Phase::Finished => {}
        }
    }

    pub(super) fn begin_ending(&mut self, actions: &mut Vec<WorkerAction>) {
        if self.phase == Phase::Draining {
            self.phase = Phase::Ending;
            self.end_all(EndCause::Return, Sparing::Nobody, actions);
            actions.push(WorkerAction::StartLastTimer);
        }
    }

    pub(super) fn on_last_deadline(&mut self, actions: &mut Vec<WorkerAction>) {
        if self.phase == Phase::Ending {
            tracing::error!(held = self.held.len(), "gave up: what was not reported comes back as lost");
            self.phase = Phase::Finished;
            actions.push(WorkerAction::Finish);
        }
    }

    pub(super) fn finish_if_done(&mut self, actions: &mut Vec<WorkerAction>) {
        let is_quiet = self.held.is_empty() && self.requests.is_quiet();
        let is_done = match self.phase {
            // Without a lease there is nothing to wait for: bound runs are lost with it.
            Phase::Draining => is_quiet && (!self.attached || self.bound_runs == Some(0)),
            Phase::Ending => is_quiet,
            Phase::Serving | Phase::Finished => false,
        };
        if is_done {
            self.phase = Phase::Finished;
            actions.push(WorkerAction::Finish);
        }
    }
}
