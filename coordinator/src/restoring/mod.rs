//! Bringing a cluster back to what a snapshot shows.
//!
//! - `plan`: what a restore would do; changes nothing
//! - `carry_out`: everything up to the one step that changes over
//! - `staging`: folders sent to workers, beside their places
//! - `finishing`: what follows that step; anybody may do it, and again
//!
//! Until the step, whatever fails leaves the cluster as it was; after it, it can only be finished. The archive has
//! been verified before (`archive`), and what Redis does is in `store::restoring`.

mod carry_out;
mod error;
mod finishing;
mod plan;
mod staging;

pub use carry_out::{RestoreProgress, RestoreReport, RestoreRequest, RestoreStep, restore};
pub use error::RestoreError;
pub use finishing::{FinishReport, finish_abandoned};
pub use plan::{ActiveTask, PlannedFolder, RestorePlan, plan_restore};
