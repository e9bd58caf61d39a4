//! Draws frames on a terminal, each over the one before.
//!
//! The cursor stays visible and always stands below the last frame, so there is nothing to put right
//! when the command ends, is interrupted or dies: what was drawn stays, and the prompt comes after it.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crossterm::cursor::{MoveToColumn, MoveUp};
use crossterm::queue;
use crossterm::terminal::{self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};

use super::frame::{FrameSize, Glyphs, Look};
use crate::config::surroundings::Surroundings;
use crate::output::foreign::columns;
use crate::output::printer::Printer;

/// Shortest time between two frames.
pub(crate) const FRAME_EVERY: Duration = Duration::from_millis(100);
/// What a terminal that does not tell its size is taken for.
const SIZE_UNKNOWN: (u16, u16) = (80, 24);

/// The place of the frames on a terminal.
#[derive(Debug)]
pub(crate) struct LiveScreen<W: Write> {
    out: W,
    /// Columns of the lines drawn last.
    drawn: Vec<usize>,
    drawn_at: Option<Instant>,
}

impl<W: Write> LiveScreen<W> {
    /// Begins where the cursor stands, which has to be the start of a line.
    pub(crate) fn new(out: W) -> LiveScreen<W> {
        LiveScreen { out, drawn: Vec::new(), drawn_at: None }
    }

    /// Whether enough time has passed since the last frame.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.drawn_at.is_none_or(|drawn_at| now.duration_since(drawn_at) >= FRAME_EVERY)
    }

    /// Draws a frame in place of the last one. `width` is that of the terminal now.
    pub(crate) fn draw(&mut self, frame: &[String], width: usize, now: Instant) -> io::Result<()> {
        queue!(self.out, BeginSynchronizedUpdate, MoveToColumn(0))?;
        let up = self.rows_drawn(width);
        if up > 0 {
            queue!(self.out, MoveUp(up))?;
        }
        for line in frame {
            write!(self.out, "{line}")?;
            queue!(self.out, Clear(ClearType::UntilNewLine))?;
            self.out.write_all(b"\r\n")?;
        }
        queue!(self.out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        self.out.flush()?;
        self.drawn =
            frame.iter().map(|line| columns(&anstream::adapter::strip_str(line).to_string())).collect();
        self.drawn_at = Some(now);
        Ok(())
    }

    /// Leaves the last frame as it is: something was written below it, and the next one begins there.
    pub(crate) fn leave_behind(&mut self) {
        self.drawn.clear();
    }

    /// Rows that the last frame takes on a terminal of this width: if it became narrower, lines have
    /// been wrapped.
    fn rows_drawn(&self, width: usize) -> u16 {
        let rows: usize = self.drawn.iter().map(|columns| columns.div_ceil(width.max(1)).max(1)).sum();
        u16::try_from(rows).unwrap_or(u16::MAX)
    }
}

/// Room for a frame on the terminal now: the last line is left to the cursor.
pub(crate) fn frame_size() -> FrameSize {
    let (width, height) = terminal::size().unwrap_or(SIZE_UNKNOWN);
    // Some terminals say that they have no size at all.
    let (width, height) = if width == 0 || height == 0 { SIZE_UNKNOWN } else { (width, height) };
    FrameSize { width: usize::from(width), height: usize::from(height).saturating_sub(1) }
}

/// Whether the terminal can move its cursor.
pub(crate) fn can_move_cursor(surroundings: &Surroundings) -> bool {
    surroundings.variable("TERM").ok().flatten().is_some_and(|name| name != "dumb")
}

impl Look {
    /// What the terminal can show, by colour settings and locale.
    pub(crate) fn of(printer: &Printer, surroundings: &Surroundings) -> Look {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"];
        let locale = locale.iter().find_map(|name| surroundings.variable(name).ok().flatten());
        let is_utf8 = locale.is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        Look { paint: printer.paint(), glyphs: if is_utf8 { Glyphs::Unicode } else { Glyphs::Ascii } }
    }
}
