//! A snapshot's archive read from front to back, once, and believed in nothing.
//!
//! `members` turns the file into one stream and knows where its parts begin, `walk` turns that into checked
//! entries, `verify` compares all of them with the manifest, `redis_values` gives out the values of keys. `tail` reads
//! the end alone, and `outline` front and end, for those who cannot wait for the rest.
//! What is refused stands in `model::snapshot`; nothing is written to disk or to Redis here.

mod error;
mod links;
mod members;
mod outline;
mod redis_values;
mod tail;
mod verify;
mod walk;

pub use error::ArchiveReadError;
pub use outline::read_outline;
pub use redis_values::{DumpedValue, read_values};
pub(crate) use tail::find_manifest;
pub use verify::{VerifiedArchive, VerifiedWorkspace, verify_archive};
pub use walk::ReadProgress;
