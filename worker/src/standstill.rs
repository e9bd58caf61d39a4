//! Whether the agents of this worker are to stand still, and whether they do.
//!
//! Whoever pauses sets it; each attempt follows by itself, and says so. Why agents pause, and for how long, is decided
//! in `freezing`; how a tree of processes is stopped, in `launch`.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// How it stands. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Standstill {
    state: Arc<watch::Sender<StandstillState>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct StandstillState {
    paused: bool,
    /// Attempts that may change their workspace.
    moving: usize,
    /// How often something began to move although all were to stand still, or the pause ended.
    stirred: u64,
}

/// A period in which nothing has moved, as far as it has lasted.
#[derive(Debug, Clone)]
pub struct StillPeriod {
    standstill: Standstill,
    stirred: u64,
}

impl Default for Standstill {
    fn default() -> Standstill {
        Standstill { state: Arc::new(watch::Sender::new(StandstillState::default())) }
    }
}

impl Standstill {
    /// From now on nothing begins to move, and what moves is to stop.
    pub fn pause(&self) {
        self.state.send_if_modified(|state| !std::mem::replace(&mut state.paused, true));
    }

    /// All may move again.
    pub fn resume(&self) {
        self.state.send_if_modified(|state| {
            state.stirred += u64::from(state.paused);
            std::mem::replace(&mut state.paused, false)
        });
    }

    /// Whether all are to stand still.
    pub fn is_paused(&self) -> bool {
        self.state.borrow().paused
    }

    /// Waits until all are to stand still and do.
    pub async fn wait_still(&self) {
        let mut state = self.state.subscribe();
        // The sender is ours, so it cannot be gone.
        let _ = state.wait_for(|state| state.paused && state.moving == 0).await;
    }

    /// The present period of standing still; none if something moves.
    pub fn still_period(&self) -> Option<StillPeriod> {
        let state = *self.state.borrow();
        let is_still = state.paused && state.moving == 0;
        is_still.then(|| StillPeriod { standstill: self.clone(), stirred: state.stirred })
    }

    /// Somebody new, who stands still as yet.
    pub fn mover(&self) -> Mover {
        Mover { standstill: self.clone(), moving: Mutex::new(false), orders: self.state.subscribe() }
    }

    fn count(&self, change: impl FnOnce(&mut StandstillState) -> bool) -> bool {
        self.state.send_if_modified(change)
    }
}

impl StillPeriod {
    /// Whether nothing has moved since it began.
    pub fn lasts(&self) -> bool {
        let state = *self.standstill.state.borrow();
        state.paused && state.moving == 0 && state.stirred == self.stirred
    }
}

/// Somebody who changes a workspace. Dropped, it is gone and moves no more.
#[derive(Debug)]
pub struct Mover {
    standstill: Standstill,
    moving: Mutex<bool>,
    orders: watch::Receiver<StandstillState>,
}

impl Mover {
    /// Begins to move, as soon as that is allowed.
    pub async fn move_when_allowed(&self) {
        let mut orders = self.orders.clone();
        while !self.try_move() {
            // The sender lives as long as `standstill`, which is ours.
            let _ = orders.wait_for(|state| !state.paused).await;
        }
    }

    /// False while all are to stand still.
    fn try_move(&self) -> bool {
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        if *moving {
            return true;
        }
        *moving = self.standstill.count(|state| {
            state.moving += usize::from(!state.paused);
            !state.paused
        });
        *moving
    }

    /// Moves although it may have been told not to: it is being ended.
    pub fn move_at_once(&self) {
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *moving, true) {
            self.standstill.count(|state| {
                state.moving += 1;
                state.stirred += u64::from(state.paused);
                true
            });
        }
    }

    /// Stands still from now on.
    pub fn stand_still(&self) {
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *moving, false) {
            self.standstill.count(|state| {
                state.moving -= 1;
                true
            });
        }
    }

    /// Whether all are to stand still.
    pub fn is_to_pause(&self) -> bool {
        self.standstill.is_paused()
    }

    /// Waits until what is wanted has changed from `paused`.
    pub async fn order_changed_from(&self, paused: bool) {
        let mut orders = self.orders.clone();
        let _ = orders.wait_for(|state| state.paused != paused).await;
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.stand_still();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn comes_soon(future: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(Duration::from_millis(20), future).await.is_ok()
    }

    #[tokio::test]
    async fn all_stand_still_only_when_the_last_one_does() {
        let standstill = Standstill::default();
        let (first, second) = (standstill.mover(), standstill.mover());
        first.move_when_allowed().await;
        second.move_when_allowed().await;
        standstill.pause();
        first.stand_still();
        assert!(!comes_soon(standstill.wait_still()).await && standstill.still_period().is_none());
        drop(second);
        assert!(comes_soon(standstill.wait_still()).await);
        assert!(standstill.still_period().expect("nothing moves").lasts());
    }

    #[tokio::test]
    async fn nobody_begins_to_move_during_a_pause() {
        let standstill = Standstill::default();
        standstill.pause();
        let late = standstill.mover();
        assert!(!comes_soon(late.move_when_allowed()).await);
        standstill.resume();
        assert!(comes_soon(late.move_when_allowed()).await);
    }

    #[tokio::test]
    async fn a_pause_that_was_interrupted_does_not_last() {
        let standstill = Standstill::default();
        let agent = standstill.mover();
        standstill.pause();
        let period = standstill.still_period().expect("nothing moves");
        agent.move_at_once();
        agent.stand_still();
        assert!(!period.lasts(), "it stood still again, but had moved");
        let period = standstill.still_period().expect("nothing moves");
        standstill.resume();
        standstill.pause();
        assert!(!period.lasts());
    }
}
