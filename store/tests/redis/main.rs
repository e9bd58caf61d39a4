//! The scripts and everything around them, against a real Redis.
//!
//! - `table`: every script in every state; `whole_lives`, `submissions`, `retries`, `agents`: what they do in a row
//! - `model_based`: random scenarios with every rule checked; `mutants`: the same must notice mistakes
//! - `recovery`: a Redis that has forgotten; `relay`: passing files through it
//! - `freezing`, `restoring`: one instant, and going back to it
//! - `economy`: requests and bytes, counted; `voices`: what the audit stream says

mod agents;
mod economy;
mod freezing;
mod model_based;
mod mutants;
mod recovery;
mod relay;
mod restoring;
mod retries;
#[path = "../simulation/mod.rs"]
mod simulation;
mod submissions;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod voices;
mod whole_lives;
