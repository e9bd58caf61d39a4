//! Going back to a snapshot, with real processes: what comes back, what is refused, and what a kill leaves behind.

mod support;

#[path = "restoring/faults.rs"]
mod faults;
#[path = "restoring/incident.rs"]
mod incident;
#[path = "restoring/refusals.rs"]
mod refusals;
#[path = "restoring/scene.rs"]
mod scene;
#[path = "restoring/whole.rs"]
mod whole;
