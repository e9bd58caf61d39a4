//! Bytes from one process to another by way of Redis, without a key: nothing is stored, nothing is left.
//!
//! Frames travel by PUBLISH with numbers, and come at most once; the receiver says how far it has come, and the
//! sender never runs further ahead than a window. A frame that is lost, broken or late ends the transfer with an
//! error on both sides; the whole is then sent again by whoever wanted it. What is in the bytes is not known here.

mod frame;
mod receiving;
mod sending;

use std::time::Duration;

use maestro_model::ids::Incarnation;

use crate::error::StoreError;
use crate::keys::Keys;

pub use receiving::RelayReceiver;
pub use sending::RelaySender;

/// Most bytes of one frame.
pub const FRAME_BYTES_MAX: usize = 256 << 10;
/// Frames on their way at one time: with the size of a frame, 4 MiB for each transfer.
pub const WINDOW_FRAMES: u64 = 16;
/// Frames after which the receiver says how far it has come.
const ACK_EVERY: u64 = 4;
/// How long one side waits for a sign of the other before it gives up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A transfer's name, known to its two sides alone.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RelayId(String);

impl RelayId {
    /// One that nobody else has.
    pub fn random() -> RelayId {
        RelayId(Incarnation::random().to_string())
    }

    /// One that came from elsewhere; none if it cannot be one.
    pub fn from_text(text: &str) -> Option<RelayId> {
        let lawful =
            !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        lawful.then(|| RelayId(text.to_owned()))
    }

    /// As it is told to the other side.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn channels(&self, keys: &Keys) -> Channels {
        let relay = format!("{}relay:{}", keys.prefix(), self.0);
        Channels { bytes: format!("{relay}:b"), acks: format!("{relay}:a") }
    }
}

/// Where frames are published; neither is a key.
#[derive(Debug)]
struct Channels {
    bytes: String,
    acks: String,
}

/// Why a transfer ended too soon. All but `Store` may pass: the whole may be sent again.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Nobody receives.
    #[error("the other side of the transfer is gone")]
    NobodyListens,
    /// No sign of the other side.
    #[error("no sign of the other side of the transfer for {} s", SILENCE_MAX.as_secs())]
    Silence,
    /// A frame was lost or broken on its way.
    #[error("a part of the transfer was lost")]
    Lost,
    /// The other side gave up.
    #[error("the other side gave up: {why}")]
    GivenUp {
        /// In its words.
        why: String,
    },
    /// Redis refused, or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}
