//! Tests that cannot run on a host are counted, by name and reason; nothing is skipped in silence.

use std::fs::OpenOptions;
use std::io::Write;

/// Counts a test as skipped: `scripts/test.sh` prints the list at its end.
pub fn skip(test: &str, reason: &str) {
    let Ok(path) = std::env::var("MAESTRO_SKIPPED") else { return };
    let list = OpenOptions::new().append(true).create(true).open(path);
    writeln!(list.expect("the list of skipped tests"), "{test}: {reason}").expect("written");
}
