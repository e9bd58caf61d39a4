//! Receiving a workspace as the gzip members that the archive has of it, and unpacking it beside its place.
//!
//! What was made is compared with the archive by one digest of all entries: whoever sends has verified the archive,
//! and nothing on the way is trusted.

use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use maestro_model::snapshot::{FileDigest, TreeDigest, WorkspaceKey};
use maestro_store::failpoint;
use maestro_store::relay::RelayReceiver;

use super::holder::Holder;
use crate::causes::with_sources;
use crate::step_copy::{PieceReader, pieces};
use crate::tree::{UnpackError, UnpackLimits, unpack_archived};

/// Bytes read at one time before they are unpacked.
const BUFFER_BYTES: usize = 128 << 10;

/// What is to come.
#[derive(Debug, Clone)]
pub(crate) struct StagingOrder {
    /// Its name in the archive.
    pub(crate) key: WorkspaceKey,
    /// Entries and bytes: no more is taken.
    pub(crate) limits: UnpackLimits,
    /// What its entries come to.
    pub(crate) tree: FileDigest,
}

/// Why nothing was staged.
#[derive(Debug, thiserror::Error)]
enum StagingError {
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error("what came is not what the archive has")]
    Different,
    #[error("there is room for {free} bytes, and it needs {needed}")]
    NoRoom { free: u64, needed: u64 },
    #[error("cannot prepare the folder beside its place: {0}")]
    Holder(#[source] std::io::Error),
}

/// Receives and unpacks, in the background. How it ended stands in the holder.
pub(crate) fn receive_staged(mut receiver: RelayReceiver, holder: Holder, order: StagingOrder) {
    tokio::spawn(async move {
        let (sender, packed) = pieces();
        let unpacking = {
            let holder = holder.clone();
            tokio::task::spawn_blocking(move || stage(PieceReader::new(packed), &holder, &order))
        };
        let outcome = loop {
            match receiver.next().await {
                Ok(Some(piece)) => {
                    if sender.send(piece).await.is_err() {
                        receiver.give_up("it cannot be unpacked").await;
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.to_string()),
            }
        };
        drop(sender);
        let staged = match (unpacking.await, outcome) {
            (Ok(Ok(())), Ok(())) => holder.seal().map_err(|error| error.to_string()),
            (Ok(Err(error)), Ok(())) => Err(with_sources(&error)),
            (Err(error), Ok(())) => Err(error.to_string()),
            (_, Err(why)) => Err(why),
        };
        if let Err(why) = staged {
            tracing::warn!(place = %holder.place.display(), "a workspace of a snapshot was not staged: {why}");
            holder.fail(&why);
        }
    });
}

fn stage(packed: PieceReader, holder: &Holder, order: &StagingOrder) -> Result<(), StagingError> {
    let part = holder.begin().map_err(StagingError::Holder)?;
    check_room(&part, order.limits.bytes)?;
    let buffered = std::io::BufReader::with_capacity(BUFFER_BYTES, packed);
    let mut tree = TreeDigest::default();
    let entry = order.key.entry();
    unpack_archived(MultiGzDecoder::new(buffered), &entry, &part, order.limits, &mut |file| tree.add(&file))?;
    failpoint::reach("worker-unpacked");
    if tree.finish() == order.tree { Ok(()) } else { Err(StagingError::Different) }
}

fn check_room(part: &Path, needed: u64) -> Result<(), StagingError> {
    let room = rustix::fs::statvfs(part).map_err(|error| StagingError::Holder(error.into()))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if needed > free { Err(StagingError::NoRoom { free, needed }) } else { Ok(()) }
}
