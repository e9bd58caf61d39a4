//! Whether a key of a snapshot is the same now.
//!
//! Redis writes a hash or a set that is large in the order of a table that differs from process to process: such are
//! compared as what is in them.

use redis::Value;

use crate::cell::{Store, decode};
use crate::error::StoreError;
use crate::queues::glob_literal;

/// How values of sets and hashes that are tables are written.
const SET_TABLE: u8 = 2;
const HASH_TABLE: u8 = 4;
/// What stands behind a value.
const FOOTER_BYTES: usize = 10;
/// Keys looked at in one step.
const SCAN_COUNT: u32 = 1000;

/// A key of a snapshot beside the one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyComparison {
    /// There is none.
    Absent,
    /// It is another.
    Different,
    /// It is the same.
    Same,
}

impl Store {
    /// Compares a key of the cell with a value as RESTORE takes it.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn compare_key(&self, name: &str, payload: &[u8]) -> Result<KeyComparison, StoreError> {
        let dump = redis::cmd("DUMP").arg(format!("{}{name}", self.keys().prefix())).to_owned();
        let present: Value = self.ask(&dump).await?;
        let present: Option<Vec<u8>> = decode("a value", present)?;
        let Some(present) = present else { return Ok(KeyComparison::Absent) };
        let same = content_of(&present) == content_of(payload);
        Ok(if same { KeyComparison::Same } else { KeyComparison::Different })
    }

    /// Names of all keys of the cell, without its prefix, in no order.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn cell_key_names(&self) -> Result<Vec<String>, StoreError> {
        let prefix = self.keys().prefix();
        let pattern = format!("{}*", glob_literal(prefix));
        let mut names = std::collections::BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN_COUNT);
            let (next, found): (String, Vec<String>) = decode("a scan", self.ask(&scan).await?)?;
            names.extend(found.iter().filter_map(|key| key.strip_prefix(prefix)).map(str::to_owned));
            if next == "0" {
                return Ok(names.into_iter().collect());
            }
            cursor = next;
        }
    }
}

/// What is in a value, whatever the order in which a table has it.
fn content_of(payload: &[u8]) -> Vec<&[u8]> {
    let value = &payload[..payload.len().saturating_sub(FOOTER_BYTES)];
    let per_entry = match value.first() {
        Some(&SET_TABLE) => 1,
        Some(&HASH_TABLE) => 2,
        _ => return vec![value],
    };
    entries(&value[1..], per_entry).unwrap_or_else(|| vec![value])
}

/// The entries of a table, sorted; none if it is not written as one.
fn entries(value: &[u8], per_entry: usize) -> Option<Vec<&[u8]>> {
    let (count, mut rest) = length(value)?;
    let mut found = Vec::new();
    for _ in 0..count {
        let mut behind = rest;
        for _ in 0..per_entry {
            behind = behind.get(text_bytes(behind)?..)?;
        }
        found.push(&rest[..rest.len() - behind.len()]);
        rest = behind;
    }
    found.sort_unstable();
    rest.is_empty().then_some(found)
}

/// A length, and what follows it.
fn length(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let wide = |width: usize| {
        let number = rest.get(..width)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Some((number, rest.get(width..)?))
    };
    match (first >> 6, first) {
        (0, _) => Some((u64::from(first & 0x3f), rest)),
        (1, _) => Some((u64::from(first & 0x3f) << 8 | u64::from(*rest.first()?), rest.get(1..)?)),
        (2, 0x80) => wide(4),
        (2, 0x81) => wide(8),
        _ => None,
    }
}

/// How many bytes a text takes with its length: as it is, as a number, or packed.
fn text_bytes(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        0xc0 => Some(2),
        0xc1 => Some(3),
        0xc2 => Some(5),
        0xc3 => {
            let (packed, rest) = length(bytes.get(1..)?)?;
            let (_, rest) = length(rest)?;
            Some(bytes.len() - rest.len() + usize::try_from(packed).ok()?)
        }
        _ => {
            let (text, rest) = length(bytes)?;
            Some(bytes.len() - rest.len() + usize::try_from(text).ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_the_same_in_any_order_and_broken_ones_are_none() {
        let footer = [0; FOOTER_BYTES];
        let one = [&[4, 2, 1, b'a', 1, b'1', 1, b'b', 0xc0, 7][..], &footer].concat();
        let other = [&[4, 2, 1, b'b', 0xc0, 7, 1, b'a', 1, b'1'][..], &footer].concat();
        let changed = [&[4, 2, 1, b'b', 0xc0, 8, 1, b'a', 1, b'1'][..], &footer].concat();
        assert_eq!(content_of(&one), content_of(&other));
        assert_ne!(content_of(&one), content_of(&changed));
        let broken = [&[4, 9, 1, b'a'][..], &footer].concat();
        assert_eq!(content_of(&broken), vec![&broken[..4]]);
        let nothing: &[u8] = &[];
        assert_eq!(content_of(nothing), vec![nothing]);
    }
}
