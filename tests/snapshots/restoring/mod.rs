//! Going back to a snapshot, with real processes: what comes back, what is refused, and what a kill leaves behind.

mod faults;
mod incident;
mod refusals;
mod rollback;
pub(crate) mod scene;
mod whole;
