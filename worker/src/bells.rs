//! Waiting for work without asking for it: a blocking read on a connection of its own.
//!
//! A bell is a hint. Whatever happens to the connection, the worker looks once by itself afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use maestro_model::ids::Incarnation;
use maestro_model::plan::QueueName;
use maestro_store::Store;
use maestro_store::worker::{BellRing, Bells};
use tokio::sync::{Notify, mpsc, watch};

use crate::events::WorkerEvent;

/// Longest wait in Redis; also how long a token that got lost can delay work.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// First and longest pause after a connection that failed.
const RECONNECT_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What to listen to.
#[derive(Debug, Clone)]
pub struct BellTopic {
    /// Who listens, and where; none while not attached.
    pub who: Option<(Store, Incarnation)>,
    /// Queues whose bells count; empty while every slot is taken.
    pub queues: Vec<QueueName>,
}

impl BellTopic {
    fn incarnation(&self) -> Option<&Incarnation> {
        self.who.as_ref().map(|(_, incarnation)| incarnation)
    }

    /// Whether this listens to something that `known` does not.
    fn is_more_than(&self, known: &BellTopic) -> bool {
        let is_other = self.incarnation() != known.incarnation();
        is_other || self.queues.iter().any(|queue| !known.queues.contains(queue))
    }
}

/// Who is woken by the worker's own bell.
#[derive(Debug, Clone, Default)]
pub struct OwnBell {
    /// The beats: something may have to end.
    pub beat_now: Arc<Notify>,
    /// The mailbox: somebody may ask something.
    pub mail: Arc<Notify>,
}

/// Listens until the topic's sender is dropped.
pub async fn listen(
    mut topic: watch::Receiver<BellTopic>,
    own: OwnBell,
    events: mpsc::UnboundedSender<WorkerEvent>,
) {
    let mut pause = RECONNECT_PAUSE.0;
    loop {
        let Some((store, _)) = topic.borrow_and_update().who.clone() else {
            if topic.changed().await.is_err() {
                return;
            }
            continue;
        };
        let begun = Instant::now();
        if let Ok(bells) = store.bells(LONGEST_WAIT).await {
            let _ = events.send(WorkerEvent::BellRang);
            // What rang while nobody listened.
            own.mail.notify_one();
            match ring_on(bells, &mut topic, &own, &events).await {
                Silence::WorkerGone => return,
                Silence::Elsewhere => {
                    pause = RECONNECT_PAUSE.0;
                    continue;
                }
                Silence::ConnectionLost if begun.elapsed() > RECONNECT_PAUSE.1 => pause = RECONNECT_PAUSE.0,
                Silence::ConnectionLost => {}
            }
        } else if topic.has_changed().is_err() {
            return;
        }
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(RECONNECT_PAUSE.1);
    }
}

/// Why a connection rings no more.
enum Silence {
    /// There is more to listen to than it was told.
    Elsewhere,
    ConnectionLost,
    WorkerGone,
}

/// Passes on what rings on one connection.
async fn ring_on(
    mut bells: Bells,
    topic: &mut watch::Receiver<BellTopic>,
    own: &OwnBell,
    events: &mpsc::UnboundedSender<WorkerEvent>,
) -> Silence {
    loop {
        let now = topic.borrow_and_update().clone();
        let Some(incarnation) = now.incarnation() else { return Silence::Elsewhere };
        // A wait that is given up would go on in Redis and swallow a token, so a change that takes
        // queues away only counts from the next wait on, and one that adds them gets a new connection.
        let ring = tokio::select! {
            ring = bells.wait_ring(incarnation, &now.queues) => ring,
            gained = wait_for_more(topic, &now) => {
                return if gained { Silence::Elsewhere } else { Silence::WorkerGone };
            }
        };
        match ring {
            Err(_) => return Silence::ConnectionLost,
            // One's own bell: a cancel, a freeze, a question, or work for several types at once.
            Ok(BellRing::Own) => {
                own.beat_now.notify_one();
                own.mail.notify_one();
            }
            Ok(BellRing::Queue(queue)) => {
                // All slots were taken meanwhile: somebody else is to hear it.
                let is_useless = !topic.borrow().queues.contains(&queue);
                if is_useless && bells.pass_on(&queue).await.is_err() {
                    return Silence::ConnectionLost;
                }
            }
            Ok(BellRing::Nothing) => {}
        }
        let _ = events.send(WorkerEvent::BellRang);
    }
}

/// Until there is more to listen to than `now`; false when the sender is gone.
async fn wait_for_more(topic: &mut watch::Receiver<BellTopic>, now: &BellTopic) -> bool {
    loop {
        if topic.changed().await.is_err() {
            return false;
        }
        if topic.borrow_and_update().is_more_than(now) {
            return true;
        }
    }
}
