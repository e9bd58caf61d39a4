//! How a worker comes to its end: it drains, then ends what still runs, then gives up. And how all its agents do
//! while it goes on itself.

use std::time::Duration;

use super::{BOUND_POLL, Dispatcher, Phase, Sparing, Stage};
use crate::events::{DrainNumber, DrainOrder, EndCause, WorkerAction};
use crate::held::AttemptKey;

impl Dispatcher {
    pub(super) fn on_runs_bound(&mut self, count: usize, actions: &mut Vec<WorkerAction>) {
        self.bound_runs = Some(count);
        if count > 0 && self.phase == Phase::Draining {
            self.hungry = true;
            actions.push(WorkerAction::AskBoundRuns(BOUND_POLL));
        }
    }

    /// What is held goes back, and the worker goes on: whether it claims anything is said by the cluster's mode.
    /// Asked again, the shorter grace counts.
    pub(super) fn on_end_agents(&mut self, grace: Duration, actions: &mut Vec<WorkerAction>) {
        let all: Vec<AttemptKey> = self.held.keys().cloned().collect();
        for key in all {
            let Some(holding) = self.held.get_mut(&key) else { continue };
            if matches!(holding.stage, Stage::Launched { .. }) {
                // A weaker cause never replaces a stronger one.
                holding.ending = holding.ending.max(Some(EndCause::Return));
                actions.push(WorkerAction::EndAttemptWithin(key, grace));
            } else {
                self.end_attempt(&key, EndCause::Return, actions);
            }
        }
    }

    pub(super) fn on_terminate(&mut self, actions: &mut Vec<WorkerAction>) {
        let is_second = std::mem::replace(&mut self.drain.terminated, true);
        match self.phase {
            Phase::Serving => {
                self.begin_draining(actions);
                actions.push(WorkerAction::StartDrainTimer(self.drain.number, None));
            }
            Phase::Draining if is_second => self.begin_ending(actions),
            // Of the time that was asked for in so many words and the worker's own the shorter one counts.
            Phase::Draining => actions.push(WorkerAction::StartDrainTimer(self.drain.number, None)),
            // Whoever asks once more does not want to wait for agents that do not listen.
            Phase::Ending => self.on_end_agents(Duration::ZERO, actions),
            Phase::Finished => {}
        }
    }

    pub(super) fn on_drain(&mut self, order: DrainOrder, actions: &mut Vec<WorkerAction>) {
        if self.phase == Phase::Serving {
            self.begin_draining(actions);
        } else if order.deadline.is_none() && !order.force {
            // It drains as it was told before.
            return;
        }
        if order.force {
            return self.begin_ending(actions);
        }
        self.drain.number.0 += 1;
        actions.push(WorkerAction::StartDrainTimer(self.drain.number, order.deadline));
    }

    pub(super) fn on_drain_deadline(&mut self, number: DrainNumber, actions: &mut Vec<WorkerAction>) {
        if number == self.drain.number {
            self.begin_ending(actions);
        }
    }

    fn begin_draining(&mut self, actions: &mut Vec<WorkerAction>) {
        self.phase = Phase::Draining;
        // The same types as before, but said at once: with them goes that it drains.
        actions.push(WorkerAction::Serve(self.intake.serves()));
        actions.push(WorkerAction::AskBoundRuns(Duration::ZERO));
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
