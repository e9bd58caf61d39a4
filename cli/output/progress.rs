//! Bars on a terminal for what takes a while: how many bytes, how fast, how long still.
//!
//! Where nobody watches, or `--quiet` was said, nothing is drawn. A bar stands on standard error and goes when it is
//! dropped, so results and messages are never mixed with it.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::printer::{Printer, Talk};
use crate::config::surroundings::Surroundings;
use crate::live::can_move_cursor;

/// Frames a second, at most.
const FRAMES_PER_SECOND: u8 = 10;
/// Between two frames although nothing has changed: the time goes on.
const TICK_EVERY: Duration = Duration::from_millis(250);
/// A part whose size is known.
const MEASURED: &str = "{msg:24} [{bar:24}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
/// A part whose size nobody knows before its end.
const OPEN: &str = "{msg:24} {bytes}  {bytes_per_sec}  {elapsed}";

/// A bar, or nothing where nobody watches.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    bar: ProgressBar,
    part: &'static str,
    total: Option<u64>,
}

impl ProgressLine {
    /// Begins where the cursor stands. Nothing is shown on what is no terminal, or cannot move its cursor.
    pub(crate) fn begin(printer: &Printer, surroundings: &Surroundings) -> ProgressLine {
        let is_watched = printer.talk() >= Talk::Normal
            && std::io::stderr().is_terminal()
            && can_move_cursor(surroundings);
        let target = if is_watched {
            ProgressDrawTarget::stderr_with_hz(FRAMES_PER_SECOND)
        } else {
            ProgressDrawTarget::hidden()
        };
        ProgressLine { bar: ProgressBar::with_draw_target(None, target), part: "", total: None }
    }

    /// How far it has come: `part` in words, bytes done, and bytes in all if that is known.
    pub(crate) fn show(&mut self, part: &'static str, done: u64, total: Option<u64>) {
        if self.bar.is_hidden() {
            return;
        }
        if (self.part, self.total) != (part, total) {
            if self.part != part {
                self.bar.reset();
                self.bar.set_message(part);
                self.bar.enable_steady_tick(TICK_EVERY);
            }
            (self.part, self.total) = (part, total);
            let style = ProgressStyle::with_template(if total.is_some() { MEASURED } else { OPEN });
            self.bar.set_style(style.expect("a test reads both").progress_chars("=> "));
            match total {
                Some(total) => self.bar.set_length(total),
                None => self.bar.unset_length(),
            }
        }
        self.bar.set_position(done);
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_can_be_read() {
        for form in [MEASURED, OPEN] {
            ProgressStyle::with_template(form).expect("a lawful form");
        }
    }
}
