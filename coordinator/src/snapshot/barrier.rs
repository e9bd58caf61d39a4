//! Holding the cluster still: freeze, wait for workers, renew, thaw.
//!
//! Should this process die, nobody renews, and workers thaw by themselves.

use std::time::{Duration, Instant};

use maestro_model::ids::Incarnation;
use maestro_store::Store;
use maestro_store::freezing::{FREEZE_RENEWAL, FreezeId, FreezeStanding, Thawed};
use tokio::task::JoinHandle;

use super::error::SnapshotError;

/// A worker that has not paused for so long is missing.
const BARRIER_WAIT: Duration = Duration::from_secs(15);
/// Wait between two looks at who has paused.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A cluster that stands still.
pub(crate) struct HeldCluster {
    store: Store,
    id: FreezeId,
    by: String,
    renewing: JoinHandle<()>,
}

impl HeldCluster {
    /// Holds the cluster still. Comes with the workers that did not pause in time; those in `gone` are not waited for.
    pub(crate) async fn freeze(
        store: &Store,
        by: &str,
        deadline: Duration,
        gone: Vec<Incarnation>,
    ) -> Result<(HeldCluster, Vec<Incarnation>), SnapshotError> {
        let id = FreezeId::random();
        store.freeze(&id, by, deadline).await?;
        let held = HeldCluster {
            store: store.clone(),
            id: id.clone(),
            by: by.to_owned(),
            renewing: tokio::spawn(renew(store.clone(), id)),
        };
        match held.wait_for_workers(gone).await {
            Ok(missing) => Ok((held, missing)),
            Err(error) => {
                held.let_go().await;
                Err(error)
            }
        }
    }

    async fn wait_for_workers(
        &self,
        mut missing: Vec<Incarnation>,
    ) -> Result<Vec<Incarnation>, SnapshotError> {
        let begun = Instant::now();
        loop {
            match self.store.renew_freeze(&self.id, &missing).await? {
                FreezeStanding::Frozen => return Ok(missing),
                FreezeStanding::Lost => return Err(SnapshotError::NotHeld),
                FreezeStanding::Waiting(late) if begun.elapsed() >= BARRIER_WAIT => missing.extend(late),
                FreezeStanding::Waiting(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// The freeze's name.
    pub(crate) fn id(&self) -> &FreezeId {
        &self.id
    }

    /// Lets the cluster go on, after all has been read.
    ///
    /// # Errors
    /// `NotHeld` if it went on before: a freeze that was lost does not come back.
    pub(super) async fn thaw(self) -> Result<(), SnapshotError> {
        self.renewing.abort();
        let standing = self.store.renew_freeze(&self.id, &[]).await?;
        let thawed = self.store.thaw(&self.id, &self.by).await?;
        match (standing, thawed) {
            (FreezeStanding::Frozen, Thawed::GoesOn(_)) => Ok(()),
            _ => Err(SnapshotError::NotHeld),
        }
    }

    /// Lets the cluster go on because nothing comes of it.
    pub(crate) async fn let_go(self) {
        self.renewing.abort();
        if let Err(error) = self.store.thaw(&self.id, &self.by).await {
            tracing::warn!("the cluster stands still until its freeze runs out: {error}");
        }
    }
}

impl Drop for HeldCluster {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn renew(store: Store, id: FreezeId) {
    loop {
        tokio::time::sleep(FREEZE_RENEWAL).await;
        // One that is lost is noticed at the thaw; one that was not answered may be the next time.
        if let Err(error) = store.renew_freeze(&id, &[]).await {
            tracing::warn!("the freeze was not renewed: {error}");
        }
    }
}
