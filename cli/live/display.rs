//! Shows a run to whoever asked for it: as a tree, as lines, as JSON, or not at all.
//!
//! The caller feeds events and calls `tick` often; how often something is drawn is decided here. When the
//! caller stops half way (Ctrl-C), what was drawn stays and the cursor stands below it.

use std::io::Stdout;
use std::time::Instant;

use super::event::{StepEvent, StepEventKind, event_line};
use super::frame::Look;
use super::screen::{LiveScreen, can_move_cursor, frame_size};
use super::view::{RunEnd, RunView};
use crate::config::surroundings::Surroundings;
use crate::failure::Failure;
use crate::output::format::{Destination, PrintFormat};
use crate::output::moment::clock;
use crate::output::printer::{Printer, Talk};
use crate::traced_output::traced_line;

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DisplayMode {
    /// A tree that is drawn over and over.
    Tree,
    /// A line for each event.
    Lines,
    /// A line for each event, and for each line of standard output: the run is traced.
    Trace,
    /// Each event as JSON, one per line.
    Json,
    /// The same with every line of standard output.
    JsonTrace,
    /// Nothing but the exit code.
    Nothing,
}

impl DisplayMode {
    /// `auto` means people here, also in a pipe: the events of a run are no list of records.
    fn choose(format: PrintFormat, talk: Talk, is_live: bool) -> DisplayMode {
        match format {
            PrintFormat::Json | PrintFormat::Jsonl | PrintFormat::Yaml => DisplayMode::Json,
            PrintFormat::Name => DisplayMode::Nothing,
            _ if talk == Talk::Quiet => DisplayMode::Nothing,
            _ if is_live => DisplayMode::Tree,
            _ => DisplayMode::Lines,
        }
    }
}

/// A run that is being shown.
pub(crate) struct RunDisplay {
    view: RunView,
    mode: DisplayMode,
    printer: Printer,
    look: Look,
    screen: LiveScreen<Stdout>,
}

impl RunDisplay {
    /// Chooses how to show it, from the flags and from where standard output leads.
    pub(crate) fn new(view: RunView, printer: &Printer, surroundings: &Surroundings) -> RunDisplay {
        let is_live = printer.destination() == Destination::Terminal && can_move_cursor(surroundings);
        RunDisplay {
            view,
            mode: DisplayMode::choose(printer.format(), printer.talk(), is_live),
            printer: printer.clone(),
            look: Look::of(printer, surroundings),
            screen: LiveScreen::new(std::io::stdout()),
        }
    }

    /// For a run that is traced: every line of standard output is shown, so there is no tree.
    #[must_use]
    pub(crate) fn traced(mut self) -> RunDisplay {
        self.mode = match self.mode {
            DisplayMode::Tree | DisplayMode::Lines => DisplayMode::Trace,
            DisplayMode::Json => DisplayMode::JsonTrace,
            other => other,
        };
        self
    }

    /// Whether lines of the agents' output are of any use here; if not, they need not be fetched.
    pub(crate) fn wants_output(&self) -> bool {
        self.mode == DisplayMode::Tree
    }

    /// Takes in an event and prints its line, where there are lines.
    pub(crate) fn on_event(&mut self, event: &StepEvent) -> Result<(), Failure> {
        let took_ms = self.view.on_event(event);
        if let (DisplayMode::Trace, StepEventKind::Output { line }) = (self.mode, &event.kind) {
            return self.printer.lines(&traced_line(event.at, &event.label(), line));
        }
        match self.mode {
            DisplayMode::Tree | DisplayMode::Nothing => Ok(()),
            DisplayMode::Lines | DisplayMode::Trace => match event_line(event, took_ms) {
                Some(line) => self.printer.lines(&line),
                None => Ok(()),
            },
            DisplayMode::Json if matches!(event.kind, StepEventKind::Output { .. }) => Ok(()),
            DisplayMode::Json | DisplayMode::JsonTrace => self.printer.json_line(event),
        }
    }

    /// Draws a frame, if there is a tree and it is time. `now` is ms of the Unix clock.
    pub(crate) fn tick(&mut self, now: u64) -> Result<(), Failure> {
        if self.screen.is_due(Instant::now()) { self.leave(now) } else { Ok(()) }
    }

    /// Stops showing a run that goes on: the tree stays as it is now, and the `^C` below it goes.
    pub(crate) fn leave(&mut self, now: u64) -> Result<(), Failure> {
        if self.mode != DisplayMode::Tree {
            return Ok(());
        }
        let size = frame_size();
        let frame = self.view.frame(size, now, self.look);
        self.screen.draw(&frame, size.width, Instant::now()).map_err(|error| Failure::from_output(&error))
    }

    /// Says something about the run as a whole. A tree stays above it as it was, and goes on below.
    pub(crate) fn say(&mut self, text: &str, now: u64) -> Result<(), Failure> {
        self.leave(now)?;
        self.printer.note(text);
        self.screen.leave_behind();
        Ok(())
    }

    /// Takes in that the run has ended and shows it whole, for the last time.
    pub(crate) fn finish(&mut self, end: RunEnd, at: u64) -> Result<(), Failure> {
        self.view.on_run_end(end, at);
        match self.mode {
            DisplayMode::Tree => {
                let width = frame_size().width;
                let frame = self.view.closing_frame(width, at, self.look);
                self.screen.draw(&frame, width, Instant::now()).map_err(|error| Failure::from_output(&error))
            }
            DisplayMode::Lines | DisplayMode::Trace => {
                self.printer.lines(&format!("{} {}", clock(at), self.view.summary(at)))
            }
            DisplayMode::Json | DisplayMode::JsonTrace | DisplayMode::Nothing => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_for_terminals_and_json_for_who_asks() {
        let table = [
            (PrintFormat::Auto, Talk::Normal, true, DisplayMode::Tree),
            (PrintFormat::Auto, Talk::Normal, false, DisplayMode::Lines),
            (PrintFormat::Table, Talk::Verbose, false, DisplayMode::Lines),
            (PrintFormat::Auto, Talk::Quiet, true, DisplayMode::Nothing),
            (PrintFormat::Jsonl, Talk::Normal, true, DisplayMode::Json),
            (PrintFormat::Json, Talk::Quiet, false, DisplayMode::Json),
            (PrintFormat::Name, Talk::Normal, true, DisplayMode::Nothing),
        ];
        for (format, talk, is_live, mode) in table {
            assert_eq!(DisplayMode::choose(format, talk, is_live), mode, "{format:?} {talk:?} {is_live}");
        }
    }
}
