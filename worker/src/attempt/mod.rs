//! One attempt, from a rendered task to its report.
//!
//! `order` says what is to be done, `begin` starts it, `environment` what the agent finds around itself, `run` does
//! it, `agent` holds it while it runs and `follow` follows it, `files` says where its own files are, `ending` decides
//! what the end means, `own_end` that of an agent nobody ended. Claiming, rendering templates, `publish` and telling
//! Redis are the dispatcher's business; it never waits for an agent itself but runs one future per attempt:
//!
//! ```ignore
//! let attempt = runner.attempt(order, Some(logs));
//! let handle = attempt.handle();
//! running.spawn(attempt.run());       // the future's answer is the AttemptEnd
//! handle.stop(StopKind::Cancel);      // later, if need be
//! ```
//!
//! An attempt that is not polled does not start; one whose future is dropped is killed with all its processes.

mod agent;
mod begin;
mod ending;
mod environment;
mod files;
mod follow;
mod masking;
mod order;
mod own_end;
mod own_home;
mod pause;
mod prepare;
mod run;
mod secrets;
mod stop;
mod walls;

pub use ending::{AttemptEnd, BrokenPart};
pub use environment::HostEnvironment;
pub use order::AttemptOrder;
pub use run::{AttemptRun, AttemptRunner};
pub(crate) use stop::AttemptMilestones;
pub use stop::{AttemptHandle, LiveView, StopKind};
