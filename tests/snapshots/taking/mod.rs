//! Taking snapshots with real processes: what is in them, what they agree with, and who goes on when somebody dies.

mod automatic;
mod kills;
mod load;
mod plain;
mod scene;
