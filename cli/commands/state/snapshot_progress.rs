//! Drawing how a snapshot or a restore comes along, beside the work itself.

use maestro_coordinator::snapshot::{
    SnapshotError, SnapshotProgress, SnapshotRequest, SnapshotStage, TakenSnapshot, take_snapshot,
};
use maestro_store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::commands::CommandContext;

/// A task that shows what is published.
#[derive(Debug)]
pub(super) struct ShownProgress(JoinHandle<()>);

impl ShownProgress {
    /// Shows each news. Must be called within a runtime of several threads: the work blocks its own at times.
    pub(super) fn of<P: Copy + Send + Sync + 'static>(
        progress: &watch::Sender<P>,
        mut show: impl FnMut(P) + Send + 'static,
    ) -> ShownProgress {
        let mut news = progress.subscribe();
        ShownProgress(tokio::spawn(async move {
            while news.changed().await.is_ok() {
                let now = *news.borrow_and_update();
                show(now);
            }
        }))
    }

    /// Ends it: what was drawn is gone when this returns.
    pub(super) async fn end(self) {
        self.0.abort();
        // That it was aborted is no news.
        let _ = self.0.await;
    }
}

/// Takes a snapshot and shows how it comes along.
///
/// # Errors
/// See [`SnapshotError`]; then there is none.
pub(super) async fn take_shown(
    store: &Store,
    request: &SnapshotRequest,
    context: &CommandContext,
) -> Result<TakenSnapshot, SnapshotError> {
    let progress = watch::Sender::new(SnapshotProgress::default());
    // Without surroundings there is no terminal to speak of either.
    let shown = context.progress().ok().map(|mut line| {
        ShownProgress::of(&progress, move |now: SnapshotProgress| {
            line.show(part_of(now.stage), now.bytes, now.total);
        })
    });
    let taken = take_snapshot(store, request, &progress).await;
    if let Some(shown) = shown {
        shown.end().await;
    }
    taken
}

fn part_of(stage: SnapshotStage) -> &'static str {
    match stage {
        SnapshotStage::Freezing => "pausing agents",
        SnapshotStage::Keys => "reading keys",
        SnapshotStage::Folders => "receiving workspaces",
        SnapshotStage::Joining => "joining the archive",
        SnapshotStage::Verifying => "reading it once more",
    }
}
