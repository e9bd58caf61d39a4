//! All workspaces as frames, through the relay to whoever asked.

use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use maestro_model::pack_frames::{
    FRAME_PAYLOAD_MAX, PackFrame, PackedAll, PackedEnd, PackedHead, UnreadFolder,
};
use maestro_model::snapshot::{ArchivedFile, ArchivedKind, ArchivedNote, EntryPath, FileDigest};
use maestro_store::Store;
use maestro_store::failpoint;
use maestro_store::relay::{RelayError, RelayId};
use tokio::sync::{Semaphore, mpsc};

use super::choice::{PackChoice, PackItem};
use super::members::{MemberCutter, PackedPiece};
use crate::causes::with_sources;
use crate::standstill::StillPeriod;
use crate::tree::{PackError, PackNote, PackTrouble, PackedEntry, PackedKind, TreePacker};

/// Cores that compress at one time, at most.
const CORES_MAX: usize = 8;
/// Entries in one frame, and bytes of their names: a byte may take three in a frame.
const ENTRIES_PER_FRAME: (usize, usize) = (500, 1 << 20);
const _: () = assert!(ENTRIES_PER_FRAME.1 * 4 <= FRAME_PAYLOAD_MAX, "a frame has room for the longest names");
/// One snapshot is packed at one time; another waits.
static SLOT: Semaphore = Semaphore::const_new(1);

/// Sends all that was chosen, in the background. What goes wrong is told to the other side.
pub(crate) fn send_workspaces(store: Store, choice: PackChoice, still: StillPeriod, transfer: RelayId) {
    tokio::spawn(async move {
        let _slot = SLOT.acquire().await;
        match send(&store, choice, still, &transfer).await {
            Ok(bytes) => tracing::info!(bytes, "workspaces were sent for a snapshot"),
            Err(error) => tracing::warn!("workspaces were not sent for a snapshot: {error}"),
        }
    });
}

async fn send(
    store: &Store,
    choice: PackChoice,
    still: StillPeriod,
    transfer: &RelayId,
) -> Result<u64, RelayError> {
    let mut sender = store.relay_sender(transfer).await?;
    let cores = available_parallelism().map_or(1, usize::from).min(CORES_MAX);
    // One that is being sent, and one for each core.
    let (pieces, mut packed) = mpsc::channel(cores + 1);
    let cutter = MemberCutter::new(pieces);
    let packing = tokio::task::spawn_blocking(move || pack_all(&choice, &cutter, &still));
    let mut bytes = 0;
    while let Some(piece) = packed.recv().await {
        let frame = match piece {
            PackedPiece::Frame(frame) => frame,
            PackedPiece::Member(member) => match member.await {
                Ok(Ok(member)) => PackFrame::Members(member).encode(),
                Ok(Err(error)) => return give_up(sender, with_sources(&error)).await,
                Err(error) => return give_up(sender, error.to_string()).await,
            },
        };
        bytes += frame.len() as u64;
        sender.send(&frame).await?;
    }
    match packing.await {
        Ok(Ok(())) => sender.finish().await.map(|()| bytes),
        Ok(Err(error)) => give_up(sender, with_sources(&error)).await,
        Err(error) => give_up(sender, error.to_string()).await,
    }
}

async fn give_up(sender: maestro_store::relay::RelaySender, why: String) -> Result<u64, RelayError> {
    sender.give_up(&why).await;
    Err(RelayError::GivenUp { why })
}

/// On a thread that may wait for the disk, and for whoever receives.
fn pack_all(choice: &PackChoice, cutter: &MemberCutter, still: &StillPeriod) -> io::Result<()> {
    let mut all = PackedAll::default();
    for item in choice.items() {
        if let Some(unread) = pack_one(&item, cutter)? {
            all.unread.push(unread);
        }
    }
    all.still = still.lasts();
    cutter.send_frame(PackFrame::End(all).encode())
}

/// Packs one workspace; what says why, if its folder cannot be read at all.
fn pack_one(item: &PackItem, cutter: &MemberCutter) -> io::Result<Option<UnreadFolder>> {
    let unread = |why: String| Ok(Some(UnreadFolder { path: item.folder.display().to_string(), why }));
    // An assigned folder may be named by a link.
    let folder = match std::fs::canonicalize(&item.folder) {
        Ok(folder) => folder,
        Err(error) => return unread(error.to_string()),
    };
    if let Err(error) = std::fs::read_dir(&folder) {
        return unread(error.to_string());
    }
    let head = PackedHead { key: item.key.clone(), role: item.role.clone() };
    cutter.send_frame(PackFrame::Workspace { head }.encode())?;
    failpoint::reach("worker-packing");
    cutter.open();
    let list = EntryList::new(cutter.clone());
    let listener = list.clone();
    let mut packer = TreePacker::new(cutter.clone()).telling(Box::new(move |entry| listener.add(entry)));
    let name = item.key.entry();
    let name = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let added = packer.add(&folder, name);
    cutter.close()?;
    match added {
        Ok(()) => {}
        Err(PackError::Output(error)) => return Err(error),
        // It was there a moment ago: of what came out of it nothing can be taken back.
        Err(error @ PackError::Root { .. }) => return Err(io::Error::other(error.to_string())),
    }
    let summary = packer.finish().map_err(io::Error::other)?.1;
    let mut end = list.end()?;
    end.notes = summary.notes.iter().filter_map(note_of).collect();
    cutter.send_frame(PackFrame::WorkspaceEnd(end).encode())?;
    Ok(None)
}

/// Entries of a workspace on their way, a frame at a time.
#[derive(Clone)]
struct EntryList {
    shared: Arc<Mutex<ListState>>,
}

struct ListState {
    cutter: MemberCutter,
    waiting: Vec<ArchivedFile>,
    waiting_bytes: usize,
    end: PackedEnd,
    /// What went wrong where nobody could be told.
    failure: Option<io::Error>,
}

impl EntryList {
    fn new(cutter: MemberCutter) -> EntryList {
        let state = ListState {
            cutter,
            waiting: Vec::new(),
            waiting_bytes: 0,
            end: PackedEnd::default(),
            failure: None,
        };
        EntryList { shared: Arc::new(Mutex::new(state)) }
    }

    fn add(&self, entry: PackedEntry) {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let added = archived(entry).and_then(|file| state.add(file));
        if let Err(error) = added {
            state.failure.get_or_insert(error);
        }
    }

    fn end(&self) -> io::Result<PackedEnd> {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.failure.take() {
            return Err(error);
        }
        state.send_waiting()?;
        Ok(mem::take(&mut state.end))
    }
}

impl ListState {
    fn add(&mut self, file: ArchivedFile) -> io::Result<()> {
        self.end.entries += 1;
        if let ArchivedKind::File { size, .. } = file.kind {
            self.end.bytes += size;
        }
        self.waiting_bytes += name_bytes(&file);
        self.waiting.push(file);
        if self.waiting.len() >= ENTRIES_PER_FRAME.0 || self.waiting_bytes >= ENTRIES_PER_FRAME.1 {
            self.send_waiting()?;
        }
        self.cutter.on_entry_end()
    }

    fn send_waiting(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.waiting_bytes = 0;
        self.cutter.send_frame(PackFrame::Entries(mem::take(&mut self.waiting)).encode())
    }
}

fn name_bytes(file: &ArchivedFile) -> usize {
    let target = match &file.kind {
        ArchivedKind::HardLink { target } => target.as_bytes().len(),
        ArchivedKind::Symlink { target } => target.len(),
        ArchivedKind::Folder | ArchivedKind::File { .. } => 0,
    };
    file.path.as_bytes().len() + target
}

/// An entry in the words of the manifest.
fn archived(entry: PackedEntry) -> io::Result<ArchivedFile> {
    let lawful = |path: &Path| EntryPath::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let kind = match entry.kind {
        PackedKind::Folder => ArchivedKind::Folder,
        PackedKind::File { size, sha256 } => ArchivedKind::File { size, sha256: FileDigest(sha256) },
        PackedKind::HardLink { target } => ArchivedKind::HardLink { target: lawful(&target)? },
        PackedKind::Symlink { target } => ArchivedKind::symlink(&target),
    };
    Ok(ArchivedFile { path: lawful(&entry.path)?, mode: entry.mode, kind })
}

fn note_of(note: &PackNote) -> Option<ArchivedNote> {
    let trouble = match note.trouble {
        PackTrouble::Vanished => "vanished",
        PackTrouble::Changed => "changed",
        PackTrouble::Special => "special",
        PackTrouble::Unreadable => "unreadable",
        PackTrouble::TooDeep => "too_deep",
    };
    let path = EntryPath::new(note.path.as_os_str().as_bytes()).ok()?;
    Some(ArchivedNote { path, trouble: trouble.to_owned() })
}
