//! Random workflows on a cluster of real processes, compared with a plain reference evaluator.
//!
//! `MAESTRO_SEED` repeats a run of the test, `MAESTRO_TRIALS` says how many workflows it makes; the seed of
//! each is printed with its difference, so that `MAESTRO_SEED=<that> MAESTRO_TRIALS=1` repeats that one alone.

mod support;

#[path = "workflows/chaos.rs"]
mod chaos;
#[path = "workflows/compare.rs"]
mod compare;
#[path = "workflows/evaluate.rs"]
mod evaluate;
#[path = "workflows/evaluate_tests.rs"]
mod evaluate_tests;
#[path = "workflows/generate.rs"]
mod generate;
#[path = "workflows/random.rs"]
mod random;
#[path = "workflows/resuming.rs"]
mod resuming;
#[path = "workflows/script.rs"]
mod script;
#[path = "workflows/sketch.rs"]
mod sketch;
#[path = "workflows/witness.rs"]
mod witness;
