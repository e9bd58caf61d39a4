//! All rules, checked on one dump.

use super::dump::Dump;
use super::places;
use super::plans::ShadowRun;
use super::tasks::RunPicture;
use super::{Violation, hold};

/// Most that the clock may advance in one call, ms.
pub const CLOCK_STEP_MS: i64 = 5_000;

/// Checks what a dump shows against what the test knows. `ready_window` is the scripts' own limit.
pub fn check(dump: &Dump, runs: &[ShadowRun], ready_window: i64) -> Result<(), Violation> {
    for run in dump.runs() {
        let known = runs.iter().any(|shadow| shadow.id.as_str() == run && !shadow.collected);
        hold!(known, "run {run} was never submitted, or was collected");
    }
    let live: Vec<&ShadowRun> = runs.iter().filter(|shadow| !shadow.collected).collect();
    for shadow in &live {
        let there = dump.hashes.contains_key(&format!("r:{}", shadow.id));
        hold!(there || !shadow.acknowledged, "run {} was acknowledged and is gone", shadow.id);
        if there {
            RunPicture::new(dump, shadow, ready_window)?.check()?;
        }
    }
    places::check(dump, runs)
}

/// The logical clock never goes back and follows by at most a step a call.
pub fn check_clock(before: &Dump, after: &Dump, calls: i64) -> Result<(), Violation> {
    let passed = after.ctl("clk") - before.ctl("clk");
    hold!(
        (0..=CLOCK_STEP_MS * calls).contains(&passed),
        "the logical clock went on by {passed} ms in {calls} calls"
    );
    Ok(())
}
