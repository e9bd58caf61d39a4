//! A cluster for a test: a Redis of its own, real processes, and a look at all that is left at the end.
//!
//! - `cluster`: the whole, with one environment and one folder
//! - `process`: a process with a log file, that can be killed, paused and asked to end
//! - `redis_server`: the Redis
//! - `redis_group`: several of them that belong together: sentinels, a Redis Cluster
//! - `engine`: a container engine
//! - `fault_proxy`: a road to Redis that can be cut, frozen, slowed, and that loses replies
//! - `observer`: what Redis says, read with the crates
//! - `audit`: the stream of events as a story that can be wrong
//! - `leftovers`: what must be gone at the end
//! - `skipped`: what cannot run on this host
//! - `wait`: waiting for a condition

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test binary uses a part of it")]

mod audit;
mod cluster;
pub mod engine;
mod fault_proxy;
mod leftovers;
mod observer;
mod process;
mod redis_group;
mod redis_server;
mod skipped;
mod wait;

pub use audit::{AuditReport, audit};
pub use cluster::{Answer, ClusterSetup, TestCluster, hand_over};
pub use fault_proxy::FaultProxy;
pub use leftovers::{descendants, processes_with};
pub use observer::{Observer, RunStory};
pub use process::Member;
pub use redis_group::RedisGroup;
pub use redis_server::TestServer;
pub use skipped::skip;
pub use wait::wait_until;
