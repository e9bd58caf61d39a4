//! All that Maestro keeps in Redis, and the only crate that speaks to it.
//!
//! Every change of a task's state is one script (`scripts/`), which checks attempt, holder and epoch
//! itself and uses Redis' clock; every script can be sent twice. One method stands for one intention.
//! Deliberately not here: any decision about what should happen. `docs/protocol.md` lists the keys.

pub mod brought;
pub mod cell;
pub mod definitions;
pub mod duties;
pub mod encode;
pub mod error;
pub mod events;
pub mod inspect;
pub mod keys;
pub mod link;
pub mod logs;
pub mod queues;
pub mod record;
pub mod runs;
pub mod scripts;
pub mod state;
pub mod step;
pub mod submit;
pub mod worker;

pub use cell::{Store, StoreOptions};
pub use error::{Refusal, StoreError};
