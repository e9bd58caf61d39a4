//! From tar entries to gzip members, compressed on several cores and handed on in their order.
//!
//! A member ends where an entry does, once it is large enough, and inside a large file as well: so one file keeps
//! several cores busy too. Members simply follow one another; all of a workspace's together are whole entries, without
//! the blocks that end an archive.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bytes of entries in one member, beyond which it ends with the entry.
const MEMBER_BYTES: usize = 512 << 10;
/// Bytes in one member, beyond which it ends wherever it is.
const MEMBER_BYTES_MAX: usize = 1 << 20;
/// How hard it is tried: beyond it an archive gets hardly smaller and takes twice as long.
const LEVEL: u32 = 6;

/// Something on its way to whoever sends, in order.
pub(super) enum PackedPiece {
    /// A frame as it is.
    Frame(Vec<u8>),
    /// A member that is still being compressed.
    Member(JoinHandle<io::Result<Vec<u8>>>),
}

/// Takes entries and hands on members. Clones are the same one.
#[derive(Clone)]
pub(super) struct MemberCutter {
    shared: Arc<Mutex<CutterState>>,
}

struct CutterState {
    runtime: Handle,
    pieces: mpsc::Sender<PackedPiece>,
    block: Vec<u8>,
    /// Whether what is written now is of an archive's end, and not wanted.
    closed: bool,
}

impl MemberCutter {
    /// Hands on to `pieces`, whose room decides how many members are made at one time. Must be made within a runtime.
    pub(super) fn new(pieces: mpsc::Sender<PackedPiece>) -> MemberCutter {
        let state = CutterState {
            runtime: Handle::current(),
            pieces,
            block: Vec::with_capacity(MEMBER_BYTES_MAX),
            closed: false,
        };
        MemberCutter { shared: Arc::new(Mutex::new(state)) }
    }

    /// An entry has been written to its end.
    pub(super) fn on_entry_end(&self) -> io::Result<()> {
        let mut state = self.lock();
        if state.block.len() >= MEMBER_BYTES { state.cut() } else { Ok(()) }
    }

    /// All entries of a workspace have been written; what comes before `open` is dropped.
    pub(super) fn close(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.cut()?;
        state.closed = true;
        Ok(())
    }

    /// The entries of another workspace follow.
    pub(super) fn open(&self) {
        self.lock().closed = false;
    }

    /// Sends a frame behind what came before it.
    pub(super) fn send_frame(&self, frame: Vec<u8>) -> io::Result<()> {
        self.lock().hand_on(PackedPiece::Frame(frame))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CutterState> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CutterState {
    fn cut(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(MEMBER_BYTES_MAX));
        let member = self.runtime.spawn_blocking(move || compress(&block));
        self.hand_on(PackedPiece::Member(member))
    }

    fn hand_on(&self, piece: PackedPiece) -> io::Result<()> {
        self.pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for MemberCutter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        if state.closed {
            return Ok(bytes.len());
        }
        let taken = bytes.len().min(MEMBER_BYTES_MAX - state.block.len());
        state.block.extend_from_slice(&bytes[..taken]);
        if state.block.len() == MEMBER_BYTES_MAX {
            state.cut()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn compress(block: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(block.len() / 2), Compression::new(LEVEL));
    encoder.write_all(block)?;
    encoder.finish()
}
