//! The coordinator: submits runs, sweeps, leads, expands `foreach`, collects what is old, looks after health, takes
//! snapshots.
//!
//! It starts no agent and is on no task's path: workers carry the graph forward alone. Any number may
//! run; one leads. The command line uses `submit` as a library and needs no running coordinator.

pub mod agent_conditions;
pub mod alerts;
pub mod archive;
pub mod automatic;
pub mod counting;
pub mod expansion;
pub mod gauges;
pub mod health;
pub mod restoring;
pub mod resuming;
pub mod service;
pub mod snapshot;
pub mod submission;
