//! What a webhook was told and is not over, noted in Redis: two monitors, and one that starts again, tell nothing
//! twice. A monitor that dies between note and POST has lost that alert; the problem itself is found anew by whoever
//! looks.

use maestro_store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::message::hex;
use crate::health::{ChangeKind, HealthChange, HealthProblem, HealthWatch};

/// Version of a note.
const NOTE_VERSION: u32 = 1;

/// The notes of one webhook.
#[derive(Debug, Clone)]
pub struct AlertNotebook {
    webhook: String,
}

#[derive(Serialize, Deserialize)]
struct AlertNote {
    v: u32,
    since_ms: u64,
    problem: HealthProblem,
}

impl AlertNotebook {
    /// Of the webhook at an address, which may be a secret and is not stored.
    pub fn of(address: &str) -> AlertNotebook {
        AlertNotebook { webhook: hex(&Sha256::digest(address.as_bytes())[..8]) }
    }

    /// What was told before and is not over. Notes of a newer version are passed over.
    ///
    /// # Errors
    /// What the store says.
    pub async fn resume(&self, store: &Store) -> Result<HealthWatch, StoreError> {
        let notes = store.told_alerts(&self.webhook).await?;
        let read = |text: &String| serde_json::from_str::<AlertNote>(text).ok();
        let known = notes.values().filter_map(read).filter(|note| note.v == NOTE_VERSION);
        Ok(HealthWatch::resume(known.map(|note| (note.since_ms, note.problem))))
    }

    /// Notes a change, if nobody has: the change as it is to be told, with when its beginning was told.
    ///
    /// # Errors
    /// What the store says.
    pub async fn claim(
        &self,
        store: &Store,
        change: &HealthChange,
    ) -> Result<Option<HealthChange>, StoreError> {
        let name = format!("{} {}", change.problem.rule.word(), change.problem.subject);
        match change.kind {
            ChangeKind::Firing => {
                let problem = change.problem.clone();
                let note = AlertNote { v: NOTE_VERSION, since_ms: change.since_ms, problem };
                let record = serde_json::to_string(&note).expect("plain data");
                let is_new = store.claim_alert(&self.webhook, &name, &record).await?;
                Ok(is_new.then(|| change.clone()))
            }
            ChangeKind::Resolved => {
                let record = store.close_alert(&self.webhook, &name).await?;
                Ok(record.map(|record| {
                    let note = serde_json::from_str::<AlertNote>(&record);
                    let since_ms = note.map_or(change.since_ms, |note| note.since_ms);
                    HealthChange { since_ms, ..change.clone() }
                }))
            }
        }
    }
}
