//! A cluster played by hand: random runs, random processes, random accidents, and what must hold after
//! each of them.
//!
//! Scripts are atomic, so the order of requests, and which of them or of their answers get lost or come
//! twice, is all the concurrency there is: one thread that picks the next request by a seeded die covers
//! it. Deliberately not here: real processes and real connections (the cluster tests have those).

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod actor;
pub mod again;
pub mod agents;
pub mod audit;
pub mod delivery;
pub mod dump;
pub mod endings;
pub mod invariants;
pub mod mutants;
pub mod operations;
pub mod places;
pub mod plans;
pub mod scenario;
pub mod stage;
pub mod statistics;
pub mod tasks;
pub mod world;

/// A rule that was broken, in words, with what was found.
#[derive(Debug)]
pub struct Violation(pub String);

/// Ends the function with a `Violation` unless the condition holds.
macro_rules! hold {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::simulation::Violation(format!($($words)+)));
        }
    };
}
pub(crate) use hold;
