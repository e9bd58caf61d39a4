//! Whether the cluster is well: the rules, and what changes from one look to the next.
//!
//! Data in, problems out: `facts` reads what workers said of themselves, `rules` finds what is wrong with it,
//! `watch` compares looks. Nothing found is stored, so nothing can be out of date. Who is told is not here.

mod facts;
mod rules;
mod watch;

pub use facts::HealthFacts;
pub use rules::{HEARTBEAT_AGE_MAX_MS, HealthProblem, HealthRule, agent_problems, problems};
pub use watch::{ChangeKind, HealthChange, HealthWatch};
