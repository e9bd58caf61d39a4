//! Steps that a coordinator carries out itself: `foreach` over a list that is only known now, and snapshots.

use std::collections::VecDeque;
use std::time::Duration;

use maestro_model::ids::Incarnation;
use maestro_model::plan::QueueName;
use maestro_model::task::Reason;
use maestro_store::brought::{ReadyGrant, make_ready};
use maestro_store::duties::{EXPAND_ITEMS_MAX, Expansion};
use maestro_store::runs::StoredOutput;
use maestro_store::step::{Ending, Grant, StepReport, StepRequest};
use maestro_store::{Refusal, Store, StoreError};
use tokio::sync::watch;

use super::{CoordinatorSettings, TROUBLE_PAUSE};
use crate::automatic::take_labelled;
use crate::expansion::{ExpansionPlan, expand, too_many};

/// Longest wait for a bell.
const BELL_WAIT: Duration = Duration::from_secs(5);
/// Steps expanded at one time.
const STEPS_AT_ONCE: usize = 8;

/// Carries out `foreach` steps whose list is only known now.
///
/// What was claimed and not carried out, and what was not reported yet, is kept through every error:
/// a step that this coordinator holds and has forgotten would wait for as long as it lives.
pub(super) struct Expander {
    store: Store,
    settings: CoordinatorSettings,
    current: watch::Sender<Incarnation>,
    next_request: u64,
    claimed_by: Option<Incarnation>,
    grants: VecDeque<Grant>,
    reports: Vec<StepReport>,
    unanswered: Option<StepRequest>,
}

impl Expander {
    pub(super) fn new(
        store: Store,
        settings: CoordinatorSettings,
        current: watch::Sender<Incarnation>,
    ) -> Expander {
        Expander {
            store,
            settings,
            current,
            next_request: 1,
            claimed_by: None,
            grants: VecDeque::new(),
            reports: Vec::new(),
            unanswered: None,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            if let Err(error) = self.serve().await {
                // Held still for a snapshot: what is owed is said afterwards.
                if matches!(error, StoreError::Refused(Refusal::Paused)) {
                    tokio::time::sleep(TROUBLE_PAUSE).await;
                    continue;
                }
                tracing::warn!("cannot expand steps: {error}");
                tokio::time::sleep(TROUBLE_PAUSE).await;
            }
        }
    }

    async fn serve(&mut self) -> Result<(), StoreError> {
        let mut bells = self.store.bells(BELL_WAIT).await?;
        loop {
            // Claim once before every wait: a token may have been lost with the last connection.
            while self.turn().await? {}
            let incarnation = self.current.borrow().clone();
            bells.wait(&incarnation, &[QueueName::expand()]).await?;
        }
    }

    /// Carries out what is claimed, reports and claims. False if there was nothing to do.
    async fn turn(&mut self) -> Result<bool, StoreError> {
        let incarnation = self.current.borrow().clone();
        if self.claimed_by.as_ref() != Some(&incarnation) {
            // What another incarnation held is queued again by now.
            self.grants.clear();
            self.reports.clear();
            self.unanswered = None;
            self.claimed_by = Some(incarnation.clone());
        }
        while let Some(grant) = self.grants.front().cloned() {
            self.reports.extend(self.carry_out(grant).await?);
            self.grants.pop_front();
        }
        let reports = self.reports.len();
        let request = match self.unanswered.take() {
            Some(request) => request,
            None => self.next_request(),
        };
        match self.store.step(&incarnation, &request).await {
            Ok(reply) => {
                self.grants.extend(reply.grants);
                Ok(reports > 0 || !self.grants.is_empty())
            }
            Err(error) => {
                self.unanswered = Some(request);
                Err(error)
            }
        }
    }

    fn next_request(&mut self) -> StepRequest {
        self.next_request += 1;
        StepRequest {
            lane: 0,
            request_id: self.next_request,
            want: STEPS_AT_ONCE,
            queues: vec![QueueName::expand()],
            reports: std::mem::take(&mut self.reports),
            state_ttl_ms: self.settings.state_ttl.as_millis() as u64,
        }
    }

    async fn carry_out(&self, grant: Grant) -> Result<Option<StepReport>, StoreError> {
        if let Some(label) = grant.own.snapshot.clone() {
            return Ok(Some(self.take_snapshot(&grant, label).await));
        }
        let handler = self.is_handler(&grant).await?;
        let (known, groups) = match self.store.grant_parts(&grant).await {
            Ok(parts) => parts,
            Err(StoreError::Refused(Refusal::NotFound { .. })) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(ready) = make_ready(grant.clone(), Some(&known), groups) else {
            return Ok(Some(empty_report(&grant, Ending::Returned { host_failed: false })));
        };
        match expand(&ready, handler) {
            ExpansionPlan::Report(report) => Ok(Some(report)),
            ExpansionPlan::Items(items) => self.store_items(&ready, &items).await,
        }
    }

    /// On a task of its own: the lease is renewed while the disk is waited for.
    async fn take_snapshot(&self, grant: &Grant, label: String) -> StepReport {
        let (store, settings) = (self.store.clone(), self.settings.snapshots.clone());
        let by = format!("step `{}` of run {}", grant.own.step, grant.task.run);
        let taken = tokio::spawn(async move { take_labelled(&store, &settings, &label, &by).await }).await;
        let failure = match taken {
            Ok(Ok(taken)) if !taken.manifest.partial => {
                tracing::info!(path = %taken.path.display(), task = %grant.task, "took a snapshot for a step");
                return empty_report(grant, Ending::Completed { exit_code: Some(0) });
            }
            Ok(Ok(taken)) => {
                format!("the snapshot `{}` is partial: nobody could go back to it", taken.path.display())
            }
            Ok(Err(error)) => match std::error::Error::source(&error) {
                Some(source) => format!("no snapshot was taken: {error}: {source}"),
                None => format!("no snapshot was taken: {error}"),
            },
            Err(error) => format!("taking the snapshot broke down: {error}"),
        };
        tracing::warn!(task = %grant.task, "{failure}");
        let ending = Ending::Failed { reason: Reason::Infra, exit_code: None, retry_in_ms: None };
        let output =
            serde_json::to_string(&StoredOutput::of_message(failure)).expect("a message is plain data");
        StepReport { output, ..empty_report(grant, ending) }
    }

    async fn is_handler(&self, grant: &Grant) -> Result<bool, StoreError> {
        let task = self.store.task(&grant.task).await?;
        Ok(task.record.is_some_and(|record| record.flags.contains('H')))
    }

    async fn store_items(
        &self,
        ready: &ReadyGrant,
        items: &[String],
    ) -> Result<Option<StepReport>, StoreError> {
        let incarnation = self.current.borrow().clone();
        let (task, attempt) = (&ready.grant.task, ready.grant.attempt);
        let limit = ready.grant.own.max_parallel;
        let total = items.len();
        let mut offset = 0;
        loop {
            let portion = &items[offset..total.min(offset + EXPAND_ITEMS_MAX)];
            match self.store.expand(&incarnation, task, attempt, total, offset, limit, portion).await? {
                Expansion::Stored => offset += portion.len(),
                Expansion::Stale => return Ok(None),
                Expansion::TooMany { tasks } => return Ok(Some(too_many(ready, total, tasks))),
            }
            if offset >= total {
                return Ok(None);
            }
        }
    }
}

fn empty_report(grant: &Grant, ending: Ending) -> StepReport {
    StepReport {
        task: grant.task.clone(),
        attempt: grant.attempt,
        ending,
        output: String::new(),
        publish: Vec::new(),
    }
}
