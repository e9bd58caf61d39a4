//! The lines of the live tree, for a size and a time.
//!
//! Nothing in a line moves the cursor: every text from outside has been made harmless, and no line is
//! wider than the frame.

use super::rows::{Row, RowContent, Selection, select};
use super::tree::Branch;
use super::view::{GroupRow, RunEnd, RunView, StepEnd, StepPhase};
use crate::output::foreign::{columns, cut, padded};
use crate::output::moment::duration;
use crate::output::tone::{Paint, Tone};

/// Levels of the tree that are indented, at most.
const LEVELS_MAX: usize = 6;
/// Columns of one level.
const LEVEL_COLUMNS: usize = 3;
/// Columns of the time.
const TIME_COLUMNS: usize = 7;
/// Rows of the last frame, which stays: it may be higher than the terminal, but not without end.
const CLOSING_ROWS_MAX: usize = 200;
/// Frames of the sign of work, each shown for a tenth of a second.
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const ASCII_SPINNER: [&str; 4] = ["|", "/", "-", "\\"];

/// Room for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameSize {
    /// Columns.
    pub(crate) width: usize,
    /// Lines.
    pub(crate) height: usize,
}

/// Which signs there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Glyphs {
    /// Lines and ticks.
    Unicode,
    /// Nothing beyond ASCII.
    Ascii,
}

/// What a frame may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// Colours.
    pub(crate) paint: Paint,
    /// Signs.
    pub(crate) glyphs: Glyphs,
}

impl RunView {
    /// The frame at a time (ms of the Unix clock): at most `height` lines of at most `width` columns.
    pub(crate) fn frame(&self, size: FrameSize, now: u64, look: Look) -> Vec<String> {
        let canvas = Canvas { view: self, width: size.width, now, look };
        // A terminal this low shows the sum alone.
        let room = size.height.saturating_sub(2);
        if room == 0 {
            return canvas.sum().into_iter().take(size.height).collect();
        }
        let mut selection = select(self, room);
        if selection.hidden > 0 {
            selection = select(self, room - 1);
        }
        let mut lines = vec![canvas.title()];
        lines.extend(canvas.rows(&selection));
        lines.extend(canvas.sum());
        lines
    }

    /// The frame that stays when the run is over, whatever the height of the terminal.
    pub(crate) fn closing_frame(&self, width: usize, now: u64, look: Look) -> Vec<String> {
        let canvas = Canvas { view: self, width, now, look };
        let mut lines = canvas.rows(&select(self, CLOSING_ROWS_MAX));
        // Nothing is drawn over this one, so its last line may be wrapped.
        lines.extend(Canvas { width: usize::MAX, ..canvas }.sum());
        lines
    }

    /// The last line: how the run ended, or stands, with the totals of its steps.
    pub(crate) fn summary(&self, now: u64) -> String {
        let totals = self.totals();
        let counts = [
            (totals.completed, "completed"),
            (totals.failed, "failed"),
            (totals.skipped, "skipped"),
            (totals.cancelled, "cancelled"),
            (totals.running, "running"),
            (totals.waiting, "waiting"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<String> = counts.map(|(count, word)| format!("{count} {word}")).collect();
        let steps = if totals.steps == 1 { "1 step".to_owned() } else { format!("{} steps", totals.steps) };
        let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
        let since = |until: u64| duration(until.saturating_sub(self.started));
        match self.end {
            Some((end, at)) => format!("run {} {} in {}, {steps}{counts}", self.run, end.word(), since(at)),
            None => format!("{}, {steps}{counts}", since(now)),
        }
    }
}

impl RunEnd {
    /// The word users read.
    pub(crate) fn word(self) -> &'static str {
        match self {
            RunEnd::Completed => "completed",
            RunEnd::Failed => "failed",
            RunEnd::Cancelled => "cancelled",
        }
    }
}

struct Canvas<'a> {
    view: &'a RunView,
    width: usize,
    now: u64,
    look: Look,
}

/// A row before it is laid out.
struct Cells {
    indent: String,
    glyph: &'static str,
    name: String,
    time: String,
    note: String,
    tone: Tone,
}

impl Cells {
    fn name_columns(&self) -> usize {
        columns(&self.indent) + 2 + columns(&self.name)
    }
}

impl Canvas<'_> {
    fn title(&self) -> String {
        let text = format!("{}  {}", self.view.workflow, self.view.run);
        self.look.paint.apply(Tone::Strong, &self.signs(cut(&text, self.width)))
    }

    fn sum(&self) -> Option<String> {
        let tone = match self.view.end {
            Some((RunEnd::Completed, _)) => Tone::Good,
            Some((RunEnd::Failed, _)) => Tone::Bad,
            Some((RunEnd::Cancelled, _)) => Tone::Warn,
            None => Tone::Plain,
        };
        let text = cut(&self.view.summary(self.now), self.width);
        (self.width > 0).then(|| self.look.paint.apply(tone, &self.signs(text)))
    }

    fn rows(&self, selection: &Selection) -> Vec<String> {
        // Lines between steps would mislead where steps between them are left out.
        let connected = selection.hidden == 0;
        let cells: Vec<Cells> = selection.rows.iter().map(|row| self.cells(*row, connected)).collect();
        let widest = cells.iter().map(Cells::name_columns).max().unwrap_or(0);
        let name_width = widest.min((self.width / 2).max(12)).min(self.width);
        let mut lines: Vec<String> = cells.iter().map(|cells| self.line(cells, name_width)).collect();
        if selection.hidden > 0 {
            let text = match selection.hidden {
                1 => "  … 1 more step".to_owned(),
                hidden => format!("  … {hidden} more steps"),
            };
            lines.push(self.look.paint.apply(Tone::Faint, &cut(&self.signs(text), self.width)));
        }
        lines
    }

    fn line(&self, cells: &Cells, name_width: usize) -> String {
        let paint = self.look.paint;
        let lead = columns(&cells.indent) + 2;
        let mut line = String::new();
        if lead >= name_width {
            let bare = cut(&self.signs(format!("{} {}", cells.glyph, cells.name)), name_width);
            line.push_str(&paint.apply(cells.tone, &padded(&bare, name_width)));
        } else {
            let name = padded(&cut(&cells.name, name_width - lead), name_width - lead);
            line.push_str(&paint.apply(Tone::Faint, &cells.indent));
            line.push_str(&paint.apply(cells.tone, cells.glyph));
            line.push(' ');
            let name_tone = if cells.tone == Tone::Faint { Tone::Faint } else { Tone::Plain };
            line.push_str(&paint.apply(name_tone, &name));
        }
        let mut room = self.width - name_width;
        if room > TIME_COLUMNS + 1 {
            let time = cut(&cells.time, TIME_COLUMNS);
            let gap = TIME_COLUMNS + 1 - columns(&time);
            line.push_str(&" ".repeat(gap));
            line.push_str(&paint.apply(Tone::Faint, &time));
            room -= TIME_COLUMNS + 1;
        } else {
            room = 0;
        }
        if room > 4 && !cells.note.is_empty() {
            line.push_str("  ");
            let tone = if cells.tone == Tone::Bad { Tone::Plain } else { Tone::Faint };
            line.push_str(&paint.apply(tone, &cut(&self.signs(cells.note.clone()), room - 2)));
        }
        line.trim_end().to_owned()
    }

    fn cells(&self, row: Row, connected: bool) -> Cells {
        let node = self.view.tree.nodes()[row.place];
        let step = &self.view.steps[node.step];
        let levels = (self.width / 4 / LEVEL_COLUMNS).clamp(1, LEVELS_MAX);
        let indent = if connected {
            self.connectors(row.place, levels, row.content)
        } else {
            " ".repeat(node.depth.min(levels) * LEVEL_COLUMNS)
        };
        match row.content {
            RowContent::Step => {
                let mut cells = self.phase_cells(indent, step.id.clone(), &step.phase);
                if let Some(group) = &step.group {
                    describe_group(&mut cells, group, &step.phase);
                }
                cells
            }
            RowContent::Item(item) => {
                let group = step.group.as_ref().expect("only groups have rows for items");
                let indent = format!("{indent}  ");
                self.phase_cells(indent, format!("[{item}]"), &group.at_work[&item])
            }
            RowContent::MoreItems(more) => Cells {
                indent: format!("{indent}  "),
                glyph: " ",
                name: format!("{more} more at work"),
                time: String::new(),
                note: String::new(),
                tone: Tone::Faint,
            },
        }
    }

    fn phase_cells(&self, indent: String, name: String, phase: &StepPhase) -> Cells {
        let (glyph, tone) = self.glyph(phase);
        let (time, note) = match phase {
            StepPhase::Waiting => (String::new(), String::new()),
            StepPhase::Queued => (String::new(), "waits for a worker".to_owned()),
            StepPhase::Running { since, attempt, worker, line } => {
                let time = duration(self.now.saturating_sub(*since));
                let place = if worker.is_empty() { String::new() } else { format!("on {worker}") };
                (time, joined(&[&attempt_text(*attempt), &place, line]))
            }
            StepPhase::Parked { until, attempt, why } => {
                let wait = format!("again in {}", duration(until.saturating_sub(self.now)));
                (String::new(), joined(&[&attempt_text(*attempt), &wait, why]))
            }
            StepPhase::Ended { took, attempt, note, .. } => {
                (took.map(duration).unwrap_or_default(), joined(&[&attempt_text(*attempt), note]))
            }
        };
        Cells { indent, glyph, name, time, note, tone }
    }

    fn connectors(&self, place: usize, levels: usize, content: RowContent) -> String {
        let branches = self.view.tree.branches(place, levels);
        let last_level = branches.len().saturating_sub(1);
        let piece = |(level, branch): (usize, &Branch)| {
            let is_own = level == last_level && content == RowContent::Step;
            match (is_own, branch) {
                (true, Branch::More) => "├─ ",
                (true, Branch::Last) => "└─ ",
                (false, Branch::More) => "│  ",
                (false, Branch::Last) => "   ",
            }
        };
        self.signs(branches.iter().enumerate().map(piece).collect())
    }

    fn glyph(&self, phase: &StepPhase) -> (&'static str, Tone) {
        let tenth = usize::try_from(self.now / 100).unwrap_or(0);
        let (unicode, ascii, tone) = match phase {
            StepPhase::Waiting => ("·", ".", Tone::Faint),
            StepPhase::Queued => ("○", "o", Tone::Plain),
            StepPhase::Running { .. } => {
                let spinner = SPINNER[tenth % SPINNER.len()];
                (spinner, ASCII_SPINNER[tenth % ASCII_SPINNER.len()], Tone::Busy)
            }
            StepPhase::Parked { .. } => ("↻", "~", Tone::Warn),
            StepPhase::Ended { how, .. } => match how {
                StepEnd::Completed => ("✔", "+", Tone::Good),
                StepEnd::Failed => ("✘", "x", Tone::Bad),
                StepEnd::Skipped => ("–", "-", Tone::Faint),
                StepEnd::Cancelled => ("■", "!", Tone::Warn),
            },
        };
        (if self.look.glyphs == Glyphs::Ascii { ascii } else { unicode }, tone)
    }

    /// The text with signs that an ASCII terminal has, too.
    fn signs(&self, text: String) -> String {
        if self.look.glyphs == Glyphs::Unicode {
            return text;
        }
        [("├─", "|-"), ("└─", "`-"), ("│", "|"), ("…", "~"), ("–", "-")]
            .into_iter()
            .fold(text, |text, (sign, plain)| text.replace(sign, plain))
    }
}

fn describe_group(cells: &mut Cells, group: &GroupRow, phase: &StepPhase) {
    let count = group.count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let is_known = group.count.is_some() || group.ended() > 0;
    if is_known {
        cells.name = format!("{} {}/{count}", cells.name, group.ended());
    }
    let failed = if group.failed > 0 { format!("{} failed", group.failed) } else { String::new() };
    let last = group.last_failure.as_deref().unwrap_or_default();
    let own = if matches!(phase, StepPhase::Ended { .. }) { cells.note.as_str() } else { "" };
    cells.note = joined(&[&failed, last, if last.is_empty() { own } else { "" }]);
}

fn attempt_text(attempt: u32) -> String {
    if attempt > 1 { format!("attempt {attempt}") } else { String::new() }
}

fn joined(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    parts.join("  ")
}
