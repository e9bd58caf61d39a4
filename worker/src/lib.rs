//! The worker: claims tasks, makes workspaces, launches agents, reports.
//!
//! Of the graph it decides only `when`; everything else about order stands in Redis. It never meets the
//! coordinator. `dispatcher` decides, `service` does; `attempt` runs one attempt, `launch` is the child process
//! that starts all process agents, and `container` speaks with the engine that runs the others.

pub mod answer;
pub mod assigned;
pub mod attaching;
pub mod attempt;
pub mod beats;
pub mod bells;
mod causes;
pub mod confinement;
pub mod container;
pub mod decide;
pub mod dispatcher;
pub mod events;
pub mod failsafe;
mod freezing;
pub mod git_tree;
pub mod held;
mod host_checks;
pub mod identity;
pub mod intake;
pub mod janitor;
pub mod journal;
pub mod killed;
pub mod kilo_modes;
pub mod known_runs;
pub mod launch;
pub mod launch_order;
pub mod log_capture;
pub mod log_shipper;
pub mod mailbox;
mod packing;
mod placing;
pub mod recovery;
pub mod requests;
pub mod running;
pub mod sampler;
pub mod service;
pub mod serving;
pub mod settings;
pub mod side_door;
pub mod standstill;
pub mod step_copy;
mod trace_notes;
pub mod tree;
pub mod under_way;
pub mod usage;
pub mod workspace;
mod workspace_size;

#[cfg(test)]
mod samples;
