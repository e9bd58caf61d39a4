//! The coordinator as a process: one loop for its lease and duties, one for steps it carries out itself (`expander`).

mod expander;

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use maestro_model::ids::Incarnation;
use maestro_model::mailbox::{WorkerAnswer, WorkerQuestion};
use maestro_store::duties::{Leadership, RetentionPolicy, SWEEP_ITEMS_MAX};
use maestro_store::freezing::Thawed;
use maestro_store::worker::{AboutProcess, ProcessRole, ProcessStatus};
use maestro_store::{Refusal, Store, StoreError};
use maestro_vitals::pulse::Pulse;
use tokio::sync::watch;

use self::expander::Expander;
use crate::automatic::{AutomaticSettings, AutomaticSnapshots};
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
/// Pause after Redis did not answer.
const TROUBLE_PAUSE: Duration = Duration::from_millis(500);
/// Longest such pause.
const TROUBLE_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Questions fetched at one time.
const LETTERS_AT_ONCE: NonZeroUsize = NonZeroUsize::new(16).expect("it is not 0");

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
    /// When it takes snapshots by itself.
    pub snapshots: AutomaticSettings,
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

/// Runs a coordinator until `stop` says so, or somebody asks it by letter to end.
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
            end = duties.run() => if end == DutyEnd::ToldToEnd { break },
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

/// Why nobody does the duties any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DutyEnd {
    /// The cluster is another one.
    ClusterGone,
    /// Somebody wants this coordinator to end.
    ToldToEnd,
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
    /// Until the cluster is another one, or somebody asks for an end.
    async fn run(mut self) -> DutyEnd {
        let mut next_beat = Instant::now();
        let mut next_lead = Instant::now();
        let mut next_collect = Instant::now();
        let mut next_look = Instant::now();
        let mut next_health = Instant::now();
        let mut snapshots = AutomaticSnapshots::new(self.settings.snapshots.clone());
        loop {
            self.wires.turn.turn();
            if Instant::now() >= next_beat {
                next_beat = Instant::now() + self.settings.heartbeat.mul_f64(rand::random_range(0.8..1.0));
                if !self.beat().await {
                    return DutyEnd::ClusterGone;
                }
            }
            if self.is_told_to_end().await {
                return DutyEnd::ToldToEnd;
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
                snapshots.tick(&self.store).await;
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

    /// Whether somebody wants this coordinator to end; what else it is asked it does not understand.
    async fn is_told_to_end(&self) -> bool {
        let incarnation = self.current.borrow().clone();
        let letters = match self.store.take_questions(&incarnation, LETTERS_AT_ONCE).await {
            Ok(letters) => letters,
            Err(error) => {
                tracing::debug!("cannot see what is asked: {error}");
                return false;
            }
        };
        let mut ends = false;
        for letter in letters {
            let answer = match letter.question {
                Some(WorkerQuestion::Drain { .. }) => {
                    let already = std::mem::replace(&mut ends, true);
                    WorkerAnswer::Draining { already }
                }
                _ => WorkerAnswer::NotUnderstood,
            };
            if let Err(error) = self.store.answer_question(&letter.id, &answer).await {
                tracing::warn!("an answer did not reach redis: {error}");
            }
        }
        ends
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
