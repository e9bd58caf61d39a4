//! A generation of keys loaded beside the one in force, and put in its place in one step.
//!
//! - `loading`: keys from a snapshot under a generation that nobody uses, and what their tasks become
//! - `journal`: how far a restore has come, for whoever finishes it
//! - `commit`: the step itself, and what follows it
//! - `comparing`: whether a key of a snapshot is the same now
//!
//! Nothing here reads an archive or touches a folder, and all of it may be repeated.

mod commit;
mod comparing;
mod journal;
mod loading;

pub use commit::{Committed, RestoreCommit};
pub use comparing::KeyComparison;
pub use journal::{JOURNAL_VERSION, JournaledFolder, RestoreJournal, RestoreStage};
pub use loading::{LoadRefusal, LoadingCell, PayloadChecks};
