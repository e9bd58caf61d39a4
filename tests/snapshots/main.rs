//! Snapshots of clusters of real processes: taking them, and going back to them; and clusters that are shut down.

mod failsafe;
mod restoring;
mod steps;
mod stopping;
#[path = "../support/mod.rs"]
mod support;
mod taking;
