//! Renewing the lease, on a thread and a connection of its own.
//!
//! A worker whose main loop is busy must not lose its lease, so nothing here waits for it. The other
//! way round, a lease that cannot be renewed is noticed here, by a monotonic clock: also while an answer
//! is being waited for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use maestro_model::ids::{AgentSlug, Incarnation};
use maestro_store::worker::{BeatReply, ProcessStatus};
use maestro_store::{Refusal, Store, StoreError, StoreOptions};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::causes::with_sources;
use crate::events::{Life, WorkerEvent};
use crate::held::{AttemptKey, HeldAttempts};

/// Bells that ring within this time are answered by one beat: a cancel still arrives within a second.
const NUDGE_WAIT: Duration = Duration::from_millis(100);
/// Pause after a beat that was not answered.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// A process that was stopped for long finds its deadline passed: its next beat has so long to be answered
/// before agents are ended for it.
const WAKE_WAIT: Duration = Duration::from_millis(500);
/// Longest wait for an answer, whatever the lease; the next try has a new connection.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);
/// Shortest one, whatever the lease.
const ANSWER_WAIT_MIN: Duration = Duration::from_secs(1);

/// How often it is said that beats are not answered.
const COMPLAINT_EVERY: Duration = Duration::from_secs(30);

/// What the beats need to know; the main loop changes it.
#[derive(Debug, Clone)]
pub struct BeatTopic {
    /// Who beats; none while the worker has not attached again, and once it has left.
    pub who: Option<(Life, Incarnation)>,
    /// Types it serves. A change is told at once.
    pub types: Vec<AgentSlug>,
}

/// How beats are made.
#[derive(Debug, Clone)]
pub struct BeatSettings {
    /// Where to.
    pub store: StoreOptions,
    /// Between two.
    pub heartbeat: Duration,
    /// How long each holds.
    pub lease: Duration,
    /// Without an answer for so long, agents must end.
    pub fence_after: Duration,
}

/// What the worker last said of itself.
pub type SharedStatus = Arc<Mutex<ProcessStatus>>;

/// What a thread that beats is connected with.
#[derive(Debug)]
pub struct BeatWires {
    /// What it needs to know; it ends when the sender is dropped.
    pub topic: watch::Receiver<BeatTopic>,
    /// Asks for a beat now.
    pub beat_now: Arc<Notify>,
    /// What the worker holds.
    pub held: HeldAttempts,
    /// What it says of itself.
    pub status: SharedStatus,
    /// Where answers go.
    pub events: mpsc::UnboundedSender<WorkerEvent>,
}

/// Starts the thread.
///
/// # Errors
/// If the host has no thread left.
pub fn start_beats(settings: BeatSettings, wires: BeatWires) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("beats".to_owned()).spawn(move || {
        let life = wires.topic.borrow().who.as_ref().map_or(Life::FIRST, |(life, _)| *life);
        runtime.block_on(
            BeatLoop { settings, wires, store: None, lease: LeaseWatch::begin(life), complained: None }.run(),
        );
    })
}

/// How the lease of one incarnation stands, as far as this side can know.
#[derive(Debug)]
struct LeaseWatch {
    life: Life,
    /// When the last beat that was answered had been sent.
    renewed: Instant,
    /// Whether agents have been ended for want of an answer since then.
    warned: bool,
    /// Whether it is over.
    fenced: bool,
    /// Whether the last beat was answered.
    answered: bool,
}

impl LeaseWatch {
    fn begin(life: Life) -> LeaseWatch {
        LeaseWatch { life, renewed: Instant::now(), warned: false, fenced: false, answered: true }
    }

    fn renew(&mut self, sent: Instant) {
        self.renewed = sent;
        self.warned = false;
    }
}

struct BeatLoop {
    settings: BeatSettings,
    wires: BeatWires,
    store: Option<Store>,
    lease: LeaseWatch,
    /// When it was last said that beats are not answered.
    complained: Option<Instant>,
}

impl BeatLoop {
    async fn run(mut self) {
        while self.wait_for_turn().await {
            let BeatTopic { who, types } = self.wires.topic.borrow_and_update().clone();
            let Some((life, incarnation)) = who else { continue };
            if life != self.lease.life {
                // A restore has changed where everything lies: that is found out by connecting.
                self.store = None;
                self.lease = LeaseWatch::begin(life);
            }
            if !self.lease.fenced {
                self.beat(&incarnation, &types).await;
            }
        }
    }

    /// Waits for the time of the next beat; false when the worker is gone.
    async fn wait_for_turn(&mut self) -> bool {
        // Jitter only shortens a beat.
        let pause = self.settings.heartbeat.mul_f64(rand::random_range(0.8..1.0));
        let pause = if self.lease.answered { pause } else { pause.min(RETRY_PAUSE) };
        tokio::select! {
            () = sleep(pause) => true,
            changed = self.wires.topic.changed() => changed.is_ok(),
            () = self.wires.beat_now.notified() => {
                sleep(NUDGE_WAIT).await;
                true
            }
        }
    }

    async fn beat(&mut self, incarnation: &Incarnation, types: &[AgentSlug]) {
        let sent = Instant::now();
        let listed: Vec<AttemptKey> = {
            let held = self.wires.held.lock().expect("no holder panics");
            held.iter().cloned().collect()
        };
        let status = self.wires.status.lock().expect("no holder panics").clone();
        let danger = (self.lease.renewed + self.settings.fence_after).max(sent + WAKE_WAIT);
        let answer = {
            let request = send_beat(&mut self.store, &self.settings, incarnation, types, &status, &listed);
            tokio::pin!(request);
            loop {
                tokio::select! {
                    biased;
                    answer = &mut request => break answer,
                    () = sleep_until(danger), if !self.lease.warned => {
                        self.lease.warned = true;
                        tell_danger(&self.wires, &self.lease);
                    }
                }
            }
        };
        self.lease.answered = matches!(answer, Ok(Ok(_)));
        match answer {
            Ok(Ok(reply)) => {
                self.lease.renew(sent);
                if self.complained.take().is_some() {
                    tracing::info!("the lease is renewed again");
                }
                self.tell(WorkerEvent::BeatAnswered(self.lease.life, listed, reply));
            }
            Ok(Err(StoreError::Refused(Refusal::Fenced | Refusal::Epoch { .. } | Refusal::ClusterGone))) => {
                self.lease.fenced = true;
                self.lease.answered = true;
                self.tell(WorkerEvent::Fenced(self.lease.life));
            }
            Ok(Err(StoreError::Refused(Refusal::Recover))) => {
                // Nobody takes anything over until this worker has said what it holds.
                self.lease.renew(sent);
                self.lease.answered = true;
                self.tell(WorkerEvent::RecoveryAsked(self.lease.life));
            }
            Ok(Err(error)) => {
                if is_down_for_all(&error) {
                    // Nobody can take a task over while Redis answers nobody.
                    self.lease.renew(sent);
                }
                self.complain(&with_sources(&error));
            }
            Err(_) => {
                self.store = None;
                self.complain(&format!("no answer within {:.1?}", sent.elapsed()));
            }
        }
    }

    /// Says at once that beats are not answered, and then once in a while.
    fn complain(&mut self, why: &str) {
        // A worker that has taken its leave has no lease to lose, and its Redis may be gone with it.
        let gone = self.wires.topic.has_changed().is_err() || self.wires.topic.borrow().who.is_none();
        if gone {
            return;
        }
        tracing::debug!("a beat was not answered: {why}");
        if self.complained.is_none_or(|last| last.elapsed() > COMPLAINT_EVERY) {
            self.complained = Some(Instant::now());
            tracing::warn!("the lease is not renewed: {why}");
        }
    }

    fn tell(&self, event: WorkerEvent) {
        // A worker that ends listens no more.
        let _ = self.wires.events.send(event);
    }
}

fn tell_danger(wires: &BeatWires, lease: &LeaseWatch) {
    let silence = lease.renewed.elapsed();
    tracing::error!(
        "the lease could not be renewed for {silence:.1?}: agents end before others start their tasks"
    );
    let _ = wires.events.send(WorkerEvent::LeaseInDanger(lease.life));
}

async fn send_beat(
    store: &mut Option<Store>,
    settings: &BeatSettings,
    incarnation: &Incarnation,
    types: &[AgentSlug],
    status: &ProcessStatus,
    listed: &[AttemptKey],
) -> Result<Result<BeatReply, StoreError>, tokio::time::error::Elapsed> {
    let longest = settings.fence_after.clamp(ANSWER_WAIT_MIN, ANSWER_WAIT_MAX);
    let types: Vec<String> = types.iter().map(AgentSlug::to_string).collect();
    timeout(longest, async {
        let store = match store {
            Some(store) => store,
            None => store.insert(Store::connect(&settings.store).await?),
        };
        store.beat(incarnation, settings.lease, &types, status, listed).await
    })
    .await
}

/// Whether the error says that Redis answers nobody, and not only that this worker hears nothing.
fn is_down_for_all(error: &StoreError) -> bool {
    let StoreError::Unreachable { source, .. } = error else { return false };
    // A name without an address has no error code that is the same everywhere.
    let has_no_address = || source.to_string().contains("failed to lookup address");
    source.is_connection_refusal()
        || matches!(source.code(), Some("LOADING" | "READONLY" | "MASTERDOWN"))
        || has_no_address()
}
