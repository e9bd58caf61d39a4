//! `agents.yaml`: agent types and assignments, for people and for `agent assign --from-snapshot`.

use serde::{Deserialize, Serialize};

use crate::assignment::Assignment;

/// The version of the file.
pub const AGENTS_FILE_VERSION: u32 = 1;

/// What stands in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentsFile {
    /// `AGENTS_FILE_VERSION`.
    pub v: u32,
    /// Registered agent types as they are stored, by slug.
    #[serde(default)]
    pub types: Vec<serde_json::Value>,
    /// Assigned agents, by id.
    #[serde(default)]
    pub assignments: Vec<Assignment>,
}
