//! The archive of a snapshot: what is in it, in which order, under which names, and what is refused.
//!
//! One `tar.gz` that plain `tar` reads, written once from front to back and read once in the same order:
//!
//! | entry | what |
//! |---|---|
//! | `maestro/agents.yaml` | agent types and assignments ([`AgentsFile`]) |
//! | `maestro/redis/index.json` | where each key's value lies in the next entry ([`RedisIndex`]) |
//! | `maestro/redis/dump.rdb` | the keys, as a genuine RDB file |
//! | `maestro/containers/<id>.json` | containers of agents in Docker |
//! | `maestro/workspaces/<worker>/<owner>/<name>/…` | folders, one workspace after the other |
//! | `maestro/manifest.json` | all of the above with size, mode and SHA-256 ([`Manifest`]) |
//! | `maestro/manifest.sha256` | closes it ([`Seal`]) |
//!
//! Folders may have entries of their own before what lies in them. The gzip stream is a row of members that each
//! hold whole tar entries; the members of a workspace hold nothing else, so that they can be handed on as they are.
//! The last member is made from what is before it and from nothing else, so any changed byte shows.
//!
//! No file is opened and nothing is decompressed here.

mod agents_file;
mod entry_path;
mod fault;
mod key_shape;
mod limits;
mod manifest;
mod place;
mod rdb_checksum;
mod redis_index;
mod seal;
mod tree_digest;

pub use agents_file::{AGENTS_FILE_VERSION, AgentsFile};
pub use entry_path::{EntryPath, PATH_BYTES_MAX, PATH_DEPTH_MAX};
pub use fault::ArchiveFault;
pub use key_shape::{KeyFate, KeyShape, KeyType};
pub use limits::{
    ENTRIES_MAX, HOLE_BYTES_MAX, LINK_BYTES_MAX, MANIFEST_BYTES_MAX, MODE_MASK, PAYLOAD_BYTES_MAX,
    SMALL_FILE_BYTES_MAX, STORED_BYTES_MAX,
};
pub use manifest::{
    AbsentWorker, ArchivedFile, ArchivedKind, ArchivedNote, ArchivedWorker, ArchivedWorkspace, FileDigest,
    MANIFEST_FORMAT, Manifest, MemberRange, SnapshotCounts, WorkerCoverage, WorkspaceRole,
};
pub use place::{EntryPlace, SnapshotPart, WorkspaceKey};
pub use rdb_checksum::RdbChecksum;
pub use redis_index::{INDEX_VERSION, KeyEntry, RedisIndex};
pub use seal::{SEAL_BYTES, Seal, SealReading};
pub use tree_digest::TreeDigest;
