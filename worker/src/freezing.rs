//! A worker's part in holding the cluster still: agents pause, whoever asked hears of it, and all goes on again.
//!
//! Beats tell the mode. Nothing is waited for longer than the freeze lasts: should whoever froze be gone, this worker
//! thaws the cluster with the others, and should Redis be gone, it lets its agents go on by itself. What is read
//! meanwhile, `packing` knows.

use std::time::Duration;

use maestro_model::ids::Incarnation;
use maestro_store::Store;
use maestro_store::freezing::{FREEZE_LEASE, FREEZE_RENEWAL, FreezeId, FreezeStage, FreezeView, Thawed};
use maestro_store::step::CellMode;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::attaching::Attachment;
use crate::causes::with_sources;
use crate::events::WorkerEvent;
use crate::standstill::Standstill;

/// Without an answer to a beat for so long nobody can be reading folders for the cluster.
const DEAF_MAX: Duration = FREEZE_LEASE.saturating_add(FREEZE_RENEWAL);
/// How often the freeze is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is tried to say that all stand still.
const TELL_TRIES_MAX: u32 = 5;

/// What beats have said last, and when.
#[derive(Debug, Clone, Copy)]
struct HeardMode {
    mode: CellMode,
    at: Instant,
}

/// The duty of one worker.
pub(crate) struct FreezeDuty {
    standstill: Standstill,
    heard: watch::Sender<HeardMode>,
    /// All stand still for it, and some reports may be missing yet.
    still_for: Option<FreezeId>,
}

impl FreezeDuty {
    /// Nothing is frozen as far as is known.
    pub(crate) fn new(standstill: Standstill) -> FreezeDuty {
        let heard = HeardMode { mode: CellMode::Run, at: Instant::now() };
        FreezeDuty { standstill, heard: watch::Sender::new(heard), still_for: None }
    }

    /// A beat was answered.
    pub(crate) fn on_mode(&mut self, mode: CellMode) {
        if !mode.is_freezing() {
            self.still_for = None;
        }
        self.heard.send_replace(HeardMode { mode, at: Instant::now() });
    }

    /// All agents stand still, and all that came of them before has been seen.
    pub(crate) fn on_still(&mut self, freeze: FreezeId) {
        self.still_for = Some(freeze);
    }

    /// No outcome is to be told any more: with all agents still, whoever asked is told so.
    pub(crate) fn on_all_reported(&mut self, attached: &Attachment) {
        let Some(freeze) = self.still_for.take() else { return };
        let (store, incarnation) = (attached.store.clone(), attached.incarnation.clone());
        tokio::spawn(tell_paused(store, incarnation, freeze));
    }

    /// The loop that pauses and lets go on. It ends when the worker does.
    pub(crate) fn follow(
        &self,
        name: String,
        store: watch::Receiver<Store>,
        events: mpsc::UnboundedSender<WorkerEvent>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let follower = Follower {
            name: format!("worker {name}"),
            standstill: self.standstill.clone(),
            heard: self.heard.subscribe(),
            store,
            events,
        };
        follower.run()
    }
}

/// Tries to say so; nobody waits for it for ever.
async fn tell_paused(store: Store, incarnation: Incarnation, freeze: FreezeId) {
    for _ in 0..TELL_TRIES_MAX {
        match store.freeze_paused(&incarnation, &freeze).await {
            Ok(true) => return,
            Ok(false) => {
                tracing::warn!("all agents stand still, but nobody waits for that any more");
                return;
            }
            Err(error) => tracing::warn!("cannot say that all agents stand still: {}", with_sources(&error)),
        }
    }
}

struct Follower {
    name: String,
    standstill: Standstill,
    heard: watch::Receiver<HeardMode>,
    store: watch::Receiver<Store>,
    events: mpsc::UnboundedSender<WorkerEvent>,
}

impl Follower {
    async fn run(mut self) {
        loop {
            if self.heard.wait_for(|heard| heard.mode.is_freezing()).await.is_err() {
                return;
            }
            tracing::info!("the cluster is held still: agents pause");
            self.standstill.pause();
            let mut heard = self.heard.clone();
            tokio::select! {
                _ = heard.wait_for(|heard| !heard.mode.is_freezing()) => {}
                () = self.stand_still() => {}
                () = self.watch_over() => {}
            }
            self.standstill.resume();
            tracing::info!("agents go on");
            // Unless a beat has ended it, only the next one tells what is so now.
            let left = Instant::now();
            let is_news = |heard: &HeardMode| heard.at > left || !heard.mode.is_freezing();
            if self.heard.wait_for(is_news).await.is_err() {
                return;
            }
        }
    }

    /// Says when all stand still, to each freeze that follows another unnoticed. Never ends: the freeze does.
    async fn stand_still(&self) {
        let mut told = None;
        loop {
            let store = self.store.borrow().clone();
            match store.freeze_view().await {
                Ok(Some(FreezeView { id, stage: FreezeStage::Freezing, .. }))
                    if told.as_ref() != Some(&id) =>
                {
                    self.standstill.wait_still().await;
                    let _ = self.events.send(WorkerEvent::AgentsStill(id.clone()));
                    told = Some(id);
                }
                // It has begun without this worker, or is over: the next beat tells.
                Ok(_) => {}
                Err(error) => tracing::warn!("cannot see who holds the cluster: {}", with_sources(&error)),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends when agents have to go on although no beat says so.
    async fn watch_over(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.heard.borrow().at.elapsed() > DEAF_MAX {
                tracing::error!("redis does not answer: agents go on by themselves");
                return;
            }
            let store = self.store.borrow().clone();
            match store.thaw_if_abandoned(&self.name).await {
                Ok(Thawed::GoesOn(mode)) => {
                    tracing::warn!("whoever held the cluster still is gone: it goes on (mode {mode})");
                    return;
                }
                Ok(Thawed::Held | Thawed::NotFrozen | Thawed::Retired) => {}
                Err(error) => tracing::debug!("cannot look after the freeze: {}", with_sources(&error)),
            }
        }
    }
}
