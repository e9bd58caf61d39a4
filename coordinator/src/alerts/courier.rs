//! Brings alerts to their webhook: one after the other, each again until it has arrived or there is no use in it.
//!
//! Whoever hands one over never waits: a webhook that hangs holds up the alerts behind it and nothing else, and what
//! does not fit into the bag is thrown away, which is logged.

use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::message::{AlertMessage, signature};
use super::post::{AlertAddress, PostError};

/// Alerts that wait at one time.
const BAG_MAX: usize = 1_000;
/// How often one is tried.
const TRIES_MAX: u32 = 10;
/// First and longest wait between two tries.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Takes alerts for one webhook.
#[derive(Debug)]
pub struct AlertCourier {
    bag: mpsc::Sender<AlertMessage>,
    road: JoinHandle<()>,
}

impl AlertCourier {
    /// Sets out. With a secret each body is signed.
    pub fn start(address: AlertAddress, secret: Option<String>) -> AlertCourier {
        let (bag, waiting) = mpsc::channel(BAG_MAX);
        let road = tokio::spawn(deliver_all(address, secret, waiting));
        AlertCourier { bag, road }
    }

    /// Hands an alert over; returns at once.
    pub fn hand_over(&self, message: AlertMessage) {
        if self.bag.try_send(message).is_err() {
            tracing::error!("an alert is lost: {BAG_MAX} wait for the webhook already");
        }
    }

    /// Waits until all that was handed over has arrived or is lost, at most so long.
    pub async fn finish(self, longest: Duration) {
        drop(self.bag);
        let mut road = self.road;
        if tokio::time::timeout(longest, &mut road).await.is_err() {
            road.abort();
            tracing::warn!("the last alerts did not reach the webhook");
        }
    }
}

async fn deliver_all(
    address: AlertAddress,
    secret: Option<String>,
    mut waiting: mpsc::Receiver<AlertMessage>,
) {
    while let Some(message) = waiting.recv().await {
        let body = Bytes::from(message.body());
        let signature = secret.as_deref().map(|secret| signature(secret, &body));
        if let Err(error) = deliver(&address, &body, signature.as_deref()).await {
            let (rule, subject) = (message.rule, &message.subject);
            tracing::error!(rule, subject, webhook = address.shown(), "an alert is lost: {error}");
        }
    }
}

async fn deliver(address: &AlertAddress, body: &Bytes, signature: Option<&str>) -> Result<(), PostError> {
    let mut wait = RETRY_WAIT.0;
    let mut tries = 1;
    loop {
        match address.post(body.clone(), signature).await {
            Err(PostError::Passing(why)) if tries < TRIES_MAX => {
                tracing::warn!(webhook = address.shown(), tries, "an alert is sent again: {why}");
            }
            done => return done,
        }
        tries += 1;
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
        wait = (wait * 2).min(RETRY_WAIT.1);
    }
}
