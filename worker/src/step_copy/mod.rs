//! Workspaces that begin as a copy of what another step left (`workspace: <step id>`).
//!
//! - `source`: which folder that is, and on which worker it may be
//! - `bring`: copying it here: by the file system if it is on this host, else through Redis
//! - `send`: the other end of that
//!
//! Bytes travel in a bounded window (`store::relay`) as tar entries (`tree`); nothing of a folder is ever a key.
//! A folder that nobody has any more ends the run, because its step would have to run again.

mod bring;
mod send;
mod source;
mod stream;

pub use bring::{Bringer, CopyError};
pub(crate) use send::send_folder;
pub use source::SourceTask;
pub(crate) use source::place_of;
pub(crate) use stream::{PieceReader, pieces};
