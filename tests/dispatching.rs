//! What an operator types day by day, against real processes: dispatches, waits, retries, resumed and traced
//! runs, pauses, and the script that an incident playbook is.
//!
//! The agents are a stand-in for `kilo`: a shell script that does what its prompt says.

mod support;

#[path = "dispatching/ends.rs"]
mod ends;
#[path = "dispatching/keys.rs"]
mod keys;
#[path = "dispatching/playbook.rs"]
mod playbook;
#[path = "dispatching/queues.rs"]
mod queues;
#[path = "dispatching/retries.rs"]
mod retries;
#[path = "dispatching/session.rs"]
mod session;
#[path = "dispatching/traces.rs"]
mod traces;
