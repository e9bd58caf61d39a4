//! All that Maestro keeps in Redis, and the only crate that speaks to it.
//!
//! Every change of a task's state is one script (`scripts/`), which checks attempt, holder and epoch
//! itself and uses Redis' clock; every script can be sent twice. One method stands for one intention.
//! Deliberately not here: any decision about what should happen. `docs/protocol.md` lists the keys.

pub mod address;
pub mod assignments;
pub mod brought;
mod bundle;
pub mod cell;
pub mod definitions;
pub mod duties;
pub mod encode;
pub mod error;
pub mod events;
pub mod failpoint;
pub mod flush;
pub mod freezing;
pub mod inspect;
pub mod key_dump;
pub mod keys;
pub mod link;
pub mod logs;
pub mod mailbox;
pub mod mode;
pub mod process_status;
pub mod queues;
pub mod record;
pub mod recovery;
pub mod relay;
pub mod rerun;
pub mod restoring;
pub mod road;
pub mod runs;
pub mod scripts;
pub mod state;
pub mod step;
mod step_wire;
pub mod submit;
pub mod trace;
pub mod watching;
pub mod worker;

pub use cell::{Store, StoreOptions};
pub use error::{Refusal, StoreError};
