//! Agents in containers, through the API that Docker and Podman share.
//!
//! ```text
//! attempt ──► ContainerEngine ──► create ─► attach ─► start ─► wait          (one driver task per container)
//!                  │                └ a network of its own, from a pool made ahead
//!                  └ cleaner: removes what has ended, off the path of the next task
//! ```
//!
//! `address` says where an engine may be and whether it answers, `engine` is the connection, `plan` says what
//! a container is made of, `sources` where on the host the paths of its type lie, `start` makes it, `agent` is the
//! hold on it and `drive` what happens until it ends, `pump` carries its streams, `signals` reaches its processes
//! from outside, `networks` is the pool, `cleaning` removes, and `leftovers` finds what dead workers left, by label.
//!
//! What an end means for the task is decided in `attempt`. Nothing here speaks to Redis.

mod address;
mod agent;
mod cleaning;
mod drive;
mod engine;
mod error;
mod image;
mod leftovers;
mod networks;
mod owner;
mod plan;
mod pump;
mod signals;
mod sources;
mod start;

pub use address::{EngineAddress, EngineGreeting};
pub use agent::{AgentContainer, ContainerEnd};
pub use engine::ContainerEngine;
pub use error::ContainerError;
pub use owner::{ContainerOwner, OWNER_LABELS};
pub(crate) use plan::{Bind, ContainerOrder};
pub(crate) use start::{Readied, progress_lines};
