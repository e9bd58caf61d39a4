//! Where log lines go: to standard error, as text or JSON.
//!
//! Workers and coordinators log what they do; other commands only speak up when something is wrong, or
//! with `--verbose`.

use std::io;

use tracing::Level;
use tracing_subscriber::filter::LevelFilter;

use crate::config::settings::{LogFormat, Settings};
use crate::output::printer::{Printer, Talk};

/// What kind of command logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogRole {
    /// It runs until it is told to end; its log is what people read of it.
    Service,
    /// It answers and ends; its output is what people read.
    Command,
}

/// Starts logging for this process. Later calls change nothing.
pub(crate) fn start_logging(role: LogRole, settings: &Settings, printer: &Printer) {
    let filter = LevelFilter::from_level(level_of(role, printer.talk(), settings.log_level()));
    let builder = tracing_subscriber::fmt().with_max_level(filter).with_writer(io::stderr);
    let started = match settings.log_format() {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(printer.is_stderr_coloured()).with_target(false).try_init(),
    };
    let _already_started = started;
}

fn level_of(role: LogRole, talk: Talk, asked: Level) -> Level {
    match (role, talk) {
        (_, Talk::Verbose) => Level::DEBUG,
        (_, Talk::Quiet) => Level::ERROR,
        (LogRole::Service, Talk::Normal) => asked,
        (LogRole::Command, Talk::Normal) => asked.min(Level::WARN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_setting_and_commands_are_quieter_than_services() {
        let table = [
            (LogRole::Service, Talk::Normal, Level::INFO, Level::INFO),
            (LogRole::Service, Talk::Quiet, Level::INFO, Level::ERROR),
            (LogRole::Command, Talk::Normal, Level::INFO, Level::WARN),
            (LogRole::Command, Talk::Normal, Level::ERROR, Level::ERROR),
            (LogRole::Command, Talk::Verbose, Level::ERROR, Level::DEBUG),
        ];
        for (role, talk, asked, level) in table {
            assert_eq!(level_of(role, talk, asked), level, "{role:?} {talk:?} {asked}");
        }
    }
}
