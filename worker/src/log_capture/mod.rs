//! What an agent writes: kept whole in `agent.log`, offered as it comes, remembered as far as a report needs it.
//!
//! `agent.log` holds the bytes of standard output and standard error as they were written, in order of
//! arrival, with nothing added: no prefix, no time, no mark of the stream. Each stream's own bytes keep their
//! order; an agent that writes to both at once may find the line of one inside a line of the other.
//!
//! Bytes are read once and never as text: lines of any length, invalid UTF-8 and a missing last newline
//! are all the same here. Memory is bounded by the constants of this module. A slow reader of the stream
//! loses pieces and is told how many bytes; the file never does.
//! Secrets are replaced by `***` before any of this.

mod capture;
mod chunks;
mod last_line;
mod mask;
mod tail;

pub(crate) use capture::{AgentEnds, OutputCapture};
pub use chunks::{
    LOG_CHUNK_BYTES_MAX, LOG_CHUNKS_MAX, LogChunk, LogReceiver, LogSender, OutputStream, log_channel,
};
pub(crate) use mask::SecretMask;
pub use tail::RESULT_BYTES_MAX;
