//! Places at which a test holds a process, to kill it there and see that the cluster goes on by itself.
//!
//! Named by `MAESTRO_FAILPOINT=<place>:<file>`: the file appears once the place is reached, and the process goes on
//! when somebody has removed it. Without the variable a place costs one look at the environment.

use std::path::Path;
use std::time::Duration;

/// The variable that names a place and a file.
const VARIABLE: &str = "MAESTRO_FAILPOINT";

/// Between two looks whether the file is still there.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Stays here while the file is there, if this is the place that is named.
pub fn reach(place: &str) {
    let Ok(named) = std::env::var(VARIABLE) else { return };
    let Some((wanted, file)) = named.split_once(':') else { return };
    if wanted != place {
        return;
    }
    tracing::error!("held at the failpoint `{place}`");
    // A test that waits for a file which cannot be written says so itself.
    let _ = std::fs::write(Path::new(file), place);
    while Path::new(file).exists() {
        std::thread::sleep(LOOK_EVERY);
    }
}
