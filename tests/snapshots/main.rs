//! Snapshots of clusters of real processes: taking them, and going back to them.

mod restoring;
#[path = "../support/mod.rs"]
mod support;
mod taking;
