//! Archives of snapshots: what is refused, and that every change of a good one is found.

mod changes;
mod hostile;
mod maker;
