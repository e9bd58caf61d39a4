//! Folders of a snapshot brought to this host: staged beside their places, and put there when the restore is in force.
//!
//! - `holder`: the folder beside a place, and how far it has come
//! - `staging`: receiving and unpacking into it, compared with what the archive says
//! - `exchange`: the step that puts it into its place
//!
//! All that is known lies on the disk, so a worker that was restarted goes on, and every question may be asked again.
//! What stood in a place is kept beside it until the restore is over.

mod exchange;
mod holder;
mod staging;

pub(crate) use exchange::{drop_staged, place_staged};
pub(crate) use holder::{Holder, StagingState};
pub(crate) use staging::{StagingOrder, receive_staged};
