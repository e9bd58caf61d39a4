//! Changes of shared state for all watchers of a worker, from one reader of the audit stream.
//!
//! The reader is there as long as somebody watches. Each watcher reads the values it wants itself, and one
//! that does not keep up is told so: it would miss changes.

use std::sync::Arc;
use std::time::Duration;

use maestro_store::events::{AuditEvent, EventKind, EventPosition, EventReader};
use maestro_store::{Store, StoreError};
use tokio::sync::{Mutex, broadcast, watch};

/// Changes that a watcher may be behind.
const CHANGES_MAX: usize = 1_024;
/// Longest wait for a change before it is asked whether anybody still watches.
const CHANGES_WAIT: Duration = Duration::from_secs(2);
/// Pause after a failure.
const AGAIN_WAIT: Duration = Duration::from_millis(500);

/// Where watchers come in. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct StateChanges {
    shared: Arc<ChangesShared>,
}

#[derive(Debug)]
struct ChangesShared {
    store: watch::Receiver<Store>,
    running: Mutex<Option<broadcast::Sender<AuditEvent>>>,
}

impl StateChanges {
    pub(super) fn new(store: watch::Receiver<Store>) -> StateChanges {
        StateChanges { shared: Arc::new(ChangesShared { store, running: Mutex::new(None) }) }
    }

    /// Every change of shared state from now on.
    pub(super) async fn subscribe(&self) -> Result<broadcast::Receiver<AuditEvent>, StoreError> {
        let mut running = self.shared.running.lock().await;
        if let Some(sender) = &*running {
            return Ok(sender.subscribe());
        }
        let mut store = self.shared.store.clone();
        let present = store.borrow_and_update().clone();
        let position = present.events_end().await?;
        let (sender, receiver) = broadcast::channel(CHANGES_MAX);
        *running = Some(sender.clone());
        tokio::spawn(read_on(self.shared.clone(), sender, store, position));
        Ok(receiver)
    }
}

/// Reads the stream until nobody watches any more.
async fn read_on(
    shared: Arc<ChangesShared>,
    sender: broadcast::Sender<AuditEvent>,
    mut store: watch::Receiver<Store>,
    mut position: EventPosition,
) {
    let mut reader: Option<EventReader> = None;
    loop {
        if sender.receiver_count() == 0 {
            let mut running = shared.running.lock().await;
            // Somebody may have come in meanwhile.
            if sender.receiver_count() == 0 {
                *running = None;
                return;
            }
        }
        match next_events(&mut reader, &mut store, &mut position).await {
            Ok(events) => {
                let changes =
                    events.into_iter().filter(|event| matches!(event.kind, EventKind::State { .. }));
                for change in changes {
                    // Without receivers it goes nowhere, and the next turn ends.
                    let _ = sender.send(change);
                }
            }
            Err(error) => {
                tracing::debug!("changes of shared state wait: {error}");
                reader = None;
                tokio::time::sleep(AGAIN_WAIT).await;
            }
        }
    }
}

async fn next_events(
    reader: &mut Option<EventReader>,
    store: &mut watch::Receiver<Store>,
    position: &mut EventPosition,
) -> Result<Vec<AuditEvent>, StoreError> {
    if store.has_changed().unwrap_or(false) {
        // Another incarnation, and after a restore other keys: what was there is not what changed.
        let present = store.borrow_and_update().clone();
        *position = present.events_end().await?;
        *reader = None;
    }
    let open = match reader.take() {
        Some(open) => reader.insert(open),
        None => {
            let present = store.borrow().clone();
            reader.insert(present.follow_events(position.clone(), CHANGES_WAIT).await?)
        }
    };
    let events = open.next().await?;
    *position = open.position().clone();
    Ok(events)
}
