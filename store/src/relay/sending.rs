//! The side that has the bytes.

use redis::PushInfo;
use redis::aio::MultiplexedConnection;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::frame::{Frame, digest_bytes};
use super::receiving::next_frame;
use super::{FRAME_BYTES_MAX, RelayError, RelayId, WINDOW_FRAMES};
use crate::cell::Store;
use crate::error::StoreError;

/// The sending side of a transfer.
#[derive(Debug)]
pub struct RelaySender {
    store: Store,
    connection: MultiplexedConnection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
    channel: String,
    sent: u64,
    used: u64,
    digest: Sha256,
}

impl Store {
    /// Begins to send. Somebody must receive already.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn relay_sender(&self, id: &RelayId) -> Result<RelaySender, StoreError> {
        let channels = id.channels(self.keys());
        let (connection, pushes) = self.link().subscribed(&channels.acks).await?;
        Ok(RelaySender {
            store: self.clone(),
            connection,
            pushes,
            channel: channels.bytes,
            sent: 0,
            used: 0,
            digest: Sha256::new(),
        })
    }
}

impl RelaySender {
    /// Sends the next bytes, and waits while the receiver is a window behind.
    ///
    /// # Errors
    /// Any of `RelayError`; the transfer is over then.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), RelayError> {
        self.digest.update(bytes);
        for piece in bytes.chunks(FRAME_BYTES_MAX) {
            while self.sent - self.used >= WINDOW_FRAMES {
                self.wait_for_ack().await?;
            }
            self.publish(&Frame::Data { number: self.sent, bytes: piece.to_vec() }).await?;
            self.sent += 1;
        }
        Ok(())
    }

    /// Says that this was all, and waits until the receiver has it.
    ///
    /// # Errors
    /// Any of `RelayError`.
    pub async fn finish(mut self) -> Result<(), RelayError> {
        let digest = digest_bytes(std::mem::take(&mut self.digest));
        self.publish(&Frame::End { number: self.sent, digest }).await?;
        // The end counts as one more.
        while self.used <= self.sent {
            self.wait_for_ack().await?;
        }
        Ok(())
    }

    /// Tells the receiver that nothing more will come, and why.
    pub async fn give_up(mut self, why: &str) {
        // It notices by itself if this does not reach it.
        let _ = self.publish(&Frame::GiveUp { why: why.to_owned() }).await;
    }

    async fn wait_for_ack(&mut self) -> Result<(), RelayError> {
        match next_frame(&mut self.pushes).await? {
            Frame::Ack { number } => {
                self.used = self.used.max(number);
                Ok(())
            }
            Frame::GiveUp { why } => Err(RelayError::GivenUp { why }),
            Frame::Data { .. } | Frame::End { .. } => Err(RelayError::Lost),
        }
    }

    async fn publish(&mut self, frame: &Frame) -> Result<(), RelayError> {
        publish(&self.store, &mut self.connection, &self.channel, frame).await
    }
}

/// Publishes one frame to somebody.
pub(super) async fn publish(
    store: &Store,
    connection: &mut MultiplexedConnection,
    channel: &str,
    frame: &Frame,
) -> Result<(), RelayError> {
    let sent = redis::cmd("PUBLISH").arg(channel).arg(frame.encode()).query_async(connection).await;
    let listeners: u64 = sent.map_err(|error| store.link().sort(error))?;
    if listeners == 0 { Err(RelayError::NobodyListens) } else { Ok(()) }
}
