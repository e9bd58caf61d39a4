//! Folders packed and unpacked: what comes back is what went in, plain `tar` agrees, and nothing hostile passes.

mod hostile;
mod likeness;
mod round_trip;
