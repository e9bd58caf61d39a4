//! The commands that ask a cluster, with a Redis of the test's own.

mod agents;
mod cluster;
mod doctor;
mod explain;
mod ids;
mod logs;
mod operating;
mod queues;
mod redis_trouble;
mod state;
mod tasks;
mod workflows;
