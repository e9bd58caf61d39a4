//! The side that wants the bytes.

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::frame::{Frame, digest_bytes};
use super::sending::publish;
use super::{ACK_EVERY, RelayError, RelayId, SILENCE_MAX};
use crate::cell::Store;
use crate::error::StoreError;

/// The receiving side of a transfer. Made before the other side is asked to send.
#[derive(Debug)]
pub struct RelayReceiver {
    store: Store,
    connection: MultiplexedConnection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
    channel: String,
    received: u64,
    told: u64,
    digest: Sha256,
}

impl Store {
    /// Makes ready to receive; from now on nothing that is sent is missed.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn relay_receiver(&self, id: &RelayId) -> Result<RelayReceiver, StoreError> {
        let channels = id.channels(self.keys());
        let (connection, pushes) = self.link().subscribed(&channels.bytes).await?;
        Ok(RelayReceiver {
            store: self.clone(),
            connection,
            pushes,
            channel: channels.acks,
            received: 0,
            told: 0,
            digest: Sha256::new(),
        })
    }
}

impl RelayReceiver {
    /// The next bytes, or none when all have come as they were sent. To ask again says that what came before
    /// is done with: so the sender is never further ahead than a window.
    ///
    /// # Errors
    /// Any of `RelayError`; the transfer is over then.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, RelayError> {
        if self.received - self.told >= ACK_EVERY {
            self.tell(self.received).await?;
        }
        match next_frame(&mut self.pushes).await? {
            Frame::Data { number, bytes } if number == self.received => {
                self.digest.update(&bytes);
                self.received += 1;
                Ok(Some(bytes))
            }
            Frame::End { number, digest } if number == self.received => {
                if digest_bytes(std::mem::take(&mut self.digest)) != digest {
                    return Err(RelayError::Lost);
                }
                self.tell(number + 1).await?;
                Ok(None)
            }
            Frame::GiveUp { why } => Err(RelayError::GivenUp { why }),
            Frame::Data { .. } | Frame::End { .. } | Frame::Ack { .. } => Err(RelayError::Lost),
        }
    }

    /// Tells the sender that nothing more is wanted, and why.
    pub async fn give_up(mut self, why: &str) {
        let frame = Frame::GiveUp { why: why.to_owned() };
        // It notices by itself if this does not reach it.
        let _ = publish(&self.store, &mut self.connection, &self.channel, &frame).await;
    }

    async fn tell(&mut self, number: u64) -> Result<(), RelayError> {
        publish(&self.store, &mut self.connection, &self.channel, &Frame::Ack { number }).await?;
        self.told = number;
        Ok(())
    }
}

/// The next frame on a channel that is subscribed to.
pub(super) async fn next_frame(pushes: &mut mpsc::UnboundedReceiver<PushInfo>) -> Result<Frame, RelayError> {
    loop {
        let push = tokio::time::timeout(SILENCE_MAX, pushes.recv()).await;
        let push = push.map_err(|_| RelayError::Silence)?.ok_or(RelayError::Lost)?;
        match push.kind {
            PushKind::Message => {
                let Some(Value::BulkString(message)) = push.data.get(1) else { return Err(RelayError::Lost) };
                return Frame::decode(message).ok_or(RelayError::Lost);
            }
            // What was published while the connection was gone is gone too.
            PushKind::Disconnection => return Err(RelayError::Lost),
            _ => {}
        }
    }
}
