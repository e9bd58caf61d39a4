//! Real agents, real processes: each attempt ends as it should and leaves nothing behind.
//!
//! Every agent carries a mark of its own in its environment, which all that it starts inherits; a test is
//! over only when no process with that mark is left.

mod bounds;
mod confined;
mod doors;
mod doors_watch;
mod faults;
mod host;
mod isolation;
mod launched;
mod limits;
mod masks;
mod outcomes;
mod output;
mod process;
mod support;
mod templates;
mod trees;
mod walls;
