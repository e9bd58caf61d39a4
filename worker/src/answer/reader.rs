//! One agent's output on its way through the reader of its program.

use std::fmt;

use jiff::Zoned;
use maestro_model::agent_type::OutputFormat;
use serde_json::Value;

use super::claude::ClaudeEvents;
use super::codex::CodexEvents;
use super::events::EventSplitter;
use super::findings::{AnswerFindings, AnswerTrouble, ProgramEvents, RawFindings};
use super::gemini::GeminiEvents;
use super::kilo::KiloEvents;

/// Reads standard output as it comes, and tells in the end what was in it.
pub struct AnswerReader {
    splitter: EventSplitter,
    program: Box<dyn ProgramEvents>,
    events: u64,
}

impl AnswerReader {
    /// A reader for a format; none for plain text, which is its own answer.
    pub fn of(format: OutputFormat) -> Option<AnswerReader> {
        let program: Box<dyn ProgramEvents> = match format {
            OutputFormat::Text => return None,
            OutputFormat::ClaudeJson => Box::<ClaudeEvents>::default(),
            OutputFormat::CodexJson => Box::<CodexEvents>::default(),
            OutputFormat::GeminiJson => Box::<GeminiEvents>::default(),
            OutputFormat::KiloJson => Box::<KiloEvents>::default(),
        };
        Some(AnswerReader { splitter: EventSplitter::default(), program, events: 0 })
    }

    /// Takes what was written next, cut anywhere.
    pub fn add(&mut self, bytes: &[u8]) {
        let AnswerReader { splitter, program, events } = self;
        splitter.add(bytes, &mut |event: Value| {
            *events += 1;
            program.on_event(&event);
        });
    }

    /// What was in it. `now` is when the program ended, in the time zone it lived in: some say at what
    /// o'clock a limit is lifted.
    pub fn finish(mut self, now: &Zoned) -> AnswerFindings {
        let AnswerReader { splitter, program, events } = &mut self;
        splitter.end(&mut |event: Value| {
            *events += 1;
            program.on_event(&event);
        });
        let RawFindings { answer, mut model_use, trouble } = program.conclude();
        let trouble = trouble.map(|trouble| trouble.resolve(now));
        if let Some(AnswerTrouble::UsageLimit(limit)) = &trouble {
            model_use.resets_at_ms = limit.reset.and_then(|reset| reset.at.as_millisecond().try_into().ok());
        }
        let answer = answer.filter(|_| trouble.is_none());
        AnswerFindings { answer, model_use, trouble, events: *events }
    }
}

impl fmt::Debug for AnswerReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AnswerReader").field("events", &self.events).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
