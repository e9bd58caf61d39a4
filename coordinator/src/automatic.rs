//! Snapshots that nobody asks for: one each `snapshot_interval`, taken by the coordinator that leads.
//!
//! When the last one was taken is read from the folder, so a coordinator that is started again, or another one that
//! shares the folder, goes on where the last one was. Snapshots that somebody asked for count as well. While a cluster
//! is stopped there are none: nothing changes, and the last one before is the one that is looked for.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use maestro_store::Store;
use maestro_store::watching::SnapshotNote;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::agent_conditions::failed_agents;
use crate::snapshot::{
    SnapshotError, SnapshotFile, SnapshotFolder, SnapshotProgress, SnapshotRequest, TakenSnapshot, stamp,
    take_snapshot,
};

/// Longest and shortest time between two looks whether one is due; the interval decides between them.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How long one may hold the cluster still.
const STILL_MAX: Duration = Duration::from_secs(600);
/// The label that tells it from what somebody asked for.
const LABEL: &str = "automatic";

/// When snapshots are taken, and where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutomaticSettings {
    /// Between two; nothing = none are taken.
    pub interval: Duration,
    /// Where they go.
    pub folder: PathBuf,
    /// How long they stay.
    pub retention: Duration,
}

/// The duty. Dropped, a snapshot that is being taken is taken to its end.
#[derive(Debug)]
pub(crate) struct AutomaticSnapshots {
    settings: AutomaticSettings,
    next_look: Instant,
    taking: Option<JoinHandle<()>>,
}

impl AutomaticSnapshots {
    pub(crate) fn new(settings: AutomaticSettings) -> AutomaticSnapshots {
        AutomaticSnapshots { settings, next_look: Instant::now(), taking: None }
    }

    /// Looks whether one is due, and begins to take it. Beats and sweeps go on meanwhile.
    pub(crate) async fn tick(&mut self, store: &Store) {
        let is_taking = self.taking.as_ref().is_some_and(|taking| !taking.is_finished());
        if self.settings.interval.is_zero() || is_taking || Instant::now() < self.next_look {
            return;
        }
        self.next_look = Instant::now() + self.settings.interval.clamp(LOOK_EVERY.0, LOOK_EVERY.1);
        match due_in(store, &self.settings).await {
            Ok(Some(wait)) if wait.is_zero() => {
                let (store, settings) = (store.clone(), self.settings.clone());
                self.taking = Some(tokio::spawn(async move {
                    match take(&store, &settings).await {
                        Ok(taken) => tell(&taken),
                        Err(error) => tracing::warn!("no automatic snapshot: {error}"),
                    }
                }));
            }
            // Heads of archives are not read again before that.
            Ok(Some(wait)) => self.next_look = self.next_look.max(Instant::now() + wait),
            Ok(None) => {}
            Err(error) => tracing::warn!("cannot see whether a snapshot is due: {error}"),
        }
    }
}

/// When the next one is due; none while none is to be taken.
async fn due_in(store: &Store, settings: &AutomaticSettings) -> Result<Option<Duration>, SnapshotError> {
    if !matches!(store.mode().await?.word.as_str(), "run" | "paused" | "drain") {
        return Ok(None);
    }
    let (path, cluster) = (settings.folder.clone(), store.cluster_id().to_owned());
    let listed = tokio::task::spawn_blocking(move || last_of(&path, &cluster)).await;
    let last =
        listed.map_err(|error| SnapshotError::disk(&settings.folder)(std::io::Error::other(error)))??;
    // One that lies in the future, by a clock that was set back, is as good as none.
    let age = last.and_then(|last| SystemTime::now().duration_since(last).ok());
    Ok(Some(age.map_or(Duration::ZERO, |age| settings.interval.saturating_sub(age))))
}

/// When the newest snapshot of a cluster was written, safety copies left out.
fn last_of(path: &Path, cluster: &str) -> Result<Option<SystemTime>, SnapshotError> {
    let folder = SnapshotFolder::open(path)?;
    let is_of_cluster = |file: &SnapshotFile| {
        let head = file.head.as_ref().filter(|head| head.cluster == cluster);
        head.is_some() && file.path.parent() == Some(folder.path())
    };
    Ok(folder.list()?.into_iter().filter(is_of_cluster).map(|file| file.written).max())
}

async fn take(store: &Store, settings: &AutomaticSettings) -> Result<TakenSnapshot, SnapshotError> {
    take_labelled(store, settings, LABEL, "the coordinator, as snapshot_interval says").await
}

/// Takes one into the folder, lets `latest` lead to it if it is a good one, and removes what is too old.
pub(crate) async fn take_labelled(
    store: &Store,
    settings: &AutomaticSettings,
    label: &str,
    by: &str,
) -> Result<TakenSnapshot, SnapshotError> {
    let folder = SnapshotFolder::open(&settings.folder)?;
    let request = SnapshotRequest {
        output: folder.named(&stamp(store.server_time_ms().await?)),
        label: Some(label.to_owned()),
        include_logs: false,
        by: by.to_owned(),
        deadline: STILL_MAX,
        failed_agents: failed_agents(store).await?,
    };
    let taken = take_snapshot(store, &request, &watch::Sender::new(SnapshotProgress::default())).await?;
    folder.make_latest(&taken.path, taken.is_good())?;
    if taken.is_good() {
        let note = SnapshotNote { taken_at_ms: taken.manifest.taken_at_ms, bytes: taken.bytes };
        if let Err(error) = store.note_snapshot(note).await {
            tracing::warn!("the age of the snapshot is not told to those who watch: {error}");
        }
    }
    for removed in folder.remove_old(settings.retention)? {
        tracing::info!(path = %removed.display(), "removed a snapshot that was older than the retention time");
    }
    Ok(taken)
}

fn tell(taken: &TakenSnapshot) {
    let path = taken.path.display();
    if taken.is_good() {
        tracing::info!(%path, bytes = taken.bytes, "took a snapshot");
    } else {
        tracing::warn!(%path, "took a snapshot that is not `latest`: something is missing, or an agent was failed");
    }
}
