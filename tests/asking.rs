//! The commands that ask a cluster, from outside: the real binary and a Redis of the test's own.
//!
//! What there is to ask about is put there through the store, as a worker would. Times are shown as
//! `[TIME]`, `[TOOK]` and `[AGO]`; run ids are chosen by the test.

#[path = "asking/agents.rs"]
mod agents;
#[path = "asking/cluster.rs"]
mod cluster;
#[path = "asking/doctor.rs"]
mod doctor;
#[path = "asking/explain.rs"]
mod explain;
#[path = "asking/ids.rs"]
mod ids;
#[path = "asking/logs.rs"]
mod logs;
#[path = "asking/operating.rs"]
mod operating;
#[path = "asking/queues.rs"]
mod queues;
#[path = "asking/redis_trouble.rs"]
mod redis_trouble;
#[path = "commands/sandbox.rs"]
#[expect(dead_code, reason = "`commands` uses the rest of it")]
mod sandbox;
#[path = "asking/state.rs"]
mod state;
#[path = "../store/tests/support/mod.rs"]
mod support;
#[path = "asking/tasks.rs"]
mod tasks;
#[path = "asking/workflows.rs"]
mod workflows;
