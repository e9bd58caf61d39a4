//! How the worker stands with the cluster: what it keeps on disk for it, and how it comes back after the
//! lease has run out or Redis has changed.

use std::time::Duration;

use maestro_model::ids::{AgentSlug, Incarnation, WorkerName};
use maestro_store::recovery::{RecoveredAttachment, RecoveringWorker};
use maestro_store::{Refusal, Store, StoreError};
use tokio::sync::watch;

use super::Service;
use crate::attaching::{Attachment, attach_again};
use crate::attempt::AttemptRunner;
use crate::beats::BeatTopic;
use crate::bells::BellTopic;
use crate::causes::with_sources;
use crate::container::ContainerOwner;
use crate::events::WorkerEvent;
use crate::identity::about_worker;
use crate::journal::JournalOwner;
use crate::recovery::{RecoveryCount, recover};

/// Sweeps of a worker are rare: coordinators do it every second.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Items of one sweep.
const SWEEP_ITEMS: u32 = 50;

impl Service {
    /// Writes what has ended to the journal, before it is reported.
    pub(super) fn keep_outcomes(&mut self) {
        let Service { journal, dispatcher, .. } = self;
        if !dispatcher.outcomes().is_empty() {
            journal.write(dispatcher.outcomes(), || dispatcher.unreported_outcomes());
            dispatcher.outcomes_written();
        }
    }

    /// Compares what is held and was reported with what a changed Redis remembers.
    pub(super) fn recover(&mut self) {
        tracing::warn!("redis has changed: what this worker holds and has reported is compared with it");
        let Attachment { life, store, incarnation } = self.attached.clone();
        let attachment = RecoveredAttachment {
            types: self.beats.borrow().types.iter().map(AgentSlug::to_string).collect(),
            lease: self.settings.lease,
            about: about_worker(&self.settings),
        };
        let worker =
            RecoveringWorker { incarnation, name: self.name.name.to_string(), attachment: Some(attachment) };
        let (held, place) = (self.dispatcher.held_attempts(), self.journal.place().clone());
        let (ttl, events) = (self.settings.state_ttl.as_millis() as u64, self.events.0.clone());
        self.keep(async move {
            let event = match recover(&store, &worker, &held, &place, ttl).await {
                Ok(RecoveryCount { adopted, reported, left }) => {
                    tracing::warn!(
                        "redis had forgotten {adopted} claims and {reported} outcomes of this worker and knows them \
                         again; {left} attempts wait for something that will be done again"
                    );
                    WorkerEvent::Recovered(life)
                }
                Err(StoreError::Refused(Refusal::Fenced | Refusal::Epoch { .. } | Refusal::ClusterGone)) => {
                    WorkerEvent::Fenced(life)
                }
                Err(error) => {
                    // It is asked again with the next beat.
                    tracing::error!("redis was not told what this worker holds: {}", with_sources(&error));
                    WorkerEvent::Recovered(life)
                }
            };
            let _ = events.send(event);
        });
    }

    /// Becomes another incarnation, however long that takes.
    pub(super) fn reattach(&mut self) {
        tracing::error!(worker = %self.name.name, "the lease is over: agents end, and what they did is not reported");
        self.beats.send_modify(|topic| topic.who = None);
        self.bells.send_modify(|topic| topic.who = None);
        let types = self.beats.borrow().types.clone();
        let life = self.attached.life.next();
        let cluster = self.attached.store.cluster_id().to_owned();
        let attaching = attach_again(
            self.options.clone(),
            self.settings.clone(),
            self.name.name.clone(),
            types,
            life,
            cluster,
        );
        let attachments = self.attachments.0.clone();
        self.keep(async move {
            let _ = attachments.send(attaching.await);
        });
    }

    pub(super) fn take_attachment(&mut self, attached: Attachment) -> WorkerEvent {
        let Attachment { life, store, incarnation } = attached.clone();
        self.attached = attached;
        self.store.send_replace(store.clone());
        self.journal.begin_again(JournalOwner::new(store.cluster_id(), &incarnation));
        self.running.speak_as(incarnation.clone());
        self.registry.send_replace(0);
        self.beats.send_modify(|topic| topic.who = Some((life, incarnation.clone())));
        self.bells.send_modify(|topic| topic.who = Some((store, incarnation)));
        WorkerEvent::Attached(life)
    }
}

/// Containers that are made from now on are this incarnation's.
pub(super) fn claim_containers(
    runner: &AttemptRunner,
    store: &Store,
    name: &WorkerName,
    incarnation: &Incarnation,
) {
    let Some(containers) = runner.containers() else { return };
    containers.belong_to(ContainerOwner {
        worker: name.to_string(),
        namespace: store.namespace().to_owned(),
        cluster: store.cluster_id().to_owned(),
        epoch: store.epoch(),
        incarnation: incarnation.to_string(),
        root: runner.root().path().to_owned(),
    });
}

/// What the beat and the bells begin with.
pub(super) fn topics(
    attached: &Attachment,
    types: Vec<AgentSlug>,
) -> (watch::Sender<BeatTopic>, watch::Sender<BellTopic>) {
    let who = (attached.life, attached.incarnation.clone());
    let listener = (attached.store.clone(), attached.incarnation.clone());
    (
        watch::Sender::new(BeatTopic { who: Some(who), types }),
        watch::Sender::new(BellTopic { who: Some(listener), queues: Vec::new() }),
    )
}

/// Work goes on without a coordinator, though slower: everyone sweeps.
pub(super) async fn sweep_now_and_then(store: watch::Receiver<Store>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY.mul_f64(rand::random_range(0.7..1.3))).await;
        let store = store.borrow().clone();
        if let Err(error) = store.sweep(SWEEP_ITEMS).await {
            tracing::debug!("a sweep was not carried out: {error}");
        }
    }
}

/// Memory of this process, bytes; 0 where it cannot be read.
pub(super) fn resident_bytes() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
