//! Places at which a test holds a process, to kill it there and see that the cluster goes on by itself.
//!
//! Named by `MAESTRO_FAILPOINT=<place>:<file>`: the file appears once the place is reached, and the process goes no
//! further. Without the variable a place costs one look at the environment.

use std::path::Path;

/// The variable that names a place and a file.
const VARIABLE: &str = "MAESTRO_FAILPOINT";

/// Stays here for ever, if this is the place that is named.
pub fn reach(place: &str) {
    let Ok(named) = std::env::var(VARIABLE) else { return };
    let Some((wanted, file)) = named.split_once(':') else { return };
    if wanted != place {
        return;
    }
    tracing::error!("held at the failpoint `{place}`");
    // A test that waits for a file which cannot be written says so itself.
    let _ = std::fs::write(Path::new(file), place);
    loop {
        std::thread::park();
    }
}
