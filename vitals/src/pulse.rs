//! When a loop last turned.
//!
//! "The process is there" says nothing: a loop that hangs keeps its process, its lease (beats have a thread of
//! their own) and its port. So whoever asks is told how long ago the loop came round.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A moment that is moved on again and again; clones share it.
#[derive(Debug, Clone)]
pub struct Pulse {
    begun: Instant,
    /// Since `begun`, ms.
    last_ms: Arc<AtomicU64>,
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse { begun: Instant::now(), last_ms: Arc::default() }
    }
}

impl Pulse {
    /// It happened again, now.
    pub fn turn(&self) {
        self.last_ms.store(self.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long ago it happened last; from the start if it never did.
    pub fn age(&self) -> Duration {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(last)
    }
}

/// What a worker says of itself while it works; clones share it.
#[derive(Debug, Clone, Default)]
pub struct WorkerPulse {
    /// A turn of the main loop.
    pub turn: Pulse,
    /// A beat that was answered.
    pub heard: Pulse,
    claims: Arc<AtomicBool>,
}

impl WorkerPulse {
    /// Whether it takes new tasks, as far as it is up to the worker itself.
    pub fn claims(&self) -> bool {
        self.claims.load(Ordering::Relaxed)
    }

    /// Says so.
    pub fn set_claims(&self, claims: bool) {
        self.claims.store(claims, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_makes_it_young_for_every_clone() {
        let begun =
            Instant::now().checked_sub(Duration::from_secs(60)).expect("the machine is up for a minute");
        let pulse = Pulse { begun, last_ms: Arc::default() };
        assert!(pulse.age() >= Duration::from_secs(60));
        pulse.clone().turn();
        assert!(pulse.age() < Duration::from_secs(5));
    }
}
