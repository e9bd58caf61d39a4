//! One fault after the other; the letters are those of the catalogue in the design's research.
//!
//! - `kills`: processes that die (C1, C14, C16)
//! - `silence`: processes that are cut off or stand still (C4, C5, C9)
//! - `roads`: replies that are lost, connections that are cut, scripts that are flushed (C2, C6, C12)
//! - `endings`: draining, cancelling, names that are taken (C15, C17)

mod endings;
mod kills;
mod roads;
mod silence;
