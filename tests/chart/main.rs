//! The chart for Kubernetes and the image it starts.
//!
//! - `checks`: what the chart renders, by Python programs with the real Helm library
//! - `pods`: what is rendered, started in a container engine as a kubelet would
//! - `stage`: images, a cluster of pods, tasks that tell
//! - `scaling`: workers that are taken away; `losing`: new versions, nodes that are lost or cut off
//!
//! Python, because that is where Helm's library and the schemas of Kubernetes can be had without a cluster.

mod checks;
mod losing;
mod pods;
mod scaling;
mod stage;
#[path = "../support/mod.rs"]
mod support;
