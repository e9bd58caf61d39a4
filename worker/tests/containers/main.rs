//! Real agents in real containers: the suite of `attempts` once more, and what only containers can do.
//!
//! The engine is the tests' own. A test is over only when no process with its mark is left.

#[path = "../../examples/bare_containers/calls.rs"]
mod calls;
#[path = "../upkeep/support.rs"]
#[allow(dead_code, reason = "the tests of upkeep use the rest")]
mod cluster;
mod door;
#[path = "../../../tests/support/engine.rs"]
mod engine;
#[path = "../attempts/host.rs"]
#[allow(dead_code, reason = "the tests of processes use the rest")]
mod host;
mod isolation;
#[path = "../attempts/limits.rs"]
mod limits;
mod limits_bite;
mod many;
#[path = "../attempts/masks.rs"]
mod masks;
mod neighbours;
#[path = "../attempts/outcomes.rs"]
mod outcomes;
#[path = "../attempts/output.rs"]
mod output;
mod planted;
#[path = "../attempts/support.rs"]
#[allow(dead_code, reason = "the tests of processes use the rest")]
mod support;
mod surroundings;
#[path = "../attempts/trees.rs"]
mod trees;
