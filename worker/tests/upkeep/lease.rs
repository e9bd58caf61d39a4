//! The lease: renewed, in danger, over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use maestro_model::ids::Incarnation;
use maestro_store::{Store, StoreOptions};
use maestro_worker::beats::{BeatSettings, BeatTopic, BeatWires, SharedStatus, start_beats};
use maestro_worker::events::{Life, WorkerEvent};
use maestro_worker::held::HeldAttempts;
use tokio::sync::{Notify, mpsc, watch};

use crate::support::{PATIENCE, TestRedis, attach_worker};

const LEASE: Duration = Duration::from_secs(8);
const FENCE_AFTER: Duration = Duration::from_millis(1500);

/// A thread that beats, and what it says.
struct Beating {
    topic: watch::Sender<BeatTopic>,
    beat_now: Arc<Notify>,
    events: mpsc::UnboundedReceiver<WorkerEvent>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Beating {
    fn start(redis: &TestRedis, incarnation: Incarnation, heartbeat: Duration) -> Beating {
        let settings = BeatSettings {
            store: StoreOptions { patience: Duration::ZERO, ..redis.options() },
            heartbeat,
            lease: LEASE,
            fence_after: FENCE_AFTER,
        };
        let topic =
            watch::Sender::new(BeatTopic { who: Some((Life::FIRST, incarnation)), types: Vec::new() });
        let beat_now = Arc::new(Notify::new());
        let (sender, events) = mpsc::unbounded_channel();
        let wires = BeatWires {
            topic: topic.subscribe(),
            beat_now: beat_now.clone(),
            held: HeldAttempts::default(),
            status: SharedStatus::default(),
            events: sender,
        };
        let thread = start_beats(settings, wires).expect("a thread");
        Beating { topic, beat_now, events, thread: Some(thread) }
    }

    async fn next(&mut self) -> WorkerEvent {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("something happens");
        event.expect("the thread lives")
    }

    /// Waits for an event, and says whether the lease was in danger before it.
    async fn until(&mut self, is_it: impl Fn(&WorkerEvent) -> bool) -> bool {
        let mut was_in_danger = false;
        loop {
            let event = self.next().await;
            if is_it(&event) {
                return was_in_danger;
            }
            was_in_danger |= matches!(event, WorkerEvent::LeaseInDanger(_));
        }
    }

    async fn until_answered(&mut self) -> bool {
        while self.events.try_recv().is_ok() {}
        self.until(|event| matches!(event, WorkerEvent::BeatAnswered(..))).await
    }

    /// The thread ends with its topic.
    fn end(mut self) {
        drop(self.topic);
        self.thread.take().expect("it is there").join().expect("it did not break down");
    }
}

async fn beating(redis: &TestRedis, heartbeat: Duration) -> (Beating, Store) {
    let store = redis.store().await;
    let incarnation = attach_worker(&store, "alpha", LEASE).await;
    (Beating::start(redis, incarnation, heartbeat), store)
}

#[tokio::test]
async fn silence_endangers_the_lease_in_time_and_only_once() {
    let redis = TestRedis::start();
    let (mut beating, _store) = beating(&redis, Duration::from_millis(200)).await;
    beating.until_answered().await;
    let frozen = redis.freeze();
    let begun = Instant::now();
    beating.until(|event| matches!(event, WorkerEvent::LeaseInDanger(Life::FIRST))).await;
    let silence = begun.elapsed();
    // Counted from the last answered beat, which may have been sent a heartbeat before.
    assert!(silence > FENCE_AFTER - Duration::from_millis(500), "too early: {silence:?}");
    assert!(silence < FENCE_AFTER + Duration::from_secs(1), "too late: {silence:?}");
    drop(frozen);
    let again = beating.until(|event| matches!(event, WorkerEvent::BeatAnswered(..))).await;
    assert!(!again, "it was said once");
    beating.end();
}

#[tokio::test]
async fn while_redis_is_down_for_all_the_lease_is_not_in_danger() {
    let mut redis = TestRedis::start();
    let (mut beating, _store) = beating(&redis, Duration::from_millis(200)).await;
    beating.until_answered().await;
    redis.kill();
    // Longer than silence may last; what is waited for is the time itself.
    tokio::time::sleep(FENCE_AFTER * 2).await;
    redis.restart();
    // A Redis that was restarted asks each worker first what it holds; nobody here answers that.
    let is_heard =
        |event: &WorkerEvent| matches!(event, WorkerEvent::BeatAnswered(..) | WorkerEvent::RecoveryAsked(..));
    let in_danger = beating.until(is_heard).await;
    assert!(!in_danger, "agents would have been ended for nothing");
    beating.end();
}

#[tokio::test]
async fn a_lease_that_is_over_is_said_once_for_each_life() {
    let redis = TestRedis::start();
    let (mut beating, store) = beating(&redis, Duration::from_millis(50)).await;
    beating.until_answered().await;
    let incarnation = beating.topic.borrow().who.clone().expect("it beats").1;
    store.detach(&incarnation).await.expect("gone");
    beating.until(|event| matches!(event, WorkerEvent::Fenced(Life::FIRST))).await;

    let next = attach_worker(&store, "alpha", LEASE).await;
    beating.topic.send_modify(|topic| topic.who = Some((Life(2), next)));
    beating.until(|event| matches!(event, WorkerEvent::BeatAnswered(Life(2), ..))).await;
    beating.end();
}

#[tokio::test]
async fn a_beat_that_is_asked_for_comes_at_once() {
    let redis = TestRedis::start();
    let (mut beating, _store) = beating(&redis, Duration::from_secs(600)).await;
    let begun = Instant::now();
    beating.beat_now.notify_one();
    beating.until_answered().await;
    // A cancel reaches an agent within a second, whatever the heartbeat.
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    beating.topic.send_modify(|topic| topic.types = vec!["noop".parse().expect("a lawful slug")]);
    beating.until_answered().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "types are told at once: {:?}", begun.elapsed());
    beating.end();
}
