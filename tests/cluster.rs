//! A cluster of real processes while things go wrong: processes killed and paused, roads cut, Redis gone.
//!
//! After each fault the stream of events is read as a story that can be wrong (see `support::audit`), and at
//! the end nothing may be left: no process, no key, no folder. Seeds are printed; `MAESTRO_SEED` repeats one.

mod support;

#[path = "cluster/faults/mod.rs"]
mod faults;
#[path = "cluster/following.rs"]
mod following;
#[path = "cluster/graphs.rs"]
mod graphs;
#[path = "cluster/odd_input.rs"]
mod odd_input;
#[path = "cluster/records.rs"]
mod records;
#[path = "cluster/side_door.rs"]
mod side_door;
#[path = "cluster/worker_health.rs"]
mod worker_health;
