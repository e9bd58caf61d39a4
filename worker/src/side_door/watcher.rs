//! One watcher: changes of the keys it wants, as lines, until nobody reads them any more.

use hyper::body::Bytes;
use jiff::Timestamp;
use maestro_store::Store;
use maestro_store::events::{AuditEvent, EventKind};
use maestro_store::state::TaskVoice;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::access::{AccessKind, DoorAccess};
use super::pattern::KeyPattern;
use super::refusal::failed;
use super::wire::{ChangeRecord, DoorError, DoorErrorKind, ErrorBody};

/// Lines on their way to one watcher.
pub(super) const LINES_MAX: usize = 16;

/// One watcher, until nobody reads its lines any more.
pub(super) struct Watcher {
    pub(super) store: Store,
    pub(super) pattern: KeyPattern,
    pub(super) lines: mpsc::Sender<Bytes>,
    pub(super) voice: TaskVoice,
    pub(super) accesses: Option<mpsc::Sender<DoorAccess>>,
}

impl Watcher {
    pub(super) async fn run(self, mut changes: broadcast::Receiver<AuditEvent>) {
        loop {
            let event = tokio::select! {
                event = changes.recv() => event,
                () = self.lines.closed() => return,
            };
            let line = match event {
                Ok(event) => self.line(event).await,
                Err(RecvError::Lagged(missed)) => Err(DoorError::new(
                    DoorErrorKind::Unavailable,
                    format!("the watcher is {missed} changes behind and would miss them"),
                )
                .hint("read the lines more quickly, or watch fewer keys")),
                Err(RecvError::Closed) => return,
            };
            let is_last = line.is_err();
            let line = match line {
                Ok(None) => continue,
                Ok(Some(change)) => json!(change),
                Err(error) => json!(ErrorBody { error }),
            };
            if self.lines.send(format!("{line}\n").into()).await.is_err() || is_last {
                return;
            }
        }
    }

    /// What is said of a change; nothing if another one came after it, which has an event of its own.
    async fn line(&self, event: AuditEvent) -> Result<Option<ChangeRecord>, DoorError> {
        let EventKind::State { key, version, who } = event.kind else { return Ok(None) };
        if !self.pattern.means(&key) {
            return Ok(None);
        }
        let now = self.store.state(&key).await.map_err(failed)?;
        if now.as_ref().map(|shared| shared.version) != version {
            return Ok(None);
        }
        let value = now.map(|shared| shared.value);
        DoorAccess::tell(
            self.accesses.as_ref(),
            &self.voice,
            &key,
            AccessKind::Read { value: value.clone() },
        );
        let at = i64::try_from(event.at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        Ok(Some(ChangeRecord {
            at: at.map_or_else(|| format!("{} ms", event.at_ms), |at| at.to_string()),
            event: if version.is_some() { "set" } else { "deleted" }.to_owned(),
            key,
            version,
            value,
            by: who,
        }))
    }
}
