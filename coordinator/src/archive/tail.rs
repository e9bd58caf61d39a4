//! The end of an archive, read without what is before it: the seal, and the manifest in the member before that.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::GzDecoder;
use maestro_model::snapshot::{ArchiveFault, SEAL_BYTES, Seal, SealReading};

use super::error::ArchiveReadError;

/// Largest compressed manifest that is looked for.
const MANIFEST_TAIL_MAX: u64 = 256 << 20;
/// Bytes that are looked at first.
const FIRST_LOOK: u64 = 1 << 20;
/// How much more with each further look.
const LOOK_GROWS: u64 = 8;
/// How a member of ours begins.
const MEMBER_START: [u8; 4] = [0x1f, 0x8b, 8, 0];

/// Hands the content of `manifest.json` to `read`, as it stands; none if there is none, or `read` cannot use it.
pub(crate) fn find_manifest<T>(path: &Path, read: &mut dyn FnMut(&mut dyn Read) -> Option<T>) -> Option<T> {
    let mut file = File::open(path).ok()?;
    let end = file.metadata().ok()?.len().checked_sub(SEAL_BYTES as u64)?;
    let mut length = FIRST_LOOK.min(end);
    loop {
        file.seek(SeekFrom::Start(end - length)).ok()?;
        let mut tail = vec![0; length as usize];
        file.read_exact(&mut tail).ok()?;
        let starts = (0..tail.len().saturating_sub(MEMBER_START.len())).rev();
        let mut members = starts.filter(|at| tail[*at..].starts_with(&MEMBER_START));
        if let Some(found) = members.find_map(|at| manifest_in(&tail[at..], read)) {
            return Some(found);
        }
        if length == end || length >= MANIFEST_TAIL_MAX {
            return None;
        }
        length = (length * LOOK_GROWS).min(end).min(MANIFEST_TAIL_MAX);
    }
}

fn manifest_in<T>(member: &[u8], read: &mut dyn FnMut(&mut dyn Read) -> Option<T>) -> Option<T> {
    let mut decoder = GzDecoder::new(member);
    let mut header = tar::Header::new_old();
    decoder.read_exact(header.as_mut_bytes()).ok()?;
    let is_manifest = header.path_bytes().as_ref() == b"maestro/manifest.json";
    let size = header.size().ok().filter(|_| is_manifest)?;
    read(&mut decoder.take(size))
}

/// What the last member says; the bytes before it are counted and not read.
///
/// # Errors
/// `Open`, `Disk`; `Fault` if there is none, or if it speaks of another length.
pub(super) fn read_seal(path: &Path) -> Result<Seal, ArchiveReadError> {
    let open = |source| ArchiveReadError::Open { path: path.to_owned(), source };
    let disk = |source| ArchiveReadError::Disk { path: path.to_owned(), source };
    let damaged = |what: &str| ArchiveFault::Damaged { what: what.to_owned() };
    let mut file = File::open(path).map_err(open)?;
    let facts = file.metadata().map_err(open)?;
    if !facts.is_file() {
        return Err(open(std::io::Error::other("it is not a regular file")));
    }
    let before = facts.len().checked_sub(SEAL_BYTES as u64).ok_or_else(|| damaged("it is cut short"))?;
    file.seek(SeekFrom::Start(before)).map_err(disk)?;
    let mut member = [0; SEAL_BYTES];
    file.read_exact(&mut member).map_err(disk)?;
    match Seal::read(&member) {
        SealReading::Whole(seal) if seal.before_bytes == before => Ok(seal),
        _ => Err(damaged("it has no seal, or is cut short").into()),
    }
}
