//! The one place that prints: results to standard output, everything else to standard error.
//!
//! A reader that goes away (`maestro task list | head`) ends the command as a success. Commands hand
//! over records and never look at the format themselves, except for drawings and live views.

use std::io::{self, IsTerminal, Write};

use crossterm::terminal;
use serde::Serialize;
use serde_json::json;

use super::foreign::{harmless, harmless_lines};
use super::format::{Destination, Form, PrintFormat};
use super::shape::{Shape, card_of, table_of};
use super::tone::{Paint, Tone};
use crate::failure::Failure;

/// How much is said on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Talk {
    /// Errors only.
    Quiet,
    /// Warnings and notes as well.
    Normal,
    /// Details as well.
    Verbose,
}

/// Prints everything the command prints.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    format: PrintFormat,
    form: Form,
    talk: Talk,
    destination: Destination,
    out: Paint,
    err: Paint,
}

impl Printer {
    /// Decides from the flags and from where the streams lead.
    pub(crate) fn new(format: PrintFormat, talk: Talk, no_color: bool) -> Printer {
        let terminal = io::stdout().is_terminal();
        let destination = if terminal { Destination::Terminal } else { Destination::Pipe };
        Printer {
            format,
            form: format.form(destination),
            talk,
            destination,
            out: Paint::of_stdout(no_color),
            err: Paint::of_stderr(no_color),
        }
    }

    /// What the user asked for, `auto` included.
    pub(crate) fn format(&self) -> PrintFormat {
        self.format
    }

    /// How records are printed.
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// How much is said.
    pub(crate) fn talk(&self) -> Talk {
        self.talk
    }

    /// Whether somebody watches standard output.
    pub(crate) fn destination(&self) -> Destination {
        self.destination
    }

    /// Whether standard output gets colours.
    pub(crate) fn paint(&self) -> Paint {
        self.out
    }

    /// Whether standard error gets colours.
    pub(crate) fn is_stderr_coloured(&self) -> bool {
        self.err == Paint::Coloured
    }

    /// Prints many records. No records are an empty list, and for people a note that there are none.
    pub(crate) fn list<T: Serialize>(&self, records: &[T], shape: &Shape<T>) -> Result<(), Failure> {
        let text = match self.form {
            Form::Table if records.is_empty() => {
                self.note(shape.none);
                return Ok(());
            }
            Form::Table => self.table(records, shape),
            Form::Json if records.is_empty() => "[]".to_owned(),
            Form::Json => {
                let lines: Vec<String> = records.iter().map(json_line).collect();
                format!("[\n{}\n]", lines.join(",\n"))
            }
            Form::Jsonl => records.iter().map(json_line).collect::<Vec<String>>().join("\n"),
            Form::Yaml if records.is_empty() => "[]".to_owned(),
            Form::Yaml => yaml_of(&records),
            Form::Name => records.iter().map(|record| name_of(record, shape)).collect::<Vec<_>>().join("\n"),
        };
        self.lines(&text)
    }

    /// Records as a table, on a terminal no wider than that.
    pub(crate) fn table<T>(&self, records: &[T], shape: &Shape<T>) -> String {
        let width = match self.destination {
            Destination::Terminal => terminal::size().ok().map(|(width, _)| usize::from(width)),
            Destination::Pipe => None,
        };
        // Some terminals say that they have no size at all.
        table_of(records, shape, self.out, width.filter(|width| *width > 0))
    }

    /// Prints one record: for people a line per column.
    pub(crate) fn record<T: Serialize>(&self, record: &T, shape: &Shape<T>) -> Result<(), Failure> {
        let text = match self.form {
            Form::Table => card_of(record, shape, self.out),
            Form::Json | Form::Jsonl => json_line(record),
            Form::Yaml => yaml_of(record),
            Form::Name => name_of(record, shape),
        };
        self.lines(&text)
    }

    /// Prints the next record of a list without an end (`-f`): one line each, or one YAML document each.
    /// `people` is the line people read.
    pub(crate) fn next<T: Serialize>(
        &self,
        record: &T,
        people: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = match self.form {
            Form::Table | Form::Name => people(record),
            Form::Json | Form::Jsonl => json_line(record),
            Form::Yaml => format!("---\n{}", yaml_of(record)),
        };
        self.lines(&text)
    }

    /// Prints one thing that has no form for people: JSON in one line, or YAML.
    pub(crate) fn document<T: Serialize>(&self, document: &T) -> Result<(), Failure> {
        let text = if self.form == Form::Yaml { yaml_of(document) } else { json_line(document) };
        self.lines(&text)
    }

    /// Prints one thing as YAML, whatever the format: for people who are to read all of it.
    pub(crate) fn yaml<T: Serialize>(&self, document: &T) -> Result<(), Failure> {
        self.lines(&harmless_lines(&yaml_of(document)))
    }

    /// Prints a record as JSON in one line, whatever the format.
    pub(crate) fn json_line<T: Serialize>(&self, record: &T) -> Result<(), Failure> {
        self.lines(&json_line(record))
    }

    /// Prints text that is a result in itself, with a line break at its end. Empty text prints nothing.
    pub(crate) fn lines(&self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        let line_break: &[u8] = if text.ends_with('\n') { b"" } else { b"\n" };
        self.bytes(text.as_bytes()).and_then(|()| self.bytes(line_break))
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::from_output(&error))
    }

    /// Says something in passing, unless `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if self.talk >= Talk::Normal {
            self.say(&harmless_lines(text));
        }
    }

    /// Asks something, also with `--quiet`; the answer is read behind it, on the same line.
    pub(crate) fn question(&self, text: &str) {
        let mut err = io::stderr().lock();
        let asked = write!(err, "{}", harmless(text)).and_then(|()| err.flush());
        let _nobody_to_tell = asked;
    }

    /// Warns, unless `--quiet`.
    pub(crate) fn warn(&self, text: &str) {
        if self.talk >= Talk::Normal {
            self.say(&format!("{} {}", self.err.apply(Tone::Warn, "warning:"), harmless_lines(text)));
        }
    }

    /// Shows a block of several lines that has its own form (marked lines of a file), unless `--quiet`.
    pub(crate) fn block(&self, text: &str) {
        if self.talk >= Talk::Normal {
            self.say(&harmless_lines(text));
        }
    }

    /// Says what only `--verbose` wants to know.
    pub(crate) fn detail(&self, text: &str) {
        if self.talk >= Talk::Verbose {
            self.say(&self.err.apply(Tone::Faint, &harmless_lines(text)));
        }
    }

    /// Prints why the command failed, as text or, with a JSON format, as JSON.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        if self.format.wants_json_errors() {
            self.say(&failure_as_json(failure));
        } else {
            self.say(&failure_as_text(failure, self.err));
        }
    }

    /// Writes to standard error. If nobody reads it there is nobody to tell.
    fn say(&self, text: &str) {
        let mut err = io::stderr().lock();
        let _nobody_to_tell = writeln!(err, "{text}");
    }
}

/// What people read of a failure.
fn failure_as_text(failure: &Failure, paint: Paint) -> String {
    if let Some(block) = failure.block() {
        return harmless_lines(block.trim_end());
    }
    let mut text = format!("{} {}", paint.apply(Tone::Bad, "error:"), harmless_lines(failure.message()));
    for cause in failure.causes() {
        text.push_str(&format!("\n  caused by: {}", harmless(cause)));
    }
    if let Some(hint) = failure.hint_text() {
        text.push_str(&format!("\n\n{} {}", paint.apply(Tone::Strong, "hint:"), harmless_lines(hint)));
    }
    text
}

fn failure_as_json(failure: &Failure) -> String {
    let mut error = json!({
        "kind": failure.exit().kind(),
        "message": failure.one_line(),
        "hint": failure.hint_text(),
    });
    if let Some(details) = failure.details_value() {
        error["details"] = details.clone();
    }
    json_line(&json!({ "error": error }))
}

fn name_of<T>(record: &T, shape: &Shape<T>) -> String {
    harmless(&(shape.name)(record))
}

/// One record in one line. serde leaves DEL and the second row of control characters as they are,
/// and a terminal may obey them; they only occur inside strings, where an escape means the same.
fn json_line<T: Serialize>(record: &T) -> String {
    let line = serde_json::to_string(record).expect("the keys of a record are text");
    if !line.chars().any(char::is_control) {
        return line;
    }
    line.chars()
        .map(
            |letter| {
                if letter.is_control() { format!("\\u{:04x}", u32::from(letter)) } else { letter.to_string() }
            },
        )
        .collect()
}

fn yaml_of<T: Serialize>(records: &T) -> String {
    let text = serde_saphyr::to_string(records).expect("the keys of a record are text");
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_the_style_guide_says() {
        let failure = Failure::refused("cannot restore `backup.maestro`")
            .cause("the cluster `staging` is not empty: 3 runs, 41 tasks")
            .hint("restore into a new cluster with `--namespace <NAME>`");
        insta::assert_snapshot!(failure_as_text(&failure, Paint::Plain), @r"
        error: cannot restore `backup.maestro`
          caused by: the cluster `staging` is not empty: 3 runs, 41 tasks

        hint: restore into a new cluster with `--namespace <NAME>`
        ");
        insta::assert_snapshot!(failure_as_json(&failure), @r#"{"error":{"kind":"refused","message":"cannot restore `backup.maestro`: the cluster `staging` is not empty: 3 runs, 41 tasks","hint":"restore into a new cluster with `--namespace <NAME>`"}}"#);
    }

    #[test]
    fn json_carries_no_control_character_and_loses_none() {
        let given = "a\u{1b}[31m\u{9b}b\u{7f}\n";
        let line = json_line(&given);
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert_eq!(serde_json::from_str::<String>(&line).expect("JSON"), given);
    }

    #[test]
    fn yaml_keeps_words_that_look_like_something_else() {
        let given = json!({"a": "no", "b": "1e3", "c": "null", "d": "x: y", "e": "two\nlines", "f": ""});
        let text = yaml_of(&given);
        let read: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
        assert_eq!(read, given, "{text}");
    }
}
