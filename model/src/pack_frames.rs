//! What a worker sends of its workspaces while a snapshot is taken: the words between it and whoever asked.
//!
//! One row of frames, cut into pieces of any size on its way: one byte kind, four bytes length, the payload. Of each
//! workspace come a head, gzip members and lists of entries in any mixture, and an end; last the end of all. How the
//! bytes travel and what is made of them is decided elsewhere.

use serde::{Deserialize, Serialize};

use crate::snapshot::{ArchivedFile, ArchivedNote, WorkspaceKey, WorkspaceRole};

/// Largest payload of one frame, bytes.
pub const FRAME_PAYLOAD_MAX: usize = 8 << 20;
const HEAD_BYTES: usize = 5;

/// One frame.
#[derive(Debug, Clone, PartialEq)]
pub enum PackFrame {
    /// A workspace begins.
    Workspace {
        /// Which.
        head: PackedHead,
    },
    /// Bytes of its gzip members.
    Members(Vec<u8>),
    /// Entries, in the order of the members.
    Entries(Vec<ArchivedFile>),
    /// The workspace ends.
    WorkspaceEnd(PackedEnd),
    /// All workspaces have come.
    End(PackedAll),
}

/// The head of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedHead {
    /// Which.
    pub key: WorkspaceKey,
    /// What kind.
    #[serde(flatten)]
    pub role: WorkspaceRole,
}

/// What a workspace came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedEnd {
    /// Its entries.
    pub entries: u64,
    /// Bytes of its files, holes included.
    pub bytes: u64,
    /// What was odd about some of them.
    #[serde(default)]
    pub notes: Vec<ArchivedNote>,
}

/// What all of a worker's workspaces came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedAll {
    /// Whether agents stood still all the time.
    pub still: bool,
    /// Folders that could not be read at all, and why.
    #[serde(default)]
    pub unread: Vec<UnreadFolder>,
}

/// A folder that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadFolder {
    /// Where, on the worker's host.
    pub path: String,
    /// Why not.
    pub why: String,
}

/// Why a row of frames cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what the worker sends cannot be read: {what}")]
pub struct PackFrameError {
    /// What is wrong with it.
    pub what: String,
}

impl PackFrame {
    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            PackFrame::Workspace { head } => (b'W', json(head)),
            PackFrame::Members(bytes) => return framed(b'M', bytes),
            PackFrame::Entries(files) => (b'F', json(files)),
            PackFrame::WorkspaceEnd(end) => (b'E', json(end)),
            PackFrame::End(all) => (b'Z', json(all)),
        };
        framed(kind, &payload)
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<PackFrame, PackFrameError> {
        let read = |error: serde_json::Error| PackFrameError { what: error.to_string() };
        Ok(match kind {
            b'W' => PackFrame::Workspace { head: serde_json::from_slice(payload).map_err(read)? },
            b'M' => PackFrame::Members(payload.to_vec()),
            b'F' => PackFrame::Entries(serde_json::from_slice(payload).map_err(read)?),
            b'E' => PackFrame::WorkspaceEnd(serde_json::from_slice(payload).map_err(read)?),
            b'Z' => PackFrame::End(serde_json::from_slice(payload).map_err(read)?),
            other => return Err(PackFrameError { what: format!("there is no frame of kind {other}") }),
        })
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}

fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD_BYTES + payload.len());
    frame.push(kind);
    frame.extend((payload.len() as u32).to_le_bytes());
    frame.extend(payload);
    frame
}

/// Puts frames together again from pieces.
#[derive(Debug, Default)]
pub struct PackFrameReader {
    bytes: Vec<u8>,
    read: usize,
}

impl PackFrameReader {
    /// Adds what came next.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(piece);
    }

    /// The next whole frame; none if more has to come first.
    ///
    /// # Errors
    /// If what came is no row of frames.
    pub fn next_frame(&mut self) -> Result<Option<PackFrame>, PackFrameError> {
        let Some((head, rest)) = self.bytes[self.read..].split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *head;
        let length = u32::from_le_bytes(length) as usize;
        if length > FRAME_PAYLOAD_MAX {
            return Err(PackFrameError { what: format!("a frame of {length} bytes") });
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let frame = PackFrame::decode(kind, payload)?;
        self.read += HEAD_BYTES + length;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{ArchivedKind, EntryPath};

    #[test]
    fn frames_come_back_from_pieces_of_any_size() {
        let worker = "w".parse().expect("lawful");
        let key = WorkspaceKey::of_task(&worker, "shell", "0k3v9x2mqf1a.7").expect("lawful");
        let path = EntryPath::new(b"maestro/\xff").expect("lawful");
        let frames = vec![
            PackFrame::Workspace { head: PackedHead { key, role: WorkspaceRole::Task } },
            PackFrame::Members(vec![7; 70_000]),
            PackFrame::Entries(vec![ArchivedFile { path, mode: 0o700, kind: ArchivedKind::Folder }]),
            PackFrame::WorkspaceEnd(PackedEnd { entries: 1, ..PackedEnd::default() }),
            PackFrame::End(PackedAll { still: true, unread: Vec::new() }),
        ];
        let sent: Vec<u8> = frames.iter().flat_map(PackFrame::encode).collect();
        for size in [1, 3, 4096, sent.len()] {
            let (mut reader, mut read) = (PackFrameReader::default(), Vec::new());
            for piece in sent.chunks(size) {
                reader.push(piece);
                while let Some(frame) = reader.next_frame().expect("lawful") {
                    read.push(frame);
                }
            }
            assert_eq!(read, frames, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut reader = PackFrameReader::default();
        reader.push(&[b'M', 0xff, 0xff, 0xff, 0xff]);
        assert!(reader.next_frame().is_err());
        let mut reader = PackFrameReader::default();
        reader.push(&[b'?', 0, 0, 0, 0]);
        assert!(reader.next_frame().is_err());
    }
}
