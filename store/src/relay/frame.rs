//! What a published message looks like.
//!
//! One byte version, one byte kind, eight bytes number, four bytes CRC-32 of all else, then the payload;
//! numbers are little-endian.

use sha2::digest::Output;
use sha2::{Digest, Sha256};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 14;
const DIGEST_BYTES: usize = 32;

/// A published message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// The next piece; the first has number 0.
    Data { number: u64, bytes: Vec<u8> },
    /// There are no more; the number is how many there were, the digest is SHA-256 of all bytes.
    End { number: u64, digest: [u8; DIGEST_BYTES] },
    /// The receiver has used all before this number.
    Ack { number: u64 },
    /// One side gives up.
    GiveUp { why: String },
}

impl Frame {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, number, payload): (u8, u64, &[u8]) = match self {
            Frame::Data { number, bytes } => (b'D', *number, bytes),
            Frame::End { number, digest } => (b'E', *number, digest),
            Frame::Ack { number } => (b'A', *number, &[]),
            Frame::GiveUp { why } => (b'G', 0, why.as_bytes()),
        };
        let mut message = Vec::with_capacity(HEAD_BYTES + payload.len());
        message.extend([VERSION, kind]);
        message.extend(number.to_le_bytes());
        message.extend(checksum(kind, number, payload).to_le_bytes());
        message.extend(payload);
        message
    }

    /// None if it is no frame of this version, or not as it was sent.
    pub(super) fn decode(message: &[u8]) -> Option<Frame> {
        let (head, payload) = message.split_at_checked(HEAD_BYTES)?;
        let (version, kind) = (head[0], head[1]);
        let number = u64::from_le_bytes(head[2..10].try_into().expect("eight bytes"));
        let sum = u32::from_le_bytes(head[10..14].try_into().expect("four bytes"));
        if version != VERSION || sum != checksum(kind, number, payload) {
            return None;
        }
        match kind {
            b'D' => Some(Frame::Data { number, bytes: payload.to_vec() }),
            b'E' => Some(Frame::End { number, digest: payload.try_into().ok()? }),
            b'A' => Some(Frame::Ack { number }),
            b'G' => Some(Frame::GiveUp { why: String::from_utf8_lossy(payload).into_owned() }),
            _ => None,
        }
    }
}

fn checksum(kind: u8, number: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[VERSION, kind]);
    hasher.update(&number.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// The digest as it stands in a frame.
pub(super) fn digest_bytes(hasher: Sha256) -> [u8; DIGEST_BYTES] {
    let digest: Output<Sha256> = hasher.finalize();
    digest.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<Frame> {
        vec![
            Frame::Data { number: 7, bytes: b"piece".to_vec() },
            Frame::Data { number: u64::MAX, bytes: Vec::new() },
            Frame::End { number: 8, digest: [9; 32] },
            Frame::Ack { number: 4 },
            Frame::GiveUp { why: "the disk is full".to_owned() },
        ]
    }

    #[test]
    fn a_frame_comes_back_as_it_was() {
        for frame in frames() {
            assert_eq!(Frame::decode(&frame.encode()), Some(frame));
        }
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is() {
        for frame in frames() {
            let message = frame.encode();
            for place in 0..message.len() {
                let mut changed = message.clone();
                changed[place] ^= 0x10;
                assert_eq!(Frame::decode(&changed), None, "{frame:?}, byte {place}");
            }
            assert_eq!(Frame::decode(&message[..HEAD_BYTES - 1]), None);
        }
    }
}
