//! Taking a snapshot: all of the cluster at one instant, in one archive.
//!
//! - `barrier`: holding the cluster still, and noticing when it was not
//! - `keys`: its keys as an RDB file and an index, through files beside the archive
//! - `rdb`: the framing of that file
//! - `receiving`: what workers send of their workspaces
//! - `writing`: the archive from front to back
//! - `take`: all of it in order
//! - `folder`: names, `latest`, what is kept how long
//!
//! Reading an archive is the business of `archive`. Nothing here packs a folder: workers do.

mod barrier;
mod error;
mod folder;
mod keys;
mod rdb;
mod receiving;
mod take;
mod writing;

pub(crate) use barrier::HeldCluster;
pub use error::SnapshotError;
pub use folder::{SnapshotFile, SnapshotFolder, stamp};
pub use take::{SnapshotProgress, SnapshotRequest, SnapshotStage, TakenSnapshot, take_snapshot};
