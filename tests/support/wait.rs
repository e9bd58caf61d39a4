//! Waiting for a condition, with a deadline and what was last seen.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something, or says what was seen last.
///
/// `look` answers with what is waited for, or with the state it saw instead.
pub fn wait_until<T>(
    what: &str,
    longest: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + longest;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(seen) if Instant::now() > deadline => {
                return Err(format!("waited {longest:?} for {what}; last seen: {seen}"));
            }
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}
