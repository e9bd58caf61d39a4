//! Sending this worker's workspaces for a snapshot, while its agents stand still.
//!
//! - `choice`: which folders these are
//! - `members`: tar entries as gzip members, compressed on several cores, in their order
//! - `sending`: all of it as frames through the store's relay
//!
//! What is sent is bounded by the relay's window; nothing of a folder is ever kept. What the archive is called and
//! where it lies is not known here.

mod choice;
mod members;
mod sending;

pub(crate) use choice::PackChoice;
pub(crate) use sending::send_workspaces;
