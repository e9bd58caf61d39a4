//! The chart for Kubernetes and the image it starts.
//!
//! - `checks`: what the chart renders, by Python programs with the real Helm library
//!
//! Python, because that is where Helm's library and the schemas of Kubernetes can be had without a cluster.

mod checks;
#[path = "../support/mod.rs"]
mod support;
