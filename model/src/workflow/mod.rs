//! The workflow language: from a YAML file to a checked `Workflow`.
//!
//! Making a run of one is not here: see `compile`.
//!
//! - `definition`: the types, which are the JSON Schema as well
//! - `schema`: how they are written, for editors
//! - `edges`: who waits for whom, circles, and what templates imply
//! - `read`: nodes to types, key by key
//! - `names`: which names may stand in which text
//! - `check`: what only the whole can tell: unknown steps, double ids
//! - `snapshots`: steps for the snapshots that steps ask for
//! - `warnings`: what is allowed, but probably not meant
//! - `graph`: drawings of it

mod check;
mod definition;
mod edges;
mod graph;
mod names;
mod read;
mod schema;
mod snapshots;
mod warnings;

#[cfg(test)]
mod tests;

pub(crate) use check::too_many_items;
pub use check::{KnownNames, ParsedWorkflow, parse_workflow};
pub use definition::{
    ForeachList, PROMPT_BYTES_MAX, PublishValue, RetryRules, SnapshotMoment, Step, StepDefaults, Workflow,
    WorkspaceName,
};
pub use edges::StepEdge;
pub use graph::{GraphFormat, render_graph};
pub use schema::workflow_schema;
