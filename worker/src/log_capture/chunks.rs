//! Output as it is streamed: pieces of bounded size in a bounded queue.

use std::time::SystemTime;

use maestro_model::ids::{Attempt, TaskId};
use tokio::sync::mpsc;

/// Largest piece, bytes.
pub const LOG_CHUNK_BYTES_MAX: usize = 16 * 1024;
/// Pieces that wait for their reader; with pieces of the largest size, 4 MiB.
pub const LOG_CHUNKS_MAX: usize = 256;

/// Where pieces are put. One for all attempts of a worker, or one for each, as the reader likes.
pub type LogSender = mpsc::Sender<LogChunk>;
/// Where pieces come out.
pub type LogReceiver = mpsc::Receiver<LogChunk>;

/// A queue of the usual length.
pub fn log_channel() -> (LogSender, LogReceiver) {
    mpsc::channel(LOG_CHUNKS_MAX)
}

/// Which of its two outputs the agent used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputStream {
    /// Both, in the order of their descriptors.
    pub const ALL: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

    /// The word users read and write.
    pub fn word(self) -> &'static str {
        match self {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
        }
    }
}

/// A piece of output. Pieces are cut anywhere, in the middle of a line or of a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Whose output it is.
    pub task: TaskId,
    /// Of which attempt.
    pub attempt: Attempt,
    /// Where the agent wrote it.
    pub stream: OutputStream,
    /// When it was read.
    pub at: SystemTime,
    /// At most [`LOG_CHUNK_BYTES_MAX`]; empty only in a last piece that brings `dropped_bytes` alone.
    pub bytes: Vec<u8>,
    /// Bytes of this attempt, of either stream, that were left out just before, because the queue was full.
    pub dropped_bytes: u64,
}

/// One attempt's way into the queue.
pub(super) struct LogFeed {
    sender: Option<LogSender>,
    task: TaskId,
    attempt: Attempt,
    pending_dropped: u64,
    dropped: u64,
}

impl LogFeed {
    pub(super) fn new(sender: Option<LogSender>, task: TaskId, attempt: Attempt) -> LogFeed {
        LogFeed { sender, task, attempt, pending_dropped: 0, dropped: 0 }
    }

    /// Offers bytes in pieces, without waiting and without copying what finds no room.
    pub(super) fn offer(&mut self, stream: OutputStream, bytes: &[u8]) {
        let Some(sender) = &self.sender else { return };
        let at = SystemTime::now();
        for piece in bytes.chunks(LOG_CHUNK_BYTES_MAX) {
            let Ok(place) = sender.try_reserve() else {
                self.pending_dropped += piece.len() as u64;
                self.dropped += piece.len() as u64;
                continue;
            };
            place.send(LogChunk {
                task: self.task.clone(),
                attempt: self.attempt,
                stream,
                at,
                bytes: piece.to_vec(),
                dropped_bytes: std::mem::take(&mut self.pending_dropped),
            });
        }
    }

    /// Tells the reader of what was left out last, if there is room even for that. Returns all that was.
    pub(super) fn finish(&mut self) -> u64 {
        if self.pending_dropped > 0
            && let Some(Ok(place)) = self.sender.as_ref().map(LogSender::try_reserve)
        {
            place.send(LogChunk {
                task: self.task.clone(),
                attempt: self.attempt,
                stream: OutputStream::Stdout,
                at: SystemTime::now(),
                bytes: Vec::new(),
                dropped_bytes: std::mem::take(&mut self.pending_dropped),
            });
        }
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_loses_pieces_and_is_told_how_many_bytes() {
        let (sender, mut receiver) = mpsc::channel(2);
        let task: TaskId = "0k3v9x2mqf1a.7".parse().expect("a lawful id");
        let mut feed = LogFeed::new(Some(sender), task, Attempt(1));
        feed.offer(OutputStream::Stdout, &vec![1; 3 * LOG_CHUNK_BYTES_MAX + 5]);
        assert_eq!(receiver.try_recv().expect("the first").bytes.len(), LOG_CHUNK_BYTES_MAX);
        assert_eq!(receiver.try_recv().expect("the second").dropped_bytes, 0);
        assert!(receiver.try_recv().is_err(), "there was no room for more");

        feed.offer(OutputStream::Stderr, b"after");
        let next = receiver.try_recv().expect("room again");
        assert_eq!((next.bytes.as_slice(), next.stream), (b"after".as_slice(), OutputStream::Stderr));
        assert_eq!(next.dropped_bytes, LOG_CHUNK_BYTES_MAX as u64 + 5);

        feed.offer(OutputStream::Stdout, &vec![2; 3 * LOG_CHUNK_BYTES_MAX]);
        receiver.try_recv().expect("one out, so that the last word has room");
        assert_eq!(feed.finish(), 2 * LOG_CHUNK_BYTES_MAX as u64 + 5);
        receiver.try_recv().expect("the second of the three");
        let last = receiver.try_recv().expect("the last word");
        assert_eq!((last.bytes.len(), last.dropped_bytes), (0, LOG_CHUNK_BYTES_MAX as u64));
    }

    #[test]
    fn without_a_reader_nothing_is_copied_or_counted() {
        let task: TaskId = "0k3v9x2mqf1a.7".parse().expect("a lawful id");
        let mut feed = LogFeed::new(None, task, Attempt(1));
        feed.offer(OutputStream::Stdout, b"x");
        assert_eq!(feed.finish(), 0);
    }
}
