//! Sends what agents print to Redis while they print it, within bounds, never in anyone's way.
//!
//! The whole log is in `agent.log`; what is lost here is only shown later, from the file.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use maestro_model::ids::{Attempt, TaskId};
use maestro_store::Store;
use maestro_store::logs::LogStream as StoredStream;
use tokio::sync::{mpsc, watch};

use crate::log_capture::{LOG_CHUNKS_MAX, LogChunk, LogReceiver, OutputStream};

/// Bytes of one attempt's log kept in Redis while it runs.
const LIVE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes kept once it has ended: of one that failed or is traced, and of any other.
const KEPT_BYTES: (usize, usize) = (64 * 1024, 8 * 1024);
/// Pieces of one attempt's log kept in Redis while it runs; each costs more than its bytes.
const LIVE_PIECES_MAX: usize = 4096;
/// A piece that has so many bytes is not joined with the next.
const PIECE_BYTES: usize = 16 * 1024;
/// Pieces sent at one time.
const BATCH_MAX: usize = 64;
/// Ends that may wait.
const ENDS_MAX: usize = 1024;

/// An attempt that is over: its log is cut.
#[derive(Debug)]
pub struct LogEnd {
    /// The task.
    pub task: TaskId,
    /// Its attempt.
    pub attempt: Attempt,
    /// Whether more of it is kept: it failed, or its run is traced.
    pub keeps_more: bool,
}

/// The way to say that an attempt is over.
pub type LogEnds = mpsc::Sender<LogEnd>;

/// A queue for ends.
pub fn log_ends() -> (LogEnds, mpsc::Receiver<LogEnd>) {
    mpsc::channel(ENDS_MAX)
}

/// What of one attempt's log lies in Redis.
#[derive(Default)]
struct ShippedLog {
    pieces: VecDeque<(String, usize)>,
    bytes: usize,
    /// Bytes that did not reach Redis and have not been told of.
    lost_bytes: u64,
}

impl ShippedLog {
    fn add(&mut self, id: String, size: usize) {
        self.pieces.push_back((id, size));
        self.bytes += size;
    }

    /// Forgets the oldest pieces beyond `limit`; the first id that stays, if any had to go.
    fn cut(&mut self, limit: usize) -> Option<String> {
        let mut cut = false;
        while self.pieces.len() > 1 && (self.bytes > limit || self.pieces.len() > LIVE_PIECES_MAX) {
            let (_, size) = self.pieces.pop_front().expect("there are at least two");
            self.bytes -= size;
            cut = true;
        }
        if cut { self.pieces.front().map(|(id, _)| id.clone()) } else { None }
    }
}

/// Sends what comes until both queues are closed and empty.
pub async fn ship(store: watch::Receiver<Store>, chunks: LogReceiver, mut ends: mpsc::Receiver<LogEnd>) {
    let mut shipper = Shipper { store, chunks, logs: HashMap::new() };
    let mut batch: Vec<LogChunk> = Vec::new();
    let mut open = (true, true);
    while open.0 || open.1 {
        tokio::select! {
            count = shipper.chunks.recv_many(&mut batch, BATCH_MAX), if open.0 => {
                open.0 = count > 0;
                shipper.ship_batch(&mut batch).await;
            }
            end = ends.recv(), if open.1 => match end {
                Some(end) => shipper.finish(end).await,
                None => open.1 = false,
            },
        }
    }
}

struct Shipper {
    store: watch::Receiver<Store>,
    chunks: LogReceiver,
    logs: HashMap<(TaskId, Attempt), ShippedLog>,
}

impl Shipper {
    async fn ship_batch(&mut self, batch: &mut Vec<LogChunk>) {
        let mut by_attempt: HashMap<(TaskId, Attempt), Vec<LogChunk>> = HashMap::new();
        for chunk in batch.drain(..) {
            by_attempt.entry((chunk.task.clone(), chunk.attempt)).or_default().push(chunk);
        }
        for (key, chunks) in by_attempt {
            let store = self.store.borrow().clone();
            let log = self.logs.entry(key.clone()).or_default();
            let pieces = joined(chunks, std::mem::take(&mut log.lost_bytes));
            let words: Vec<(StoredStream, &[u8])> =
                pieces.iter().map(|(stream, bytes)| (*stream, bytes.as_slice())).collect();
            let keep_from = log.cut(LIVE_BYTES_MAX);
            match store.append_log(&key.0, key.1, &words, keep_from.as_deref()).await {
                Ok(ids) => {
                    for (id, (_, bytes)) in ids.into_iter().zip(&words) {
                        log.add(id, bytes.len());
                    }
                }
                Err(error) => {
                    log.lost_bytes += pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
                    tracing::debug!(task = %key.0, "a piece of log was not shipped: {error}");
                }
            }
        }
    }

    /// Cuts the log of an attempt that is over to what is kept. Its last pieces were queued before its end
    /// was, so they are among those that wait now.
    async fn finish(&mut self, end: LogEnd) {
        let mut batch = Vec::new();
        for _ in 0..LOG_CHUNKS_MAX {
            match self.chunks.try_recv() {
                Ok(chunk) => batch.push(chunk),
                Err(_) => break,
            }
        }
        self.ship_batch(&mut batch).await;
        let Some(mut log) = self.logs.remove(&(end.task.clone(), end.attempt)) else { return };
        let store = self.store.borrow().clone();
        let limit = if end.keeps_more { KEPT_BYTES.0 } else { KEPT_BYTES.1 };
        if let Some(first) = log.cut(limit)
            && let Err(error) = store.trim_log(&end.task, end.attempt, &first).await
        {
            tracing::debug!(task = %end.task, "a log was not cut: {error}");
        }
    }
}

/// Chunks as pieces to be stored: neighbours of one stream are one, for an agent that prints letter by
/// letter; what was left out is noted where it is missing.
fn joined(chunks: Vec<LogChunk>, lost_bytes: u64) -> Vec<(StoredStream, Vec<u8>)> {
    let note =
        |bytes: u64| (StoredStream::Note, format!("[{bytes} bytes are only in agent.log]\n").into_bytes());
    let mut pieces: Vec<(StoredStream, Vec<u8>)> = Vec::new();
    if lost_bytes > 0 {
        pieces.push(note(lost_bytes));
    }
    for chunk in chunks {
        if chunk.dropped_bytes > 0 {
            pieces.push(note(chunk.dropped_bytes));
        }
        if chunk.bytes.is_empty() {
            continue;
        }
        let stream = match chunk.stream {
            OutputStream::Stdout => StoredStream::Stdout,
            OutputStream::Stderr => StoredStream::Stderr,
        };
        match pieces.last_mut().filter(|(last, bytes)| *last == stream && bytes.len() < PIECE_BYTES) {
            Some((_, bytes)) => bytes.extend(chunk.bytes),
            None => pieces.push((stream, chunk.bytes)),
        }
    }
    pieces
}

/// How long a worker that ends waits for its last pieces to arrive.
pub const LAST_PIECES_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_pieces_go_first_and_the_last_one_stays() {
        let mut log = ShippedLog::default();
        for (id, size) in [("1", 40), ("2", 40), ("3", 40)] {
            log.add(id.to_owned(), size);
        }
        assert_eq!(log.cut(200), None);
        assert_eq!(log.cut(90).as_deref(), Some("2"));
        assert_eq!(log.cut(1).as_deref(), Some("3"));
        assert_eq!(log.bytes, 40);
    }

    #[test]
    fn the_number_of_pieces_is_bounded_too() {
        let mut log = ShippedLog::default();
        for id in 0..LIVE_PIECES_MAX + 5 {
            log.add(id.to_string(), 1);
        }
        assert_eq!(log.cut(LIVE_BYTES_MAX).as_deref(), Some("5"));
    }

    #[test]
    fn neighbours_of_one_stream_are_one_piece_and_gaps_are_noted() {
        let chunk = |stream, bytes: &[u8], dropped_bytes| {
            let (task, attempt) = crate::samples::key(1, 1);
            let at = std::time::SystemTime::UNIX_EPOCH;
            LogChunk { task, attempt, stream, at, bytes: bytes.to_vec(), dropped_bytes }
        };
        let chunks = vec![
            chunk(OutputStream::Stdout, b"a", 0),
            chunk(OutputStream::Stdout, b"b", 0),
            chunk(OutputStream::Stderr, b"c", 0),
            chunk(OutputStream::Stderr, b"d", 7),
            chunk(OutputStream::Stdout, b"", 9),
        ];
        let piece = |stream, text: &str| (stream, text.as_bytes().to_vec());
        let expected = [
            piece(StoredStream::Note, "[3 bytes are only in agent.log]\n"),
            piece(StoredStream::Stdout, "ab"),
            piece(StoredStream::Stderr, "c"),
            piece(StoredStream::Note, "[7 bytes are only in agent.log]\n"),
            piece(StoredStream::Stderr, "d"),
            piece(StoredStream::Note, "[9 bytes are only in agent.log]\n"),
        ];
        assert_eq!(joined(chunks, 3), expected);
    }
}
