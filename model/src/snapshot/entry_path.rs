//! The name of an entry: bytes, checked once, and a text form that survives JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::fault::ArchiveFault;

/// Longest name of an entry, bytes.
pub const PATH_BYTES_MAX: usize = 16 << 10;
/// Most components of a name.
pub const PATH_DEPTH_MAX: usize = 264;

/// A lawful name: relative, each component neither empty nor `.` nor `..`, no NUL.
///
/// As text, bytes that are no UTF-8, control characters and `%` are written `%XX`; every name has one such text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// Checks a name as it stands in the archive, without the `/` that ends the name of a folder.
    ///
    /// # Errors
    /// `Entry` with the rule that it breaks.
    pub fn new(bytes: &[u8]) -> Result<EntryPath, ArchiveFault> {
        match broken_rule(bytes) {
            None => Ok(EntryPath(bytes.to_vec())),
            Some(what) => {
                let start = &bytes[..bytes.len().min(255)];
                Err(ArchiveFault::entry(text_of(start), what))
            }
        }
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// `Entry` if it is no name, or not the one text of a name.
    pub fn from_text(text: &str) -> Result<EntryPath, ArchiveFault> {
        let refused = || ArchiveFault::entry(text, "is not how a name is written");
        let bytes = bytes_of(text).ok_or_else(refused)?;
        let path = EntryPath::new(&bytes)?;
        if text_of(&path.0) == text { Ok(path) } else { Err(refused()) }
    }

    /// The name as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its components, first to last.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// This name and one below it.
    ///
    /// # Errors
    /// `Entry` if the result is no name.
    pub fn join(&self, below: &[u8]) -> Result<EntryPath, ArchiveFault> {
        let mut bytes = self.0.clone();
        bytes.push(b'/');
        bytes.extend_from_slice(below);
        EntryPath::new(&bytes)
    }
}

fn broken_rule(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("has no name");
    }
    if bytes.len() > PATH_BYTES_MAX {
        return Some("has a name of more than 16 KiB");
    }
    if bytes.contains(&0) {
        return Some("has a NUL in its name");
    }
    if bytes[0] == b'/' {
        return Some("is an absolute name");
    }
    let mut depth = 0;
    for component in bytes.split(|byte| *byte == b'/') {
        depth += 1;
        match component {
            b".." => return Some("leads out of its folder"),
            b"" | b"." => return Some("has an empty part in its name"),
            _ => {}
        }
    }
    (depth > PATH_DEPTH_MAX).then_some("lies more than 264 folders deep")
}

/// The one text of some bytes.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter == '%' || letter.is_control() {
                let mut buffer = [0; 4];
                letter.encode_utf8(&mut buffer).bytes().for_each(|byte| push_escaped(&mut text, byte));
            } else {
                text.push(letter);
            }
        }
        chunk.invalid().iter().for_each(|byte| push_escaped(&mut text, *byte));
    }
    text
}

fn push_escaped(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(DIGITS[usize::from(byte >> 4)] as char);
    text.push(DIGITS[usize::from(byte & 15)] as char);
}

/// The bytes of a text; none if a `%` is not followed by two digits.
pub(super) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|byte| (*byte as char).to_digit(16));
        bytes.push((digit(0)? * 16 + digit(1)?) as u8);
        rest = &after[2..];
    }
    Some(bytes)
}

impl fmt::Display for EntryPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&text_of(&self.0))
    }
}

impl From<EntryPath> for String {
    fn from(path: EntryPath) -> String {
        path.to_string()
    }
}

impl TryFrom<String> for EntryPath {
    type Error = ArchiveFault;

    fn try_from(text: String) -> Result<EntryPath, ArchiveFault> {
        EntryPath::from_text(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let deep = "a/".repeat(PATH_DEPTH_MAX) + "a";
        let long = "a".repeat(PATH_BYTES_MAX + 1);
        for wrong in ["", "/etc/passwd", "..", "a/../b", "a//b", "a/./b", "a/", "./a", "a\0b", &deep, &long] {
            assert!(EntryPath::new(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        for right in ["a", "maestro/workspaces/w/a/t/..x", "a/...", ".git/config"] {
            assert!(EntryPath::new(right.as_bytes()).is_ok(), "{right:?}");
        }
    }

    #[test]
    fn every_name_has_one_text() {
        for bytes in [&b"a b/\xc3\xa4"[..], b"\xff\xfe/%41", b"new\nline", b"tab\t"] {
            let path = EntryPath::new(bytes).expect("lawful");
            let text = path.to_string();
            assert_eq!(EntryPath::from_text(&text), Ok(path), "{text}");
        }
        for wrong in ["%41", "%4", "%", "%zz", "a%0a", "%C3%A4"] {
            assert!(EntryPath::from_text(wrong).is_err(), "{wrong}");
        }
    }
}
