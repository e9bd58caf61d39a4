//! What an operator types day by day, against real processes: dispatches, waits, retries, resumed and traced
//! runs, pauses, and the script that an incident playbook is.
//!
//! The agents are a stand-in for `kilo`: a shell script that does what its prompt says.

mod ends;
mod keys;
mod model_cost;
mod playbook;
mod queues;
mod retries;
mod session;
mod traces;
