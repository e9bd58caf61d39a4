//! A checked workflow and its inputs to a plan that can be submitted.
//!
//! Nothing is read and nobody is asked: agent types and inputs come as arguments. What cannot be
//! decided before the run (`foreach` over an output, a `when` over shared state) stays in the plan
//! as an expression.
//!
//! - `inputs`: what a run is given beside its workflow, and what can be worked out from that alone
//! - `expand`: which `foreach` can be expanded now, and into what
//! - `spec`: what tasks have in common, each kept once
//! - `number`: which task gets which number
//! - `assemble`: the plan out of all that

mod assemble;
mod expand;
mod inputs;
mod number;
mod spec;

#[cfg(test)]
mod tests;

pub use assemble::compile;
pub use inputs::{DEFAULT_PRIORITY, RunInputs};
pub(crate) use spec::{agent_type_names, references};
