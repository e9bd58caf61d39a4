//! The worker: claims tasks, makes workspaces, launches agents, reports.
//!
//! Of the graph it decides only `when`; everything else about order stands in Redis. It never meets the
//! coordinator. `dispatcher` decides, `service` does; `attempt` runs one attempt of a process agent and
//! `launch` is the child process that starts them all.

pub mod attaching;
pub mod attempt;
pub mod beats;
pub mod bells;
pub mod decide;
pub mod dispatcher;
pub mod events;
pub mod git_tree;
pub mod held;
pub mod identity;
pub mod intake;
pub mod janitor;
pub mod known_runs;
pub mod launch;
pub mod launch_order;
pub mod log_capture;
pub mod log_shipper;
pub mod requests;
pub mod running;
pub mod service;
pub mod serving;
pub mod settings;
pub mod workspace;

#[cfg(test)]
mod samples;
