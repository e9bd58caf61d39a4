//! Prints lines of logs: as they are into a pipe, harmless on a terminal, as records where that is asked for.

use maestro_store::logs::LogStream;
use serde::Serialize;

use super::log_lines::LogLine;
use crate::failure::Failure;
use crate::output::foreign::{harmless, last_overwrite};
use crate::output::format::{Destination, PrintFormat};
use crate::output::moment::as_rfc3339;
use crate::output::printer::Printer;
use crate::traced_output::traced_line;

/// Whose log a line belongs to.
#[derive(Debug, Clone)]
pub(crate) struct LogSource {
    /// The task.
    pub(crate) task: String,
    /// The step, and of an item its number too.
    pub(crate) step: String,
    /// The attempt.
    pub(crate) attempt: u32,
    /// Whether its run is traced: lines of standard output say so.
    pub(crate) traced: bool,
}

/// Prints lines of one or several logs.
#[derive(Debug)]
pub(crate) struct LogPrinter<'a> {
    printer: &'a Printer,
    /// Width of the labels in front of lines; none = no labels.
    labels: Option<usize>,
    /// The stream whose last line has no line break yet.
    open: Option<LogStream>,
}

#[derive(Debug, Serialize)]
struct LineRecord<'a> {
    #[serde(serialize_with = "as_rfc3339")]
    at: u64,
    task: &'a str,
    step: &'a str,
    attempt: u32,
    stream: &'static str,
    /// Bytes that are no UTF-8 are replaced.
    line: String,
}

impl<'a> LogPrinter<'a> {
    /// For one log: lines as they are.
    pub(crate) fn of_one(printer: &'a Printer) -> LogPrinter<'a> {
        LogPrinter { printer, labels: None, open: None }
    }

    /// For several: each line behind the name of its step, filled up to `width`.
    pub(crate) fn of_several(printer: &'a Printer, width: usize) -> LogPrinter<'a> {
        LogPrinter { printer, labels: Some(width), open: None }
    }

    /// Prints a line.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(crate) fn line(&mut self, line: &LogLine, source: &LogSource) -> Result<(), Failure> {
        if matches!(self.printer.format(), PrintFormat::Json | PrintFormat::Jsonl | PrintFormat::Yaml) {
            return self.record(line, source);
        }
        if line.stream == LogStream::Note {
            self.printer.note(&format!(
                "{}: {}",
                source.step,
                String::from_utf8_lossy(&line.bytes).trim_end()
            ));
            return Ok(());
        }
        if source.traced && line.stream == LogStream::Stdout {
            let text = String::from_utf8_lossy(line.content());
            return self.printer.lines(&traced_line(line.at_ms, &source.step, last_overwrite(&text)));
        }
        if self.printer.destination() == Destination::Terminal {
            let text = String::from_utf8_lossy(&line.bytes);
            return self.labelled(harmless(last_overwrite(&text)).as_bytes(), source);
        }
        if self.labels.is_some() {
            return self.labelled(line.content(), source);
        }
        // Two streams never share a line; one stream alone comes out byte by byte as it was.
        if self.open.is_some_and(|open| open != line.stream) {
            self.printer.bytes(b"\n")?;
        }
        self.open = (!line.is_whole()).then_some(line.stream);
        self.printer.bytes(&line.bytes)
    }

    /// Ends an unfinished line before another log follows.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(crate) fn next_log(&mut self) -> Result<(), Failure> {
        if self.open.take().is_some() { self.printer.bytes(b"\n") } else { Ok(()) }
    }

    /// A whole line, behind the name of its step where there are several.
    fn labelled(&self, content: &[u8], source: &LogSource) -> Result<(), Failure> {
        let label = match self.labels {
            Some(width) => format!("{:<width$} |", source.step),
            None => String::new(),
        };
        let gap: &[u8] = if label.is_empty() || content.is_empty() { b"" } else { b" " };
        self.printer.bytes(&[label.as_bytes(), gap, content, b"\n"].concat())
    }

    fn record(&self, line: &LogLine, source: &LogSource) -> Result<(), Failure> {
        let record = LineRecord {
            at: line.at_ms,
            task: &source.task,
            step: &source.step,
            attempt: source.attempt,
            stream: match line.stream {
                LogStream::Stdout => "stdout",
                LogStream::Stderr => "stderr",
                LogStream::Note => "note",
            },
            line: String::from_utf8_lossy(line.content()).into_owned(),
        };
        self.printer.next(&record, |record| record.line.clone())
    }
}
