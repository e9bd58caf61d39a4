//! The chart for Kubernetes and the image it starts.
//!
//! - `checks`: what the chart renders, by Python programs with the real Helm library
//! - `pods`: what is rendered, started in a container engine as a kubelet would
//! - `scaling`: Redis, coordinators and workers of the chart at work, and workers that are taken away
//!
//! Python, because that is where Helm's library and the schemas of Kubernetes can be had without a cluster.

mod checks;
mod pods;
mod scaling;
#[path = "../support/mod.rs"]
mod support;
