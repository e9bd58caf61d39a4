//! What one worker sends of its workspaces, into a file beside the archive.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use maestro_model::ids::WorkerName;
use maestro_model::mailbox::{WorkerAnswer, WorkerQuestion};
use maestro_model::pack_frames::{PackFrame, PackFrameReader, PackedAll, PackedHead};
use maestro_model::snapshot::{ArchivedWorkspace, MemberRange};
use maestro_store::Store;
use maestro_store::mailbox::Hearing;
use maestro_store::relay::{RelayError, RelayId, RelayReceiver};
use maestro_store::worker::AttachedProcess;

use super::error::SnapshotError;
use super::writing::ManifestLines;

/// How long a worker may take to say that it begins.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// All that a worker has sent.
pub(super) struct ReceivedFolders {
    /// Its gzip members.
    pub(super) members: PathBuf,
    /// Its workspaces, their members counted from the beginning of that file.
    pub(super) workspaces: Vec<ArchivedWorkspace>,
    /// Their entries.
    pub(super) entries: ManifestLines,
    /// Folders that it could not read.
    pub(super) all: PackedAll,
}

/// Why a worker's folders are missing, or why nothing comes of the whole.
pub(super) enum ReceiveFailure {
    /// Only of this worker.
    Missing(String),
    /// Of all.
    Snapshot(SnapshotError),
}

impl From<SnapshotError> for ReceiveFailure {
    fn from(error: SnapshotError) -> ReceiveFailure {
        ReceiveFailure::Snapshot(error)
    }
}

/// Asks one worker and takes all it sends.
pub(super) async fn receive_folders(
    store: Store,
    worker: AttachedProcess,
    peers: Vec<WorkerName>,
    include_logs: bool,
    stem: PathBuf,
    on_bytes: impl Fn(u64),
) -> Result<ReceivedFolders, ReceiveFailure> {
    let transfer = RelayId::random();
    let missing = |why: &str| ReceiveFailure::Missing(why.to_owned());
    let broken = |error: maestro_store::StoreError| ReceiveFailure::Snapshot(error.into());
    // Before anybody sends: what is published to nobody is gone.
    let receiver = store.relay_receiver(&transfer).await.map_err(broken)?;
    let question =
        WorkerQuestion::PackWorkspaces { transfer: transfer.as_str().to_owned(), peers, include_logs };
    match store.ask_worker(&worker.incarnation, &question, ANSWER_WAIT).await.map_err(broken)? {
        Hearing::Answered(WorkerAnswer::Sending) => {}
        Hearing::Answered(WorkerAnswer::NotStill) => return Err(missing("its agents do not stand still")),
        Hearing::Answered(WorkerAnswer::NotUnderstood) => return Err(missing("it is of an older version")),
        Hearing::Answered(answer) => return Err(missing(&format!("it answered {answer:?}"))),
        Hearing::Silent => return Err(missing("it does not answer")),
        Hearing::Gone => return Err(missing("it is gone")),
        Hearing::Full => return Err(missing("too many questions wait for it")),
    }
    let folders = FolderSpool::begin(&stem)?;
    folders.fill(receiver, on_bytes).await
}

/// What comes, on its way to disk.
struct FolderSpool {
    path: PathBuf,
    members: BufWriter<File>,
    written: u64,
    entries: ManifestLines,
    workspaces: Vec<ArchivedWorkspace>,
    /// The workspace that is being received, and where its members begin.
    open: Option<(PackedHead, u64)>,
    all: Option<PackedAll>,
}

impl FolderSpool {
    fn begin(stem: &Path) -> Result<FolderSpool, SnapshotError> {
        let path = stem.with_extension("members");
        let file = File::create(&path).map_err(SnapshotError::disk(&path))?;
        Ok(FolderSpool {
            members: BufWriter::new(file),
            written: 0,
            entries: ManifestLines::begin(stem.with_extension("entries"))?,
            workspaces: Vec::new(),
            open: None,
            all: None,
            path,
        })
    }

    async fn fill(
        mut self,
        mut receiver: RelayReceiver,
        on_bytes: impl Fn(u64),
    ) -> Result<ReceivedFolders, ReceiveFailure> {
        let mut frames = PackFrameReader::default();
        loop {
            let piece = match receiver.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(RelayError::Store(error)) => return Err(ReceiveFailure::Snapshot(error.into())),
                Err(error) => return Err(ReceiveFailure::Missing(error.to_string())),
            };
            frames.push(&piece);
            on_bytes(piece.len() as u64);
            let taken = self.take_frames(&mut frames);
            if let Err(failure) = taken {
                receiver.give_up("it cannot be used").await;
                return Err(failure);
            }
        }
        self.members.flush().map_err(SnapshotError::disk(&self.path))?;
        let all = self.all.filter(|all| all.still);
        let all = all.ok_or_else(|| ReceiveFailure::Missing("its agents went on too soon".to_owned()))?;
        let FolderSpool { path: members, workspaces, entries, .. } = self;
        Ok(ReceivedFolders { members, workspaces, entries, all })
    }

    fn take_frames(&mut self, frames: &mut PackFrameReader) -> Result<(), ReceiveFailure> {
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => self.take(frame)?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(ReceiveFailure::Missing(error.to_string())),
            }
        }
    }

    fn take(&mut self, frame: PackFrame) -> Result<(), ReceiveFailure> {
        match frame {
            PackFrame::Workspace { head } => self.open = Some((head, self.written)),
            PackFrame::Members(bytes) => {
                self.members.write_all(&bytes).map_err(SnapshotError::disk(&self.path))?;
                self.written += bytes.len() as u64;
            }
            PackFrame::Entries(files) => {
                for file in &files {
                    self.entries.add(file)?;
                }
            }
            PackFrame::WorkspaceEnd(end) => {
                let Some((head, offset)) = self.open.take() else {
                    return Err(ReceiveFailure::Missing("it ended what it had not begun".to_owned()));
                };
                self.workspaces.push(ArchivedWorkspace {
                    key: head.key,
                    role: head.role,
                    entries: end.entries,
                    bytes: end.bytes,
                    members: MemberRange { offset, length: self.written - offset },
                    notes: end.notes,
                });
            }
            PackFrame::End(all) => self.all = Some(all),
        }
        Ok(())
    }
}
