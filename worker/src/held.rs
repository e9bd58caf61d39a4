//! What a worker holds, as all its parts name it.
//!
//! What is done with it is decided in `dispatcher`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use maestro_model::ids::{Attempt, TaskId};

/// One attempt, by its task and number. Two attempts of one task may be here at one time: one that is
/// being ended because it lost its task, and its successor.
pub type AttemptKey = (TaskId, Attempt);

/// Attempts this worker speaks for; the beat reads it from its own thread. At most as many as the
/// worker's concurrency.
pub type HeldAttempts = Arc<Mutex<HashSet<AttemptKey>>>;
