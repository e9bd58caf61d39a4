//! What `maestro bench` does: plans of known shape, a run of each, and what Redis counted meanwhile.
//!
//! Peers and physical limits are measured by the scripts under `bench/`, not here.

pub(crate) mod measure;
pub(crate) mod shape;
