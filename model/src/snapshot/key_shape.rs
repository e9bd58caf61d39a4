//! Which keys a cell has, of which type, and what becomes of each in a restore.
//!
//! A key or a type that is not here is not loaded: an archive cannot bring anything into Redis that Maestro
//! itself does not keep there.

use serde::{Deserialize, Serialize};

use super::fault::ArchiveFault;

/// The type of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    /// One text.
    String,
    /// Fields with values.
    Hash,
    /// Texts in a row.
    List,
    /// Texts, each once.
    Set,
    /// Texts with a score.
    Zset,
    /// Entries in the order of their coming.
    Stream,
}

impl KeyType {
    /// By the word of the command TYPE.
    pub fn from_word(word: &str) -> Option<KeyType> {
        Some(match word {
            "string" => KeyType::String,
            "hash" => KeyType::Hash,
            "list" => KeyType::List,
            "set" => KeyType::Set,
            "zset" => KeyType::Zset,
            "stream" => KeyType::Stream,
            _ => return None,
        })
    }

    /// Whether values of this type are written so: the first byte of a payload, from Redis 2.6 to 8.
    pub fn has_encoding(self, encoding: u8) -> bool {
        match self {
            KeyType::String => encoding == 0,
            KeyType::List => [1, 10, 14, 18].contains(&encoding),
            KeyType::Set => [2, 11, 20].contains(&encoding),
            KeyType::Zset => [3, 5, 12, 17].contains(&encoding),
            KeyType::Hash => [4, 9, 13, 16, 22, 23, 24, 25].contains(&encoding),
            KeyType::Stream => [15, 19, 21].contains(&encoding),
        }
    }
}

/// What becomes of a key in a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFate {
    /// It comes back.
    Kept,
    /// It spoke of processes that are gone, or is a hint: it does not.
    Left,
}

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyShape {
    /// The only type it may have.
    pub key_type: KeyType,
    /// What a restore makes of it.
    pub fate: KeyFate,
}

/// Keys by their whole name within a cell.
const WHOLE: [(&str, KeyType, KeyFate); 21] = [
    ("ctl", KeyType::Hash, KeyFate::Kept),
    ("combined", KeyType::Set, KeyFate::Kept),
    ("vt", KeyType::Hash, KeyFate::Kept),
    ("delayed", KeyType::Zset, KeyFate::Kept),
    ("deadlines", KeyType::Zset, KeyFate::Kept),
    ("leases", KeyType::Zset, KeyFate::Left),
    ("names", KeyType::Hash, KeyFate::Left),
    ("lost", KeyType::Zset, KeyFate::Left),
    ("owing", KeyType::Set, KeyFate::Left),
    ("leader", KeyType::Hash, KeyFate::Left),
    ("agents", KeyType::Hash, KeyFate::Kept),
    ("limits", KeyType::Hash, KeyFate::Kept),
    ("assignments", KeyType::Hash, KeyFate::Kept),
    ("workflows", KeyType::Set, KeyFate::Kept),
    ("states", KeyType::Zset, KeyFate::Kept),
    ("events", KeyType::Stream, KeyFate::Kept),
    ("runs", KeyType::Zset, KeyFate::Kept),
    ("done", KeyType::Zset, KeyFate::Kept),
    ("loading", KeyType::Zset, KeyFate::Kept),
    ("todo", KeyType::List, KeyFate::Kept),
    ("freeze", KeyType::Hash, KeyFate::Left),
];

/// Keys by how they begin. What processes held comes back as well: a restore takes it apart task by task.
const BEGINNINGS: [(&str, KeyType, KeyFate); 14] = [
    ("q:", KeyType::Zset, KeyFate::Kept),
    ("bell:", KeyType::List, KeyFate::Left),
    ("w:", KeyType::Hash, KeyFate::Left),
    ("own:", KeyType::Set, KeyFate::Kept),
    ("ask:", KeyType::List, KeyFate::Left),
    ("alerts:", KeyType::Hash, KeyFate::Left),
    ("answer:", KeyType::List, KeyFate::Left),
    ("slots:", KeyType::Set, KeyFate::Kept),
    ("short:", KeyType::Set, KeyFate::Kept),
    ("pins:", KeyType::Set, KeyFate::Kept),
    ("dispatch:", KeyType::String, KeyFate::Kept),
    ("workflow:", KeyType::Hash, KeyFate::Kept),
    ("state:", KeyType::Hash, KeyFate::Kept),
    ("log:", KeyType::Stream, KeyFate::Kept),
];

/// Keys of a run by how they end; the first is the run itself.
const OF_A_RUN: [(&str, KeyType); 10] = [
    ("", KeyType::Hash),
    (":spec", KeyType::Hash),
    (":task", KeyType::Hash),
    (":left", KeyType::Hash),
    (":edge", KeyType::Hash),
    (":out", KeyType::Hash),
    (":win", KeyType::Hash),
    (":trace", KeyType::Stream),
    (":waits", KeyType::Zset),
    (":held", KeyType::Zset),
];

impl KeyShape {
    /// The kind of a key by its name within its cell; none if a cell has no such key.
    pub fn of(name: &str) -> Option<KeyShape> {
        if let Some(rest) = name.strip_prefix("r:") {
            let end = rest.find(':').unwrap_or(rest.len());
            let (run, end) = rest.split_at(end);
            run.parse::<crate::ids::RunId>().ok()?;
            let (_, key_type) = OF_A_RUN.iter().find(|(known, _)| *known == end)?;
            return Some(KeyShape { key_type: *key_type, fate: KeyFate::Kept });
        }
        let whole = WHOLE.iter().find(|(known, _, _)| *known == name);
        let begun =
            || BEGINNINGS.iter().find(|(known, _, _)| name.len() > known.len() && name.starts_with(known));
        whole.or_else(begun).map(|(_, key_type, fate)| KeyShape { key_type: *key_type, fate: *fate })
    }

    /// The kind of a key by its name within its cell.
    ///
    /// # Errors
    /// `Contradiction` if a cell has no such key, or not of that type.
    pub fn checked(name: &str, found: KeyType) -> Result<KeyShape, ArchiveFault> {
        let refuse = |what: String| Err(ArchiveFault::Contradiction { what });
        match KeyShape::of(name) {
            None => refuse(format!("maestro has no key `{name}`")),
            Some(shape) if shape.key_type != found => {
                refuse(format!("the key `{name}` is of type {:?}, expected {:?}", found, shape.key_type))
            }
            Some(shape) => Ok(shape),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_a_cell_have_a_shape() {
        let run = "0k3v9x2mqf1a";
        for (name, key_type) in [
            ("ctl".to_owned(), KeyType::Hash),
            (format!("r:{run}"), KeyType::Hash),
            (format!("r:{run}:trace"), KeyType::Stream),
            ("q:a:shell".to_owned(), KeyType::Zset),
            ("state:a:b:c".to_owned(), KeyType::Hash),
        ] {
            assert_eq!(KeyShape::of(&name).map(|shape| shape.key_type), Some(key_type), "{name}");
        }
        for wrong in ["", "other", "q:", "r:", "r:short", "r:0k3v9x2mqf1a:", "r:0k3v9x2mqf1a:other", "ctl2"] {
            assert_eq!(KeyShape::of(wrong), None, "{wrong}");
        }
        assert!(KeyShape::checked("ctl", KeyType::String).is_err());
    }
}
