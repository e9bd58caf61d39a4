//! What a process tells of itself to those who watch it: whether its main loop turns, what it has counted, and
//! all of it as OpenMetrics.
//!
//! No I/O and no Redis: who reads a cluster's numbers is `coordinator`, who serves the text is `cli`. Counters are
//! those of this process, whatever runs in it, as Prometheus wants them; nothing here is labelled with a task.
//!
//! Modules: `pulse` (the main loop), `tally` (counters of this process), `gauges` (numbers of the cluster),
//! `text` (both, written down). They import in this order.

pub mod gauges;
pub mod pulse;
pub mod tally;
pub mod text;
