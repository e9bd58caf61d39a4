//! Runs the checks of the chart: `test_*.py` beside this file, each of which says what it is about.
//!
//! `scripts/setup.sh --for-tests` installs what they need. Where it could not, they are counted as skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::skip;

/// The Python with the packages of `tests/chart/requirements.txt`; none if setup did not or could not install them.
pub(crate) fn python(test: &str) -> Option<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = top.join("target/chart-venv");
    let wanted = std::fs::read(top.join("tests/chart/requirements.txt")).expect("it lies beside this file");
    // setup.sh copies the list when all of it is installed.
    if std::fs::read(folder.join("requirements.txt")).is_ok_and(|installed| installed == wanted) {
        return Some(folder.join("bin/python"));
    }
    skip(
        test,
        "the Helm library is not installed (scripts/setup.sh --for-tests needs python3 and a package index)",
    );
    None
}

fn run(module: &str) {
    let Some(python) = python(module) else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart");
    let done = Command::new(python)
        .args(["-B", "-m", "unittest", module])
        .current_dir(folder)
        .output()
        .expect("setup.sh has installed it");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("\nOK"), "no test was found:\n{said}");
}

#[test]
fn what_the_chart_renders_is_valid_and_as_recorded() {
    run("test_rendering");
}

#[test]
fn pods_of_the_chart_keep_the_restricted_standard() {
    run("test_security");
}

#[test]
fn mistakes_in_values_are_refused_with_a_sentence() {
    run("test_values");
}

#[test]
fn a_generated_password_survives_an_upgrade() {
    run("test_upgrade");
}
