//! Reading an agent's two pipes.
//!
//! The owner waits with `readable`, which may be cancelled, and then reads with `take`, which may not:
//! so no byte is read and then lost. When the process has ended, `drain` takes what is in the pipes and
//! does not wait for their end: somebody else may hold them open for ever.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use maestro_model::ids::{Attempt, TaskId};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use tokio::net::unix::pipe::Receiver;

use super::chunks::{LogFeed, LogSender, OutputStream};
use super::last_line::LastLine;
use super::mask::{MaskedStream, SecretMask};
use super::tail::OutputTail;
use crate::answer::{AnswerReader, FallbackNotice};

/// Most that is read at once: all that a pipe holds by default.
const READ_BYTES_MAX: usize = 64 * 1024;
/// From here on the log is written by a thread that may wait for the disk. Before, the kernel takes the bytes
/// into memory, which is quicker than a change of threads.
const INLINE_BYTES_MAX: u64 = 1024 * 1024;

/// The output of one attempt.
pub(crate) struct OutputCapture {
    pipes: [Option<Receiver>; 2],
    log: Arc<File>,
    log_failed: bool,
    feed: LogFeed,
    tail: OutputTail,
    masked: Option<[MaskedStream; 2]>,
    last_lines: [LastLine; 2],
    last_stream: OutputStream,
    answer: Option<AnswerReader>,
    notice: Option<FallbackNotice>,
    noticed: Option<String>,
    bytes: u64,
    buffer: Vec<u8>,
}

/// The ends of the pipes that the agent writes to. They must be dropped once the agent has them.
pub(crate) struct AgentEnds {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl OutputCapture {
    /// Makes the pipes. Needs a tokio runtime with its I/O driver on.
    pub(crate) fn new(
        log: File,
        sender: Option<LogSender>,
        task: TaskId,
        attempt: Attempt,
        mask: Option<Arc<SecretMask>>,
    ) -> io::Result<(OutputCapture, AgentEnds)> {
        let (stdout_reader, stdout) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr_reader, stderr) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let pipes =
            [Some(Receiver::from_owned_fd(stdout_reader)?), Some(Receiver::from_owned_fd(stderr_reader)?)];
        let capture = OutputCapture {
            pipes,
            log: Arc::new(log),
            log_failed: false,
            feed: LogFeed::new(sender, task, attempt),
            tail: OutputTail::default(),
            masked: mask.map(|mask| [MaskedStream::new(mask.clone()), MaskedStream::new(mask)]),
            last_lines: Default::default(),
            last_stream: OutputStream::Stdout,
            answer: None,
            notice: None,
            noticed: None,
            bytes: 0,
            buffer: Vec::new(),
        };
        Ok((capture, AgentEnds { stdout, stderr }))
    }

    /// Reads standard output for an answer, and standard error for a notice, as the bytes come.
    pub(crate) fn listen(&mut self, answer: Option<AnswerReader>, notice: Option<FallbackNotice>) {
        (self.answer, self.notice) = (answer, notice);
    }

    /// What a notice on standard error says, once it is there.
    pub(crate) fn noticed(&self) -> Option<&str> {
        self.noticed.as_deref()
    }

    /// The reader with all that was written, if there was one.
    pub(crate) fn take_answer(&mut self) -> Option<AnswerReader> {
        self.answer.take()
    }

    /// Waits until one of the streams has something to read, or its end. With both at their end, for ever.
    pub(crate) async fn readable(&self) -> OutputStream {
        async fn ready(pipe: &Option<Receiver>) {
            match pipe {
                // An error is found again when reading.
                Some(pipe) => drop(pipe.readable().await),
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = ready(&self.pipes[0]) => OutputStream::Stdout,
            () = ready(&self.pipes[1]) => OutputStream::Stderr,
        }
    }

    /// Reads once from a stream and keeps what it got. Returns how many bytes that were.
    ///
    /// # Errors
    /// The first time the log cannot be written. After that, output is read on and not kept in the log:
    /// an agent that is being ended must not wait for a pipe to be emptied.
    pub(crate) async fn take(&mut self, stream: OutputStream) -> io::Result<usize> {
        let Some(pipe) = &self.pipes[stream as usize] else { return Ok(0) };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.reserve(READ_BYTES_MAX);
        let read = pipe.try_io(|| read_pipe(pipe, &mut buffer));
        self.keep(stream, read, buffer).await
    }

    /// What was read, or that there is no more, goes where it belongs.
    async fn keep(
        &mut self,
        stream: OutputStream,
        read: io::Result<usize>,
        buffer: Vec<u8>,
    ) -> io::Result<usize> {
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.buffer = buffer;
                Ok(0)
            }
            // The end, or a pipe that cannot be read, which is its end for us.
            Ok(0) | Err(_) => {
                self.pipes[stream as usize] = None;
                self.buffer = buffer;
                Ok(0)
            }
            Ok(read) => {
                let buffer = match &mut self.masked {
                    Some(masked) => masked[stream as usize].add(&buffer),
                    None => buffer,
                };
                self.store(stream, buffer).await.map(|()| read)
            }
        }
    }

    async fn store(&mut self, stream: OutputStream, bytes: Vec<u8>) -> io::Result<()> {
        self.remember(stream, &bytes);
        let (buffer, written) = self.write_log(bytes).await;
        self.buffer = buffer;
        written
    }

    /// Writes a line of Maestro's own, before the agent has written any.
    ///
    /// # Errors
    /// As [`take`](OutputCapture::take).
    pub(crate) async fn note(&mut self, line: String) -> io::Result<()> {
        let bytes = line.into_bytes();
        self.bytes += bytes.len() as u64;
        self.feed.offer(OutputStream::Stderr, &bytes);
        let (buffer, written) = self.write_log(bytes).await;
        self.buffer = buffer;
        written
    }

    fn remember(&mut self, stream: OutputStream, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.last_stream = stream;
        self.last_lines[stream as usize].add(bytes);
        match stream {
            OutputStream::Stdout => {
                self.tail.add(bytes);
                if let Some(answer) = &mut self.answer {
                    answer.add(bytes);
                }
            }
            OutputStream::Stderr => {
                if let Some(notice) = &mut self.notice {
                    self.noticed = self.noticed.take().or_else(|| notice.add(bytes));
                }
            }
        }
        self.feed.offer(stream, bytes);
    }

    /// Gives the buffer back, for the next read.
    async fn write_log(&mut self, buffer: Vec<u8>) -> (Vec<u8>, io::Result<()>) {
        if self.log_failed {
            return (buffer, Ok(()));
        }
        let (buffer, written) = if self.bytes <= INLINE_BYTES_MAX {
            let written = (&*self.log).write_all(&buffer);
            (buffer, written)
        } else {
            let log = self.log.clone();
            let write = move || {
                let written = (&*log).write_all(&buffer);
                (buffer, written)
            };
            match tokio::task::spawn_blocking(write).await {
                Ok(done) => done,
                Err(error) => (Vec::new(), Err(io::Error::other(error))),
            }
        };
        self.log_failed = written.is_err();
        (buffer, written)
    }

    /// Takes what the pipes hold at this moment, once the process has ended and can add nothing.
    ///
    /// # Errors
    /// As [`take`](OutputCapture::take).
    pub(crate) async fn drain(&mut self) -> io::Result<()> {
        for stream in OutputStream::ALL {
            // What somebody else writes meanwhile is not the agent's: the amount is fixed now.
            let mut left = match &self.pipes[stream as usize] {
                Some(pipe) => rustix::io::ioctl_fionread(pipe)?,
                None => 0,
            };
            while left > 0
                && let Some(pipe) = &self.pipes[stream as usize]
            {
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.clear();
                buffer.reserve(READ_BYTES_MAX);
                // Past the runtime, which may not have been told yet that there is something to read.
                let read = read_pipe(pipe, &mut buffer);
                match self.keep(stream, read, buffer).await? {
                    0 => break,
                    read => left = left.saturating_sub(read as u64),
                }
            }
            self.pipes[stream as usize] = None;
            if let Some(masked) = &mut self.masked {
                let held = masked[stream as usize].end();
                self.store(stream, held).await?;
            }
        }
        Ok(())
    }

    /// Ends the stream of pieces; returns how many bytes of it were left out.
    pub(crate) fn finish(&mut self) -> u64 {
        self.feed.finish()
    }

    /// The end of standard output as text.
    pub(crate) fn result(&self) -> String {
        self.tail.text()
    }

    /// The last line of either stream that is not blank, whichever wrote last.
    pub(crate) fn last_line(&self) -> String {
        self.last_lines[self.last_stream as usize].text()
    }

    /// The last line of standard error that is not blank.
    pub(crate) fn last_error_line(&self) -> String {
        self.last_lines[OutputStream::Stderr as usize].text()
    }

    /// Bytes of both streams so far, as they are in the log.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn read_pipe(pipe: &Receiver, buffer: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        match rustix::io::read(pipe, rustix::buffer::spare_capacity(buffer)) {
            Err(Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}
