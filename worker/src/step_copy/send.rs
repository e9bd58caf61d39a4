//! Sending a folder of this host to a worker that has asked for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use maestro_store::Store;
use maestro_store::relay::{RelayError, RelayId};
use tokio::sync::Semaphore;

use super::stream::{PieceWriter, pieces};
use crate::tree::{PackError, TreePacker};

/// Folders sent at one time; whoever asks for one more waits a little.
const SENT_AT_ONCE: usize = 4;

static SLOTS: Semaphore = Semaphore::const_new(SENT_AT_ONCE);

/// Sends a folder, in the background. What goes wrong is told to the other side, which asks again.
pub(crate) fn send_folder(store: Store, folder: PathBuf, transfer: RelayId) {
    tokio::spawn(async move {
        let folder: Arc<Path> = folder.into();
        let _slot = SLOTS.acquire().await;
        match send(&store, folder.clone(), &transfer).await {
            Ok(bytes) => tracing::debug!(folder = %folder.display(), bytes, "sent a folder"),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), "a folder was not sent: {error}");
            }
        }
    });
}

async fn send(store: &Store, folder: Arc<Path>, transfer: &RelayId) -> Result<u64, RelayError> {
    let mut sender = store.relay_sender(transfer).await?;
    let (writer, mut packed) = pieces();
    let packing = tokio::task::spawn_blocking(move || pack(&folder, PieceWriter::new(writer)));
    let mut bytes = 0;
    while let Some(piece) = packed.recv().await {
        sender.send(&piece).await?;
        bytes += piece.len() as u64;
    }
    match packing.await {
        Ok(Ok(())) => sender.finish().await.map(|()| bytes),
        Ok(Err(error)) => {
            let why = crate::causes::with_sources(&error);
            sender.give_up(&why).await;
            Err(RelayError::GivenUp { why })
        }
        Err(error) => {
            sender.give_up("the worker broke down over it").await;
            Err(RelayError::GivenUp { why: error.to_string() })
        }
    }
}

fn pack(folder: &Path, writer: PieceWriter) -> Result<(), PackError> {
    let mut packer = TreePacker::new(writer);
    packer.add(folder, Path::new(""))?;
    let (mut writer, summary) = packer.finish()?;
    for note in &summary.notes {
        tracing::warn!(path = %note.path.display(), trouble = ?note.trouble, "not as it was in the copy of a folder");
    }
    std::io::Write::flush(&mut writer).map_err(PackError::Output)
}
