//! What follows when a snapshot is in force: folders into their places, work goes on, the old generation goes.
//!
//! Each step may be repeated. A folder that cannot be put into its place does not hold the others up: it is told, and
//! what was staged of it stays beside its place.

use std::time::{Duration, Instant};

use maestro_model::mailbox::StagedOrder;
use maestro_store::Store;
use maestro_store::failpoint;
use maestro_store::restoring::{JournaledFolder, RestoreJournal, RestoreStage};
use maestro_store::worker::AttachedProcess;

use super::error::RestoreError;
use super::plan::live_workers;
use super::staging::{MOVED_WITHIN, Misplaced, order_folders};

/// How long workers have to come back after the change of the epoch: a beat, the end of their agents, a new name.
const COME_BACK_WITHIN: Duration = Duration::from_secs(60);
/// Wait between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How a restore ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FinishReport {
    /// Folders in their places.
    pub placed: usize,
    /// Those that are not, and why.
    pub misplaced: Vec<(String, String)>,
}

/// How long a worker may take to remove what stood in places of folders.
const REMOVED_WITHIN: Duration = Duration::from_secs(600);
/// How long it is waited for while the cluster may stand still: a worker goes on removing by itself.
const ASIDE_WITHIN: Duration = Duration::from_secs(10);
/// Whoever carries a restore out is heard of more often than this.
const ABANDONED_AFTER_MS: u64 = 15_000;

/// Finishes a restore that somebody began and did not finish, if it has taken place; removes what is left of one that
/// has not. None if there is none, or somebody is at it.
///
/// # Errors
/// `Store`. Then it can be asked again.
pub async fn finish_abandoned(store: &Store) -> Result<Option<FinishReport>, RestoreError> {
    let Some(journal) = store.restore_journal().await? else { return Ok(None) };
    let silent_ms = store.redis_time_ms().await?.saturating_sub(journal.seen_ms);
    if journal.stage == RestoreStage::Done || silent_ms < ABANDONED_AFTER_MS {
        return Ok(None);
    }
    if journal.stage.is_unfinished() {
        return finish(&store.reopened().await?, &journal).await.map(Some);
    }
    // As long as the cluster stands still somebody may be at it.
    if store.freeze_view().await?.is_none() {
        clear_up(store, &journal).await?;
    }
    Ok(None)
}

/// Removes what is beside its place of a restore that has not taken place. As long as a worker has not said that
/// nothing is left, the journal stays open, and whoever comes next tries again.
pub(super) async fn clear_up(store: &Store, journal: &RestoreJournal) -> Result<(), RestoreError> {
    let is_clear = drop_folders(store, journal, &[], ASIDE_WITHIN).await?;
    store.collect_generations().await?;
    if is_clear {
        store.close_restore_journal().await?;
    }
    Ok(())
}

/// `store` has to be opened after the change.
pub(super) async fn finish(store: &Store, journal: &RestoreJournal) -> Result<FinishReport, RestoreError> {
    let mut misplaced = match journal.stage {
        // Work goes on in them already.
        RestoreStage::Clearing => Vec::new(),
        _ => place_all(store, journal).await?,
    };
    failpoint::reach("restore-placed");
    let now = store.restore_journal().await?;
    if now.is_none_or(|now| now.id != journal.id || !now.stage.is_unfinished()) {
        // Somebody else was faster, and has told of what was misplaced.
        misplaced.clear();
    } else {
        let detail =
            format!("generation {}, {} folders", journal.to, journal.folders.len() - misplaced.len());
        store.finish_restore(journal, &detail).await?;
        failpoint::reach("restore-going-on");
        let kept: Vec<&JournaledFolder> = misplaced.iter().map(|(folder, _)| folder).collect();
        drop_folders(store, journal, &kept, REMOVED_WITHIN).await?;
        store.collect_generations().await?;
        store.close_restore_journal().await?;
        failpoint::reach("restore-collected");
    }
    Ok(FinishReport {
        placed: journal.folders.len() - misplaced.len(),
        misplaced: misplaced.into_iter().map(|(folder, why)| (folder.folder.key.to_string(), why)).collect(),
    })
}

async fn place_all(store: &Store, journal: &RestoreJournal) -> Result<Vec<Misplaced>, RestoreError> {
    let mut left = journal.folders.clone();
    let mut misplaced = Vec::new();
    let deadline = Instant::now() + COME_BACK_WITHIN;
    while !left.is_empty() {
        for worker in live_workers(store).await? {
            let (here, others) = of_worker(left, &worker);
            left = others;
            let outcome =
                order_folders(store, &worker, &journal.id, StagedOrder::Place, &here, MOVED_WITHIN).await;
            misplaced.extend(outcome.misplaced);
            // It may have died over it: whoever comes after it is asked.
            left.extend(outcome.unanswered.into_iter().map(|(folder, _)| folder));
        }
        store.touch_restore_journal().await?;
        if Instant::now() >= deadline {
            let gone = |folder: JournaledFolder| {
                let why = format!("worker `{}` did not come back", folder.worker);
                (folder, why)
            };
            misplaced.extend(left.drain(..).map(gone));
        }
        if !left.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(misplaced)
}

/// Removes what lies beside places of those folders that are not in `kept`, as far as workers answer; whether all
/// have.
pub(super) async fn drop_folders(
    store: &Store,
    journal: &RestoreJournal,
    kept: &[&JournaledFolder],
    longest: Duration,
) -> Result<bool, RestoreError> {
    let mut is_clear = true;
    let mut left: Vec<JournaledFolder> =
        journal.folders.iter().filter(|folder| !kept.contains(folder)).cloned().collect();
    for worker in live_workers(store).await? {
        let (here, others) = of_worker(left, &worker);
        left = others;
        let outcome = order_folders(store, &worker, &journal.id, StagedOrder::Drop, &here, longest).await;
        is_clear &= outcome.unanswered.is_empty();
        for (folder, why) in outcome.misplaced.into_iter().chain(outcome.unanswered) {
            tracing::warn!("what stood in the place of `{}` is still beside it: {why}", folder.folder.key);
        }
    }
    Ok(is_clear && left.is_empty())
}

fn of_worker(
    folders: Vec<JournaledFolder>,
    worker: &AttachedProcess,
) -> (Vec<JournaledFolder>, Vec<JournaledFolder>) {
    folders.into_iter().partition(|folder| folder.worker.as_str() == worker.name)
}
