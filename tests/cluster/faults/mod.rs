//! One fault after the other; the letters are those of the catalogue in the design's research.
//!
//! - `kills`: processes that die (C1, C14, C16)
//! - `silence`: processes that are cut off or stand still (C4, C5, C9)
//! - `rollback`: a Redis that forgets, a second or all (C7, C12)
//! - `failover`: a replica takes the place of Redis (C8), and a Redis Cluster
//! - `roads`: replies that are lost, connections that are cut, scripts that are flushed (C2, C6, C12)
//! - `clock`: a clock that jumps (C10)
//! - `submitting`: a command that dies while it submits (C13)
//! - `endings`: draining, cancelling, names that are taken (C15, C17)

mod clock;
mod endings;
mod failover;
mod kills;
mod roads;
mod rollback;
mod silence;
mod submitting;
