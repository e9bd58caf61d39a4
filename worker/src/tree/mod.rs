//! A folder as a stream: packed into tar entries that plain `tar` reads, and unpacked without trust.
//!
//! What must be the same on both sides: names of any bytes, modes, times to the nanosecond, symbolic and
//! hard links, holes of sparse files. Owners are not kept: files belong to whoever unpacks them. Nothing here
//! compresses, sends or checks digests.

mod digest;
mod pack;
mod sparse;
mod unpack;

pub use pack::{
    EntryListener, PackError, PackNote, PackSummary, PackTrouble, PackedEntry, PackedKind, TreePacker,
};
pub use unpack::{UnpackError, UnpackLimits, UnpackSummary, unpack_archived, unpack_tree};
