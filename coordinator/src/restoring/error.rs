//! Why a restore did not take place, or is not over yet.

use maestro_store::StoreError;
use maestro_store::restoring::LoadRefusal;

use super::plan::PlannedFolder;
use crate::archive::ArchiveReadError;
use crate::snapshot::SnapshotError;

/// Why a restore did not take place. All but `Unfinished` leave the cluster as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Agents work: they would be ended.
    #[error("{count} agents are active, such as that of task `{first}`")]
    Active {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
    /// Some folders have no place.
    #[error("{} workspaces cannot be placed", folders.len())]
    Unplaced {
        /// Which, and why.
        folders: Vec<PlannedFolder>,
    },
    /// Links lead out of their workspaces, and the archive is another cluster's.
    #[error("{count} symbolic links lead out of their workspaces, such as `{first}`")]
    LinksOut {
        /// How many.
        count: u64,
        /// The first.
        first: String,
    },
    /// Another restore is being carried out.
    #[error("another restore is being carried out, asked for by {by}")]
    AnotherOne {
        /// Who asked for it.
        by: String,
    },
    /// This Redis cannot take it.
    #[error(transparent)]
    Load(#[from] LoadRefusal),
    /// The cluster could not be held still.
    #[error(transparent)]
    Hold(#[from] SnapshotError),
    /// The archive cannot be read any more.
    #[error(transparent)]
    Archive(#[from] ArchiveReadError),
    /// Redis refused, or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It has taken place, and something is left to be done: run it again.
    #[error("the snapshot is in force, and not everything is in its place yet: {why}")]
    Unfinished {
        /// What.
        why: String,
    },
    /// A part of this program broke down.
    #[error("the restore broke down: {why}")]
    BrokeDown {
        /// How.
        why: String,
    },
}
