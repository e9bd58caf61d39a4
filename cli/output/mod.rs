//! Everything the command prints, and how: formats, tables, colours, errors.
//!
//! Nothing else in `cli/` writes to standard output or standard error, except `live`, which draws
//! frames made from the same pieces.

pub(crate) mod foreign;
pub(crate) mod format;
pub(crate) mod moment;
pub(crate) mod printer;
pub(crate) mod progress;
pub(crate) mod shape;
pub(crate) mod tone;
