//! Where a sparse file has data, and how GNU tar writes that down.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::SeekFrom;
use tar::{GnuExtSparseHeader, GnuHeader};

/// Most stretches of one file that are told apart; what lies beyond counts as one.
const STRETCHES_MAX: usize = 10_000;

/// A part of a file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) from: u64,
    pub(super) length: u64,
}

/// The parts with data, if there are holes that are worth the trouble; none for a file without.
pub(super) fn stretches(file: &File, size: u64, blocks: u64) -> io::Result<Option<Vec<Stretch>>> {
    // A file with holes takes up less than its size.
    if size == 0 || blocks * 512 >= size {
        return Ok(None);
    }
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let from = match rustix::fs::seek(file.as_fd(), SeekFrom::Data(at)) {
            Ok(from) => from.min(size),
            // Nothing but a hole up to the end.
            Err(rustix::io::Errno::NXIO) => break,
            Err(rustix::io::Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let to = if found.len() + 1 == STRETCHES_MAX {
            size
        } else {
            rustix::fs::seek(file.as_fd(), SeekFrom::Hole(from))?.min(size)
        };
        if from < to {
            found.push(Stretch { from, length: to - from });
        }
        at = to;
    }
    let whole = found.first().is_some_and(|first| first.from == 0 && first.length == size);
    // The end is marked by an empty stretch, or the size would be lost.
    if found.last().is_none_or(|last| last.from + last.length < size) {
        found.push(Stretch { from: size, length: 0 });
    }
    Ok((!whole).then_some(found))
}

/// Writes the stretches into the header, and returns the blocks that follow it where it has not room for all.
pub(super) fn describe(header: &mut GnuHeader, stretches: &[Stretch], size: u64) -> Vec<u8> {
    header.set_real_size(size);
    let room = header.sparse.len();
    for (slot, stretch) in header.sparse.iter_mut().zip(stretches) {
        slot.set_offset(stretch.from);
        slot.set_length(stretch.length);
    }
    let rest = stretches.get(room..).unwrap_or_default();
    header.set_is_extended(!rest.is_empty());
    let mut blocks = Vec::new();
    let per_block = GnuExtSparseHeader::new().sparse().len();
    let portions = rest.chunks(per_block);
    let last = portions.len();
    for (number, portion) in portions.enumerate() {
        let mut block = GnuExtSparseHeader::new();
        for (slot, stretch) in block.sparse_mut().iter_mut().zip(portion) {
            slot.set_offset(stretch.from);
            slot.set_length(stretch.length);
        }
        block.set_is_extended(number + 1 < last);
        blocks.extend_from_slice(block.as_bytes());
    }
    blocks
}
