//! Coming back after the lease has run out, or after the cluster was restored: as a new incarnation, on
//! a new connection, however long that takes.

use std::sync::Arc;
use std::time::Duration;

use maestro_model::ids::{AgentSlug, Incarnation, WorkerName};
use maestro_store::{Store, StoreError, StoreOptions};

use crate::causes::with_sources;
use crate::events::Life;
use crate::identity::attach;
use crate::settings::WorkerSettings;

/// First and longest wait between two tries.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// A worker that has attached.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Which of its lives this is.
    pub life: Life,
    /// Where the cluster's keys are.
    pub store: Store,
    /// Who it is.
    pub incarnation: Incarnation,
}

/// Tries until it has attached. To be dropped when the worker ends.
pub async fn attach_again(
    options: StoreOptions,
    settings: Arc<WorkerSettings>,
    name: WorkerName,
    types: Vec<AgentSlug>,
    life: Life,
    cluster: String,
) -> Attachment {
    let mut wait = RETRY_WAIT.0;
    loop {
        match attach_once(&options, &settings, &name, &types).await {
            Ok((store, incarnation)) => {
                tell_attached(&name, &cluster, store.cluster_id(), &incarnation);
                return Attachment { life, store, incarnation };
            }
            Err(error) => tracing::error!(worker = %name, "cannot attach again: {}", with_sources(&error)),
        }
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
        wait = (wait * 2).min(RETRY_WAIT.1);
    }
}

async fn attach_once(
    options: &StoreOptions,
    settings: &WorkerSettings,
    name: &WorkerName,
    types: &[AgentSlug],
) -> Result<(Store, Incarnation), StoreError> {
    // A restore changes the epoch, and a flushed Redis has no cluster and no types: find out anew.
    let store = Store::connect(options).await?;
    store.register_missing(&settings.local_agents).await?;
    let incarnation = attach(&store, settings, name, types).await?;
    Ok((store, incarnation))
}

/// A Redis that came back empty holds another cluster: that is said in so many words.
fn tell_attached(name: &WorkerName, before: &str, now: &str, incarnation: &Incarnation) {
    if before == now {
        tracing::warn!(worker = %name, "attached again as {incarnation}");
        return;
    }
    tracing::error!(
        worker = %name,
        "redis has lost its data, or another one is at its address: cluster {before} is gone with its runs, what \
         ran here was ended and not reported, and this worker serves cluster {now} now"
    );
}
