//! Pieces of a log put together to lines.
//!
//! A worker sends what an agent printed as it came: a piece may end in the middle of a line or of a
//! character. Bytes stay as they are; what a terminal may see of them is decided by who prints.

use maestro_model::ids::{Attempt, TaskId};
use maestro_store::logs::{LogPiece, LogStream};
use maestro_store::{Store, StoreError};

/// Longest line put together; a longer one goes on as if it were several, without a break between them.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A line of a log, or a part of one without its line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    /// When its last piece was written, ms since 1970.
    pub(crate) at_ms: u64,
    /// Where it came from.
    pub(crate) stream: LogStream,
    /// The bytes, line break included if there was one.
    pub(crate) bytes: Vec<u8>,
}

impl LogLine {
    /// Whether its line break came.
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.last() == Some(&b'\n')
    }

    /// The bytes without the line break.
    pub(crate) fn content(&self) -> &[u8] {
        self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes)
    }
}

/// Puts pieces together, each stream by itself.
#[derive(Debug, Default)]
pub(crate) struct LineJoiner {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    last_ms: u64,
}

impl LineJoiner {
    /// Takes a piece; the lines that are whole now.
    pub(crate) fn add(&mut self, piece: LogPiece) -> Vec<LogLine> {
        let LogPiece { at_ms, stream, bytes, .. } = piece;
        self.last_ms = at_ms;
        let open = match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
            LogStream::Note => return vec![LogLine { at_ms, stream, bytes }],
        };
        open.extend(bytes);
        let mut lines = Vec::new();
        let mut begin = 0;
        for (place, byte) in open.iter().enumerate() {
            if *byte == b'\n' || place + 1 - begin >= LINE_BYTES_MAX {
                lines.push(LogLine { at_ms, stream, bytes: open[begin..=place].to_vec() });
                begin = place + 1;
            }
        }
        open.drain(..begin);
        lines
    }

    /// What is left without a line break when no more comes.
    pub(crate) fn finish(&mut self) -> Vec<LogLine> {
        let rest = [
            (LogStream::Stdout, std::mem::take(&mut self.stdout)),
            (LogStream::Stderr, std::mem::take(&mut self.stderr)),
        ];
        let rest = rest.into_iter().filter(|(_, bytes)| !bytes.is_empty());
        rest.map(|(stream, bytes)| LogLine { at_ms: self.last_ms, stream, bytes }).collect()
    }
}

/// Reads the log of one attempt onwards.
#[derive(Debug)]
pub(crate) struct LogCursor {
    /// The task.
    pub(crate) task: TaskId,
    /// Its attempt.
    pub(crate) attempt: Attempt,
    after: String,
    joiner: LineJoiner,
}

impl LogCursor {
    /// From the start of what is kept.
    pub(crate) fn new(task: TaskId, attempt: Attempt) -> LogCursor {
        LogCursor { task, attempt, after: "0".to_owned(), joiner: LineJoiner::default() }
    }

    /// The next portion: lines that are whole now, or none at the end of what is there.
    ///
    /// # Errors
    /// What the store says; asked again, it goes on where it was.
    pub(crate) async fn next(&mut self, store: &Store) -> Result<Option<Vec<LogLine>>, StoreError> {
        let pieces = store.read_log(&self.task, self.attempt, &self.after).await?;
        let Some(last) = pieces.last() else { return Ok(None) };
        self.after.clone_from(&last.id);
        Ok(Some(pieces.into_iter().flat_map(|piece| self.joiner.add(piece)).collect()))
    }

    /// What is left without a line break when no more comes.
    pub(crate) fn finish(&mut self) -> Vec<LogLine> {
        self.joiner.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(stream: LogStream, bytes: &[u8]) -> LogPiece {
        LogPiece { id: "1-0".to_owned(), at_ms: 1, stream, bytes: bytes.to_vec() }
    }

    #[test]
    fn a_line_cut_anywhere_is_whole_again() {
        let text = "grün\nzwei\n".as_bytes();
        for cut in 0..=text.len() {
            let mut joiner = LineJoiner::default();
            let mut lines = joiner.add(piece(LogStream::Stdout, &text[..cut]));
            lines.extend(joiner.add(piece(LogStream::Stdout, &text[cut..])));
            let lines: Vec<&[u8]> = lines.iter().map(|line| &line.bytes[..]).collect();
            assert_eq!(lines, ["grün\n".as_bytes(), b"zwei\n"], "cut at {cut}");
            assert_eq!(joiner.finish(), []);
        }
    }

    #[test]
    fn streams_do_not_mix_within_a_line() {
        let mut joiner = LineJoiner::default();
        assert_eq!(joiner.add(piece(LogStream::Stdout, b"out")), []);
        let lines = joiner.add(piece(LogStream::Stderr, b"err\n"));
        assert_eq!((lines.len(), lines[0].stream, lines[0].content()), (1, LogStream::Stderr, &b"err"[..]));
        let rest = joiner.finish();
        assert_eq!((rest.len(), &rest[0].bytes[..], rest[0].is_whole()), (1, &b"out"[..], false));
    }

    #[test]
    fn a_line_without_end_does_not_pile_up() {
        let mut joiner = LineJoiner::default();
        let long = vec![b'x'; 3 * LINE_BYTES_MAX + 5];
        let lines = joiner.add(piece(LogStream::Stdout, &long));
        assert_eq!(lines.len(), 3);
        assert_eq!(joiner.stdout.len(), 5);
        let all: usize = lines.iter().map(|line| line.bytes.len()).sum();
        assert_eq!(all + joiner.finish()[0].bytes.len(), long.len());
    }
}
