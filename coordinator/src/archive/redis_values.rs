//! The values of keys in `dump.rdb`, found by the index alone: RDB itself is not read.
//!
//! What stands between two values has to end with how the value is written and with the key, so that the index and
//! the file cannot speak of different things. The checksum is the file's own.

use std::collections::HashSet;
use std::io::Read;

use maestro_model::snapshot::{
    ArchiveFault, ArchivedKind, EntryPath, EntryPlace, FileDigest, KeyEntry, KeyShape, Manifest,
    PAYLOAD_BYTES_MAX, RdbChecksum, RedisIndex, SnapshotPart,
};

use super::error::ArchiveReadError;
use super::verify::VerifiedArchive;
use super::walk::{Onward, walk};

/// How an RDB file begins, before four digits.
const MAGIC: &[u8] = b"REDIS";
/// Bytes between two values: a time to live, a length, the longest key, and what opens a data base.
const GAP_BYTES_MAX: u64 = 1 << 20;
/// Opens a time to live in ms: eight bytes follow.
const EXPIRES_MS: u8 = 0xfc;
/// The checksum at the end.
const CHECKSUM_BYTES: usize = 8;

/// One key with its value.
#[derive(Debug)]
pub struct DumpedValue<'a> {
    /// Which.
    pub entry: &'a KeyEntry,
    /// As RESTORE takes it: how it is written, the value, the RDB version, a checksum.
    pub payload: Vec<u8>,
}

/// Reads the values once more, of an archive that was verified, in the order of the index.
///
/// # Errors
/// See [`ArchiveReadError`]: it may have been changed meanwhile, or `on_value` has had enough.
pub fn read_values<E: From<ArchiveReadError>>(
    archive: &VerifiedArchive,
    on_value: &mut dyn FnMut(DumpedValue<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut failed = None;
    let mut dumped = None;
    let mut on_content = |part, _: &EntryPath, content: &mut dyn Read| {
        if part != SnapshotPart::Dump {
            return Ok(());
        }
        DumpReader::new(content, &archive.index).read(&mut |value| {
            on_value(value).map_err(|error| {
                failed = Some(error);
                changed()
            })
        })
    };
    let mut on_entry = |entry: super::walk::WalkedEntry| {
        if entry.place != EntryPlace::File(SnapshotPart::Dump) {
            return Ok(Onward::Go);
        }
        dumped = digest_of(&entry.file.kind);
        Ok(Onward::Enough)
    };
    let walked = walk(&archive.path, &mut on_content, &mut on_entry, &mut |_| {});
    if let Some(error) = failed {
        return Err(error);
    }
    walked?;
    let name = "maestro/redis/dump.rdb";
    let listed = archive.manifest.files.iter().find(|file| file.path.as_bytes() == name.as_bytes());
    if dumped.is_none() || dumped != listed.and_then(|file| digest_of(&file.kind)) {
        return Err(E::from(changed().into()));
    }
    Ok(())
}

fn digest_of(kind: &ArchivedKind) -> Option<FileDigest> {
    match kind {
        ArchivedKind::File { sha256, .. } => Some(*sha256),
        _ => None,
    }
}

fn changed() -> ArchiveFault {
    ArchiveFault::Damaged { what: "it was changed while it was read".to_owned() }
}

/// `dump.rdb` from front to back.
pub(super) struct DumpReader<'a> {
    content: &'a mut dyn Read,
    index: &'a RedisIndex,
    at: u64,
    sum: RdbChecksum,
}

impl<'a> DumpReader<'a> {
    pub(super) fn new(content: &'a mut dyn Read, index: &'a RedisIndex) -> DumpReader<'a> {
        DumpReader { content, index, at: 0, sum: RdbChecksum::default() }
    }

    pub(super) fn read(
        mut self,
        on_value: &mut dyn FnMut(DumpedValue<'_>) -> Result<(), ArchiveFault>,
    ) -> Result<(), ArchiveReadError> {
        let index = self.index;
        index.check(u64::MAX)?;
        let mut magic = [0; 9];
        self.fill(&mut magic)?;
        let version =
            std::str::from_utf8(&magic[MAGIC.len()..]).ok().and_then(|text| text.parse::<u16>().ok());
        if !magic.starts_with(MAGIC) || version != Some(index.rdb_version) {
            return Err(damaged("does not begin as the index says").into());
        }
        let mut gap = Vec::new();
        for (number, entry) in index.keys.iter().enumerate() {
            let length = entry.offset.checked_sub(self.at).filter(|length| *length <= GAP_BYTES_MAX);
            let length = length.ok_or_else(|| damaged("does not have its values where the index says"))?;
            gap.resize(length as usize, 0);
            self.fill(&mut gap)?;
            if !is_gap(&gap, &head_of(entry), number == 0) {
                return Err(
                    damaged(&format!("does not have the key `{}` where the index says", entry.key)).into()
                );
            }
            let payload = self.payload(entry)?;
            on_value(DumpedValue { entry, payload })?;
        }
        self.finish()
    }

    /// What RESTORE takes: its last ten bytes are no part of the file.
    fn payload(&mut self, entry: &KeyEntry) -> Result<Vec<u8>, ArchiveReadError> {
        debug_assert!(entry.length <= PAYLOAD_BYTES_MAX, "the index has been checked");
        let mut payload = Vec::with_capacity(entry.length.min(1 << 20) as usize + 11);
        payload.push(entry.encoding);
        let mut left = entry.length;
        while left > 0 {
            // What is not there is not reserved either.
            let from = payload.len();
            let portion = left.min(1 << 20) as usize;
            payload.resize(from + portion, 0);
            self.fill(&mut payload[from..])?;
            left -= portion as u64;
        }
        payload.extend_from_slice(&self.index.rdb_version.to_le_bytes());
        let mut sum = RdbChecksum::default();
        sum.add(&payload);
        payload.extend_from_slice(&sum.value().to_le_bytes());
        Ok(payload)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ArchiveReadError> {
        self.content.read_exact(bytes).map_err(|error| damaged(&format!("ends too soon: {error}")))?;
        self.at += bytes.len() as u64;
        self.sum.add(bytes);
        Ok(())
    }

    /// The end of the data bases, and the checksum of everything before it.
    fn finish(mut self) -> Result<(), ArchiveReadError> {
        let mut rest = Vec::new();
        let read = self.content.take(GAP_BYTES_MAX).read_to_end(&mut rest);
        read.map_err(|error| damaged(&format!("ends too soon: {error}")))?;
        let Some(at) = rest.len().checked_sub(CHECKSUM_BYTES) else {
            return Err(damaged("has no end").into());
        };
        self.sum.add(&rest[..at]);
        if rest[at..] != self.sum.value().to_le_bytes() || rest[..at] != [0xff] {
            return Err(damaged("does not end as an RDB file does").into());
        }
        Ok(())
    }
}

/// Whether nothing but a time to live stands between a value and the head of the next; before the first there are
/// words about the file.
fn is_gap(gap: &[u8], head: &[u8], is_first: bool) -> bool {
    let Some(front) = gap.strip_suffix(head) else { return false };
    is_first || front.is_empty() || (front.len() == 9 && front[0] == EXPIRES_MS)
}

fn damaged(what: &str) -> ArchiveFault {
    ArchiveFault::entry("maestro/redis/dump.rdb", what)
}

/// What stands in front of a value: how it is written, the length of the key, the key.
fn head_of(entry: &KeyEntry) -> Vec<u8> {
    let key = entry.key.as_bytes();
    let mut head = vec![entry.encoding];
    match key.len() {
        length @ 0..64 => head.push(length as u8),
        length @ 64..16384 => head.extend_from_slice(&((length as u16) | 0x4000).to_be_bytes()),
        length => {
            head.push(0x80);
            head.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
    head.extend_from_slice(key);
    head
}

/// Every key is one of the cluster's, of the type it has to have, and there once.
pub(super) fn check_keys(manifest: &Manifest, index: &RedisIndex) -> Result<(), ArchiveFault> {
    let contradiction = |what: String| Err(ArchiveFault::Contradiction { what });
    let pointer = format!("{}:ctl", manifest.namespace);
    let cell = format!("{}:{{{}.", manifest.namespace, manifest.generation);
    let mut seen = HashSet::new();
    let mut cells = 0;
    for entry in &index.keys {
        if !seen.insert(entry.key.as_str()) {
            return contradiction(format!("the key `{}` is in the index twice", entry.key));
        }
        if entry.key == pointer {
            KeyShape::checked("ctl", entry.key_type)?;
            continue;
        }
        let name = entry.key.strip_prefix(&cell).and_then(|rest| rest.split_once("}:"));
        let Some((cell, name)) = name else {
            return contradiction(format!("the key `{}` is none of its cluster", entry.key));
        };
        if cell != "0" {
            return contradiction(format!("the key `{}` is of a cell that is not known here", entry.key));
        }
        KeyShape::checked(name, entry.key_type)?;
        cells += usize::from(name == "ctl");
    }
    if cells == 1 { Ok(()) } else { contradiction("it has no cell".to_owned()) }
}
