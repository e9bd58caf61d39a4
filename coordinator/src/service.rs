//! The coordinator as a process: one loop for its lease and duties, one for steps it carries out itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use maestro_model::ids::Incarnation;
use maestro_model::plan::QueueName;
use maestro_store::brought::{ReadyGrant, make_ready};
use maestro_store::duties::{EXPAND_ITEMS_MAX, Expansion, Leadership, RetentionPolicy, SWEEP_ITEMS_MAX};
use maestro_store::freezing::Thawed;
use maestro_store::step::{Ending, Grant, StepReport, StepRequest};
use maestro_store::worker::{AboutProcess, ProcessRole, ProcessStatus};
use maestro_store::{Refusal, Store, StoreError};
use maestro_vitals::pulse::Pulse;
use tokio::sync::watch;

use crate::expansion::{ExpansionPlan, expand, too_many};
use crate::health::{ChangeKind, HealthChange, HealthFacts, HealthWatch, problems};
use crate::restoring::finish_abandoned;

/// Between two sweeps of the leader while there is little to do.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Sweeps that follow each other at once while there is much to do.
const SWEEPS_IN_A_ROW_MAX: u32 = 100;
/// How long a leader leads without renewing, and how often it does.
const LEADER_LEASE: Duration = Duration::from_secs(10);
const LEADER_RENEWAL: Duration = Duration::from_secs(3);
/// Between two rounds of collecting, and how many runs one round removes.
const COLLECT_EVERY: Duration = Duration::from_secs(30);
const COLLECT_RUNS_MAX: usize = 100;
/// Between two looks of the leader at the cluster's health.
const HEALTH_EVERY: Duration = Duration::from_secs(30);
/// How often it is looked whether a restore was left unfinished.
const RESTORE_LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longest wait for a bell.
const BELL_WAIT: Duration = Duration::from_secs(5);
/// Pause after Redis did not answer.
const TROUBLE_PAUSE: Duration = Duration::from_millis(500);
/// Longest such pause.
const TROUBLE_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Steps expanded at one time.
const STEPS_AT_ONCE: usize = 8;

/// How a coordinator is set up.
#[derive(Debug, Clone)]
pub struct CoordinatorSettings {
    /// What it is called in lists.
    pub host: String,
    /// Between two beats.
    pub heartbeat: Duration,
    /// How long the cluster waits for a beat.
    pub lease: Duration,
    /// What is collected.
    pub retention: RetentionPolicy,
    /// Time to live of published values.
    pub state_ttl: Duration,
    /// The version that is shown.
    pub version: String,
}

/// What a coordinator tells others in its process while it runs.
#[derive(Debug, Clone)]
pub struct CoordinatorWires {
    /// Whether it leads.
    pub leading: watch::Sender<bool>,
    /// The cluster that it serves: after a restore another one.
    pub store: watch::Sender<Store>,
    /// The last turn of its main loop.
    pub turn: Pulse,
}

impl CoordinatorWires {
    /// Of a coordinator that does not lead yet.
    pub fn new(store: Store) -> CoordinatorWires {
        CoordinatorWires {
            leading: watch::Sender::new(false),
            store: watch::Sender::new(store),
            turn: Pulse::default(),
        }
    }
}

/// Runs a coordinator until `stop` says so.
///
/// # Errors
/// If Redis refuses it at the start; later troubles are survived.
pub async fn run_coordinator(
    settings: CoordinatorSettings,
    mut stop: watch::Receiver<bool>,
    wires: CoordinatorWires,
) -> Result<(), StoreError> {
    let store = wires.store.borrow().clone();
    let incarnation = attach(&store, &settings).await?;
    let (current, _) = watch::channel(incarnation);
    let mut store = store;
    loop {
        let (store_now, settings_now) = (store.clone(), settings.clone());
        let duties = Duties {
            store: store_now.clone(),
            settings: settings_now.clone(),
            current: current.clone(),
            wires: wires.clone(),
            health: HealthWatch::default(),
        };
        let expander = Expander::new(store_now, settings_now, current.clone());
        tokio::select! {
            () = duties.run() => {}
            () = expander.run() => {}
            _ = stop.wait_for(|stopped| *stopped) => break,
        }
        wires.leading.send_replace(false);
        tokio::select! {
            found = find_again(&store, &settings, &wires.turn) => {
                let (fresh, incarnation) = found;
                tell_found(&store, &fresh);
                wires.store.send_replace(fresh.clone());
                current.send_replace(incarnation);
                store = fresh;
            }
            // There is nothing to take leave of.
            _ = stop.wait_for(|stopped| *stopped) => return Ok(()),
        }
    }
    let incarnation = current.borrow().clone();
    match store.detach(&incarnation).await {
        // The cluster is another one since the last beat, and knows nothing of this process.
        Err(StoreError::Refused(Refusal::Epoch { .. } | Refusal::ClusterGone)) => Ok(()),
        other => other,
    }
}

/// The cluster as it is after a restore, or the one that took its place in a Redis that lost its data.
async fn find_again(store: &Store, settings: &CoordinatorSettings, turn: &Pulse) -> (Store, Incarnation) {
    let mut pause = TROUBLE_PAUSE;
    loop {
        turn.turn();
        let found = match store.reopened().await {
            Ok(fresh) => attach(&fresh, settings).await.map(|incarnation| (fresh, incarnation)),
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => return found,
            Err(error) => tracing::warn!("cannot find the cluster again: {error}"),
        }
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(TROUBLE_PAUSE_MAX);
    }
}

fn tell_found(before: &Store, now: &Store) {
    if before.cluster_id() == now.cluster_id() {
        tracing::warn!("the cluster was restored: this coordinator serves its epoch {} now", now.epoch());
    } else {
        tracing::error!(
            "redis has lost its data, or another one is at its address: cluster {} is gone with its runs, and \
             this coordinator serves cluster {} now",
            before.cluster_id(),
            now.cluster_id()
        );
    }
}

/// Names of coordinators have a `/`, which a worker's name cannot have.
async fn attach(store: &Store, settings: &CoordinatorSettings) -> Result<Incarnation, StoreError> {
    let incarnation = Incarnation::random();
    let name = format!("coordinator/{}-{}-{}", settings.host, std::process::id(), &incarnation.as_str()[..4]);
    let about = AboutProcess {
        role: ProcessRole::Coordinator,
        host: settings.host.clone(),
        pid: std::process::id(),
        slots: 0,
        version: settings.version.clone(),
        labels: Default::default(),
        confinement: Vec::new(),
        isolation: None,
    };
    store.attach(&incarnation, &name, &[], settings.lease, false, &about).await?;
    Ok(incarnation)
}

struct Duties {
    store: Store,
    settings: CoordinatorSettings,
    current: watch::Sender<Incarnation>,
    wires: CoordinatorWires,
    /// What is wrong, as far as this leader has looked.
    health: HealthWatch,
}

impl Duties {
    /// Until the cluster is another one.
    async fn run(mut self) {
        let mut next_beat = Instant::now();
        let mut next_lead = Instant::now();
        let mut next_collect = Instant::now();
        let mut next_look = Instant::now();
        let mut next_health = Instant::now();
        loop {
            self.wires.turn.turn();
            if Instant::now() >= next_beat {
                next_beat = Instant::now() + self.settings.heartbeat.mul_f64(rand::random_range(0.8..1.0));
                if !self.beat().await {
                    return;
                }
            }
            if Instant::now() >= next_lead {
                next_lead = Instant::now() + LEADER_RENEWAL;
                self.lead().await;
                self.wires.turn.turn();
            }
            if *self.wires.leading.borrow() {
                self.sweep().await;
                self.wires.turn.turn();
                if Instant::now() >= next_collect {
                    next_collect = Instant::now() + COLLECT_EVERY;
                    self.collect().await;
                }
                if Instant::now() >= next_look {
                    next_look = Instant::now() + RESTORE_LOOK_EVERY;
                    self.finish_restore().await;
                }
                if Instant::now() >= next_health {
                    next_health = Instant::now() + HEALTH_EVERY;
                    self.look_after_health().await;
                }
            }
            tokio::time::sleep(SWEEP_EVERY.mul_f64(rand::random_range(0.8..1.0))).await;
        }
    }

    /// False if the cluster that this coordinator serves is not there any more.
    async fn beat(&self) -> bool {
        let incarnation = self.current.borrow().clone();
        let status = ProcessStatus::default();
        match self.store.beat(&incarnation, self.settings.lease, &[], &status, &[]).await {
            Ok(_) => {}
            Err(StoreError::Refused(Refusal::Epoch { .. } | Refusal::ClusterGone)) => return false,
            Err(StoreError::Refused(Refusal::Fenced | Refusal::Recover)) => {
                tracing::warn!("this coordinator is not known any more: attaching again");
                match attach(&self.store, &self.settings).await {
                    Ok(fresh) => drop(self.current.send_replace(fresh)),
                    Err(error) => tracing::warn!("cannot attach: {error}"),
                }
            }
            Err(error) => tracing::warn!("no answer to a beat: {error}"),
        }
        true
    }

    async fn lead(&mut self) {
        let incarnation = self.current.borrow().clone();
        let leads = match self.store.lead(&incarnation, LEADER_LEASE).await {
            Ok(Leadership::Leading) => true,
            Ok(Leadership::Standby { .. }) => false,
            Err(error) => {
                tracing::warn!("cannot find out who leads: {error}");
                false
            }
        };
        let changed =
            self.wires.leading.send_if_modified(|leading| std::mem::replace(leading, leads) != leads);
        if changed {
            self.health = HealthWatch::default();
        }
    }

    /// What is wrong, and what is over, is said once in this log; alerts are sent by `monitor start`.
    async fn look_after_health(&mut self) {
        let facts = match HealthFacts::read(&self.store).await {
            Ok(facts) => facts,
            Err(error) => return tracing::warn!("cannot see how the cluster is: {error}"),
        };
        for HealthChange { kind, problem, .. } in self.health.update(problems(&facts), facts.now_ms) {
            let (rule, subject, message) = (problem.rule.word(), problem.subject, problem.message);
            let worker = problem.worker.unwrap_or_default();
            match kind {
                ChangeKind::Firing => tracing::warn!(rule, subject, worker, "firing: {message}"),
                ChangeKind::Resolved => tracing::info!(rule, subject, worker, "resolved: {message}"),
            }
        }
    }

    async fn sweep(&self) {
        for _ in 0..SWEEPS_IN_A_ROW_MAX {
            match self.store.sweep(SWEEP_ITEMS_MAX).await {
                Ok(swept) if swept.next_due == Some(Duration::ZERO) && swept.handled > 0 => {}
                Ok(_) => return,
                // Held still for a snapshot, or by somebody who is gone.
                Err(StoreError::Refused(Refusal::Paused)) => return self.look_after_freeze().await,
                Err(error) => {
                    tracing::warn!("cannot sweep: {error}");
                    return;
                }
            }
        }
    }

    async fn look_after_freeze(&self) {
        match self.store.thaw_if_abandoned("coordinator").await {
            Ok(Thawed::GoesOn(mode)) => {
                tracing::warn!("whoever held the cluster still is gone: it goes on (mode {mode})");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("cannot look after a freeze: {error}"),
        }
    }

    /// A restore is finished by whoever is there, if the one who began it is gone.
    async fn finish_restore(&self) {
        match finish_abandoned(&self.store).await {
            Ok(None) => {}
            Ok(Some(report)) => {
                tracing::warn!(workspaces = report.placed, "finished a restore that had been interrupted");
                for (workspace, why) in report.misplaced {
                    tracing::error!(workspace, "a workspace of the snapshot is not in its place: {why}");
                }
            }
            Err(error) => tracing::warn!("cannot finish an interrupted restore: {error}"),
        }
    }

    async fn collect(&self) {
        let runs = match self.store.collectable(&self.settings.retention, COLLECT_RUNS_MAX).await {
            Ok(runs) => runs,
            Err(error) => {
                tracing::warn!("cannot see what is to be collected: {error}");
                return;
            }
        };
        for run in runs {
            let collected = self.store.collect_run(&run).await;
            if let Err(StoreError::Refused(Refusal::Paused)) = collected {
                return;
            }
            if let Err(error) = collected {
                tracing::warn!(%run, "cannot collect a run: {error}");
                return;
            }
        }
    }
}

/// Carries out `foreach` steps whose list is only known now.
///
/// What was claimed and not carried out, and what was not reported yet, is kept through every error:
/// a step that this coordinator holds and has forgotten would wait for as long as it lives.
struct Expander {
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
    fn new(store: Store, settings: CoordinatorSettings, current: watch::Sender<Incarnation>) -> Expander {
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

    async fn run(mut self) {
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
