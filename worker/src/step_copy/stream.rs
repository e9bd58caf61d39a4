//! Between a thread that packs or unpacks and the task that sends or receives: a few pieces, no more.

use std::io::{self, Read, Write};

use maestro_store::relay::FRAME_BYTES_MAX;
use tokio::sync::mpsc;

/// Pieces that wait between thread and task.
const PIECES_BETWEEN: usize = 4;

/// A way for pieces of bytes.
pub(crate) fn pieces() -> (mpsc::Sender<Vec<u8>>, mpsc::Receiver<Vec<u8>>) {
    mpsc::channel(PIECES_BETWEEN)
}

/// Writing into it: whole frames, the last one as long as it is.
pub(super) struct PieceWriter {
    sender: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
}

impl PieceWriter {
    pub(super) fn new(sender: mpsc::Sender<Vec<u8>>) -> PieceWriter {
        PieceWriter { sender, piece: Vec::with_capacity(FRAME_BYTES_MAX) }
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = FRAME_BYTES_MAX - self.piece.len();
        let taken = room.min(bytes.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == FRAME_BYTES_MAX {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(FRAME_BYTES_MAX));
        self.sender.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// Reading from it. Without a further piece it is the end: whoever reads must know whether that is too soon.
pub(crate) struct PieceReader {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: io::Cursor<Vec<u8>>,
}

impl PieceReader {
    pub(crate) fn new(pieces: mpsc::Receiver<Vec<u8>>) -> PieceReader {
        PieceReader { pieces, piece: io::Cursor::default() }
    }
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = io::Cursor::new(piece),
                None => return Ok(0),
            }
        }
    }
}
