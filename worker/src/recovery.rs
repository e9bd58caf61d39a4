//! After Redis has changed: what this worker runs and what it has reported is compared with what Redis
//! remembers, and what was forgotten is told again.
//!
//! Redis asks for it (`Refusal::Recover`) and lets nobody claim anything meanwhile, for some seconds at most.
//! A claim that was forgotten is adopted under its attempt number, so that an agent that runs goes on; an
//! outcome that was forgotten is reported once more, from the journal. What waits behind the lost result of a
//! worker that is gone stays unknown: it depends on something that will be done again.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use maestro_model::ids::WorkerName;
use maestro_store::recovery::{
    RECOVERY_BATCH_MAX, RECOVERY_LANE, RecoveringWorker, RecoveryTurn, RecoveryVerdict,
};
use maestro_store::step::{ReportAnswer, StepReport, StepRequest};
use maestro_store::{Refusal, Store, StoreError};

use crate::causes::with_sources;
use crate::held::{AttemptKey, HeldAttempts};
use crate::journal::{JournalOwner, JournalPlace};

/// How long a worker waits for what others have to say first.
const OTHERS_WAIT: Duration = Duration::from_secs(12);
/// Pause before it is asked again whether they have.
const OTHERS_PAUSE: Duration = Duration::from_millis(50);
/// Pause after Redis did not answer, and how often it is tried.
const TROUBLE_PAUSE: Duration = Duration::from_millis(300);
const TROUBLES_MAX: u32 = 100;

/// What a recovery came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryCount {
    /// Claims that Redis had forgotten.
    pub adopted: u32,
    /// Outcomes that it had forgotten.
    pub reported: u32,
    /// Attempts whose place could not be found again.
    pub left: u32,
}

/// Tells Redis what this worker holds and has reported, until nothing is open. To be dropped when the worker
/// ends.
///
/// # Errors
/// `Fenced`, `Epoch`, `ClusterGone`: this incarnation has nothing to say any more.
pub async fn recover(
    store: &Store,
    worker: &RecoveringWorker,
    held: &HeldAttempts,
    journal: &JournalPlace,
    state_ttl_ms: u64,
) -> Result<RecoveryCount, StoreError> {
    let owner = JournalOwner::new(store.cluster_id(), &worker.incarnation);
    let mut telling = Telling::new(store, worker, state_ttl_ms);
    for part in journal.read() {
        if part.owner == owner {
            telling.add_outcomes(part.reports);
        }
    }
    telling.tell_all(Some(held), OTHERS_WAIT).await?;
    Ok(telling.count)
}

/// Says for a process of this name that is gone what its journal still knows: what had ended, and was not
/// recorded, need not be done again. Nothing that goes wrong here stops its successor.
pub async fn speak_for_predecessors(
    store: &Store,
    name: &WorkerName,
    journal: &JournalPlace,
    state_ttl_ms: u64,
) {
    for part in journal.read() {
        if part.owner.cluster != store.cluster_id() || part.reports.is_empty() {
            continue;
        }
        let worker = RecoveringWorker {
            incarnation: part.owner.incarnation,
            name: name.to_string(),
            attachment: None,
        };
        let mut telling = Telling::new(store, &worker, state_ttl_ms);
        telling.add_outcomes(part.reports);
        match telling.tell_all(None, Duration::ZERO).await {
            Ok(()) if telling.count.reported > 0 => tracing::info!(
                "{} outcomes that this worker's predecessor had not reported are recorded now",
                telling.count.reported
            ),
            // It is forgotten already: what it held is queued again.
            Ok(()) | Err(StoreError::Refused(Refusal::Fenced)) => {}
            Err(error) => {
                tracing::warn!("what this worker's predecessor knew is not told: {}", with_sources(&error));
            }
        }
    }
}

/// One recovery under way.
struct Telling<'a> {
    store: &'a Store,
    worker: &'a RecoveringWorker,
    state_ttl_ms: u64,
    outcomes: HashMap<AttemptKey, StepReport>,
    /// What is yet to be found out about, oldest first.
    open: Vec<AttemptKey>,
    seen: HashSet<AttemptKey>,
    next_request: u64,
    troubles: u32,
    count: RecoveryCount,
}

impl<'a> Telling<'a> {
    fn new(store: &'a Store, worker: &'a RecoveringWorker, state_ttl_ms: u64) -> Telling<'a> {
        Telling {
            store,
            worker,
            state_ttl_ms,
            outcomes: HashMap::new(),
            open: Vec::new(),
            seen: HashSet::new(),
            // An earlier recovery of the same incarnation has left its last answer under its own number.
            next_request: u64::from(rand::random::<u32>()) << 20,
            troubles: 0,
            count: RecoveryCount::default(),
        }
    }

    fn add_outcomes(&mut self, reports: Vec<StepReport>) {
        for report in reports {
            let key = (report.task.clone(), report.attempt);
            if self.seen.insert(key.clone()) {
                self.open.push(key.clone());
            }
            self.outcomes.insert(key, report);
        }
    }

    /// What has begun to run is open too; once it was, it stays so when it ends.
    fn add_held(&mut self, held: &HeldAttempts) {
        let now: Vec<AttemptKey> = held.lock().expect("no holder panics").iter().cloned().collect();
        for key in now {
            if self.seen.insert(key.clone()) {
                self.open.push(key);
            }
        }
    }

    async fn tell_all(&mut self, held: Option<&HeldAttempts>, patience: Duration) -> Result<(), StoreError> {
        let begun = Instant::now();
        loop {
            if let Some(held) = held {
                self.add_held(held);
            }
            let before = self.open.len();
            self.tell_open().await?;
            if self.open.is_empty() {
                break;
            }
            if self.open.len() == before {
                if begun.elapsed() >= patience {
                    break;
                }
                tokio::time::sleep(OTHERS_PAUSE).await;
            }
        }
        self.count.left = self.open.len() as u32;
        self.ask(&[], RecoveryTurn::Last).await.map(drop)
    }

    /// Asks about everything that is open, once.
    async fn tell_open(&mut self) -> Result<(), StoreError> {
        let mut later = Vec::new();
        for batch in std::mem::take(&mut self.open).chunks(RECOVERY_BATCH_MAX) {
            let verdicts = self.ask(batch, RecoveryTurn::More).await?;
            let mut reports = Vec::new();
            for (key, verdict) in batch.iter().zip(verdicts) {
                match verdict {
                    RecoveryVerdict::Later => later.push(key.clone()),
                    RecoveryVerdict::Stale | RecoveryVerdict::Gone => drop(self.outcomes.remove(key)),
                    RecoveryVerdict::Adopted | RecoveryVerdict::Yours => {
                        self.count.adopted += u32::from(verdict == RecoveryVerdict::Adopted);
                        reports.extend(self.outcomes.remove(key));
                    }
                }
            }
            self.report(reports).await?;
        }
        self.open = later;
        Ok(())
    }

    async fn ask(
        &mut self,
        batch: &[AttemptKey],
        turn: RecoveryTurn,
    ) -> Result<Vec<RecoveryVerdict>, StoreError> {
        loop {
            match self.store.recover(self.worker, batch, turn).await {
                Err(error) => self.survive(error).await?,
                answered => return answered,
            }
        }
    }

    async fn report(&mut self, reports: Vec<StepReport>) -> Result<(), StoreError> {
        if reports.is_empty() {
            return Ok(());
        }
        self.next_request += 1;
        let request = StepRequest {
            lane: RECOVERY_LANE,
            request_id: self.next_request,
            want: 0,
            queues: Vec::new(),
            reports,
            state_ttl_ms: self.state_ttl_ms,
        };
        loop {
            match self.store.step(&self.worker.incarnation, &request).await {
                Ok(reply) => {
                    let accepted = |answer: &&ReportAnswer| **answer == ReportAnswer::Accepted;
                    self.count.reported += reply.answers.iter().filter(accepted).count() as u32;
                    return Ok(());
                }
                Err(error) => self.survive(error).await?,
            }
        }
    }

    /// Waits after an error that may pass; gives any other back.
    async fn survive(&mut self, error: StoreError) -> Result<(), StoreError> {
        self.troubles += 1;
        let passes = error.may_pass()
            || matches!(error, StoreError::Refused(Refusal::Paused | Refusal::Frozen { .. }));
        if !passes || self.troubles > TROUBLES_MAX {
            return Err(error);
        }
        tracing::warn!("cannot compare with redis what this worker holds: {}", with_sources(&error));
        tokio::time::sleep(TROUBLE_PAUSE).await;
        Ok(())
    }
}
