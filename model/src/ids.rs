//! Names and numbers that identify things, each a type of its own, checked once on entry.
//!
//! Nothing here knows where an id is stored; how a key is built from one is `store`'s business.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not the id it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}: {rule}")]
pub struct IdError {
    /// What the caller gave.
    pub text: String,
    /// What it should have been, with its article.
    pub wanted: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// The alphabet of generated ids: Crockford's base 32 in lower case, which has no letter that reads as a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters of a run id: one for the cell, eleven at random (55 bits).
pub const RUN_ID_LENGTH: usize = 12;

/// One execution of a workflow.
///
/// Its first character is the cell that holds all its keys, so that an id alone tells where to look.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// Makes a new id in a cell (0 to 31).
    ///
    /// # Panics
    /// If the cell is 32 or more: there are 32 letters to name one.
    pub fn random(cell: u8) -> RunId {
        assert!(cell < 32, "a cell is one of 32, not {cell}");
        let mut text = String::with_capacity(RUN_ID_LENGTH);
        text.push(ALPHABET[usize::from(cell)] as char);
        text.extend((1..RUN_ID_LENGTH).map(|_| ALPHABET[rand::random_range(0..32)] as char));
        RunId(text)
    }

    /// The cell that holds the run.
    pub fn cell(&self) -> u8 {
        let first = self.0.as_bytes()[0];
        let place = ALPHABET.iter().position(|letter| *letter == first);
        place.expect("checked when the id was made") as u8
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<RunId, IdError> {
        let lawful = text.len() == RUN_ID_LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte));
        if lawful {
            Ok(RunId(text.to_owned()))
        } else {
            Err(IdError {
                text: text.to_owned(),
                wanted: "a run id",
                rule: "it has 12 characters out of 0-9 and a-z without i, l, o and u",
            })
        }
    }
}

/// One step of one run: the run and the task's index in it, written `<run>.<index>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId {
    /// The run it belongs to.
    pub run: RunId,
    /// Its place in the run's plan.
    pub index: u32,
}

impl FromStr for TaskId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<TaskId, IdError> {
        let refused = || IdError {
            text: text.to_owned(),
            wanted: "a task id",
            rule: "it is a run id, a dot and a number, as in `0k3v9x2mqf1a.7`",
        };
        let (run, index) = text.split_once('.').ok_or_else(refused)?;
        let run = run.parse().map_err(|_| refused())?;
        let index = index.parse().map_err(|_| refused())?;
        Ok(TaskId { run, index })
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.run, self.index)
    }
}

/// One try of a task, numbered from 1. The number is the fencing token: it only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// One start of a worker or coordinator process: random, so that two processes of one name differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(String);

impl Incarnation {
    /// A new one, 80 bits at random.
    pub fn random() -> Incarnation {
        Incarnation((0..16).map(|_| ALPHABET[rand::random_range(0..32)] as char).collect())
    }

    /// Takes one as it is stored.
    pub fn from_stored(text: impl Into<String>) -> Incarnation {
        Incarnation(text.into())
    }

    /// The incarnation as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Longest slug, step id or worker name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

fn is_name(text: &str) -> bool {
    let starts_well = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric() || first == b'_');
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    starts_well && text.len() <= NAME_BYTES_MAX && text.bytes().all(lawful)
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<$name, IdError> {
                if is_name(text) {
                    Ok($name(text.to_owned()))
                } else {
                    Err(IdError {
                        text: text.to_owned(),
                        wanted: $wanted,
                        rule: "it has up to 128 letters, digits, `.`, `_` and `-`, and does not begin with `.` or `-`",
                    })
                }
            }
        }

        text_type!($name);
    };
}

macro_rules! text_type {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<$name, IdError> {
                text.parse()
            }
        }
    };
}

text_type!(RunId);

impl From<TaskId> for String {
    fn from(id: TaskId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for TaskId {
    type Error = IdError;

    fn try_from(text: String) -> Result<TaskId, IdError> {
        text.parse()
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

name_type!(
    /// The file name of an agent type in `agents.d`, without its ending.
    AgentSlug,
    "the slug of an agent type"
);
name_type!(
    /// An agent that was assigned to a folder: `--name`, else the slug of its type.
    AgentId,
    "the id of an agent"
);
name_type!(
    /// A node of a workflow.
    StepId,
    "a step id"
);
name_type!(
    /// What a worker calls itself: `--name`, else the host's name.
    WorkerName,
    "a worker name"
);
name_type!(
    /// What a workflow is stored under.
    WorkflowName,
    "a workflow name"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_carries_its_cell_and_survives_text() {
        for cell in [0, 7, 31] {
            let id = RunId::random(cell);
            assert_eq!(id.cell(), cell);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn a_task_id_is_a_run_and_a_number() {
        let run = RunId::random(0);
        let id: TaskId = format!("{run}.12").parse().expect("a lawful id");
        assert_eq!((id.run, id.index), (run, 12));
        for wrong in ["", "12", "abc.1", "0k3v9x2mqf1a", "0k3v9x2mqf1a.", "0k3v9x2mqf1a.-1", "0k3v9x2mqf1u.1"]
        {
            assert!(wrong.parse::<TaskId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_stay_inside_a_folder_and_a_key() {
        for right in ["a", "code-reviewer", "_x", "v1.2"] {
            assert!(right.parse::<AgentSlug>().is_ok(), "{right}");
        }
        for wrong in ["", "..", ".hidden", "-rf", "a/b", "a b", "a:b", "ä", "a{b}"] {
            assert!(wrong.parse::<StepId>().is_err(), "{wrong}");
        }
    }
}
