//! How far an agent has followed the order to stand still.
//!
//! It says what is to be sent to the agent's processes and looks whether they obey; who gives the order is `standstill`.
//! An agent that is being ended is not paused any more: it has to be able to end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::standstill::Mover;

/// First and longest wait before it is looked whether all processes have stopped.
const LOOK_WAIT: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// What is to be sent to the processes of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PauseStep {
    /// Stop.
    Stop,
    /// Go on; so long it was to stand still.
    GoOn(Duration),
    /// Nothing.
    None,
}

/// One agent's part in standing still.
pub(super) struct AgentPause {
    mover: Arc<Mover>,
    /// Whether all of the agent stands still by now.
    is_still: Box<dyn Fn() -> bool + Send + Sync>,
    state: PauseState,
}

#[derive(Debug, Clone, Copy)]
enum PauseState {
    Moving,
    Stopping { since: Instant, look: Instant, wait: Duration },
    Still { since: Instant },
    BrokenOff,
}

impl AgentPause {
    /// `is_still` tells whether all of the agent stands still by now.
    pub(super) fn of(mover: Arc<Mover>, is_still: Box<dyn Fn() -> bool + Send + Sync>) -> AgentPause {
        AgentPause { mover, is_still, state: PauseState::Moving }
    }

    /// Whether its limits stand still.
    pub(super) fn is_on(&self) -> bool {
        matches!(self.state, PauseState::Stopping { .. } | PauseState::Still { .. })
    }

    /// Waits until something is to be done. May be dropped and called again.
    pub(super) async fn due(&self) {
        match self.state {
            PauseState::Moving => self.mover.order_changed_from(false).await,
            PauseState::Still { .. } => self.mover.order_changed_from(true).await,
            PauseState::Stopping { look, .. } => tokio::select! {
                () = self.mover.order_changed_from(true) => {}
                () = sleep_until(look) => {}
            },
            PauseState::BrokenOff => std::future::pending().await,
        }
    }

    /// What is to be done now.
    pub(super) fn step(&mut self) -> PauseStep {
        let now = Instant::now();
        let to_pause = self.mover.is_to_pause();
        match self.state {
            PauseState::Moving if to_pause => {
                self.state = PauseState::Stopping { since: now, look: now + LOOK_WAIT.0, wait: LOOK_WAIT.0 };
                PauseStep::Stop
            }
            PauseState::Stopping { since, .. } | PauseState::Still { since } if !to_pause => {
                self.mover.move_at_once();
                self.state = PauseState::Moving;
                PauseStep::GoOn(now - since)
            }
            PauseState::Stopping { since, look, .. } if look <= now && (self.is_still)() => {
                self.mover.stand_still();
                self.state = PauseState::Still { since };
                PauseStep::None
            }
            PauseState::Stopping { since, look, wait } if look <= now => {
                // A process that was being started may have slipped past.
                let wait = (wait * 2).min(LOOK_WAIT.1);
                self.state = PauseState::Stopping { since, look: now + wait, wait };
                PauseStep::Stop
            }
            _ => PauseStep::None,
        }
    }

    /// The agent is told to end, and moves until it has.
    pub(super) fn break_off(&mut self) {
        self.mover.move_at_once();
        self.state = PauseState::BrokenOff;
    }
}
