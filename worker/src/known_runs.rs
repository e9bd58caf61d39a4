//! What tasks of a run share, remembered so that only the first one of a run has to read it.
//!
//! A run never changes what its tasks share, so nothing here can be out of date; it is bounded by the
//! number of runs and of shared parts, and what was forgotten is read again.

use std::collections::{HashMap, VecDeque};

use maestro_model::ids::RunId;
use maestro_store::brought::KnownRun;

/// Runs that are remembered.
const KNOWN_RUNS_MAX: usize = 64;
/// Shared parts that are remembered, of all runs together; a run without likeness among its steps has
/// one for each step.
const KNOWN_PARTS_MAX: usize = 1_000;

/// Runs, oldest first.
#[derive(Debug, Default)]
pub struct KnownRuns {
    runs: HashMap<RunId, KnownRun>,
    order: VecDeque<RunId>,
    parts: usize,
}

impl KnownRuns {
    /// What is known of a run.
    pub fn get(&self, run: &RunId) -> Option<&KnownRun> {
        self.runs.get(run)
    }

    /// Adds what was read. The oldest runs are forgotten for it; of this one at least the new part stays.
    pub fn remember(&mut self, run: &RunId, known: KnownRun) {
        let mut merged = known;
        if let Some(old) = self.forget(run)
            && old.shared.len() + merged.shared.len() <= KNOWN_PARTS_MAX
        {
            let KnownRun { agents, shared, .. } = old;
            merged.agents.extend(agents);
            merged.shared.extend(shared);
        }
        self.parts += merged.shared.len();
        self.order.push_back(run.clone());
        self.runs.insert(run.clone(), merged);
        while self.runs.len() > 1 && (self.runs.len() > KNOWN_RUNS_MAX || self.parts > KNOWN_PARTS_MAX) {
            let oldest = self.order.front().expect("each run stands in the order").clone();
            self.forget(&oldest);
        }
    }

    /// Forgets everything: after a restore a run may be another one.
    pub fn clear(&mut self) {
        *self = KnownRuns::default();
    }

    fn forget(&mut self, run: &RunId) -> Option<KnownRun> {
        let known = self.runs.remove(run)?;
        self.parts -= known.shared.len();
        self.order.retain(|other| other != run);
        Some(known)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::samples::{known_run, shared_spec};

    fn with_parts(numbers: std::ops::Range<u32>) -> KnownRun {
        let shared = numbers.map(|number| (number, Arc::new(shared_spec("shell")))).collect();
        KnownRun { shared, ..known_run(shared_spec("shell")) }
    }

    #[test]
    fn runs_and_parts_are_bounded_and_the_newest_stay() {
        let mut known = KnownRuns::default();
        let ids: Vec<RunId> = (0..KNOWN_RUNS_MAX + 10).map(|_| RunId::random(0)).collect();
        for id in &ids {
            known.remember(id, with_parts(0..3));
        }
        assert_eq!(known.runs.len(), KNOWN_RUNS_MAX);
        assert_eq!(known.parts, 3 * KNOWN_RUNS_MAX);
        assert!(known.get(&ids[9]).is_none() && known.get(&ids[10]).is_some());

        known.remember(&ids[20], with_parts(3..5));
        assert_eq!(known.get(&ids[20]).expect("it was just put there").shared.len(), 5);

        known.remember(&ids[0], with_parts(0..KNOWN_PARTS_MAX as u32));
        assert_eq!((known.runs.len(), known.order.len(), known.parts), (1, 1, KNOWN_PARTS_MAX));
        known.remember(&ids[0], with_parts(KNOWN_PARTS_MAX as u32..KNOWN_PARTS_MAX as u32 + 1));
        assert_eq!((known.runs.len(), known.parts), (1, 1), "a run of very many parts starts anew");
        known.clear();
        assert_eq!((known.runs.len(), known.order.len(), known.parts), (0, 0, 0));
    }
}
