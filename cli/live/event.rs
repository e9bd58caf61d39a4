//! What can happen to a step, and the one line that says so where nobody watches a terminal.

use maestro_model::task::Reason;
use serde::Serialize;

use crate::output::foreign::harmless;
use crate::output::moment::{as_rfc3339, clock, duration};

/// Something that happened to a step, or to one item of a `foreach`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StepEvent {
    /// When, ms of the Unix clock.
    #[serde(serialize_with = "as_rfc3339")]
    pub(crate) at: u64,
    /// The step's id.
    pub(crate) step: String,
    /// The item's number, from 0; none for the step itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) item: Option<u32>,
    /// What.
    #[serde(flatten)]
    pub(crate) kind: StepEventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum StepEventKind {
    /// It is ready and waits for a worker.
    Queued,
    /// The items of a `foreach` are known.
    Expanded {
        /// How many.
        count: u32,
    },
    /// An attempt began.
    Started {
        /// Its number, from 1.
        attempt: u32,
        /// Where.
        worker: String,
    },
    /// The agent printed a line. As raw as it came: whoever shows it makes it harmless.
    Output {
        /// The line.
        line: String,
    },
    /// It ended well.
    Completed,
    /// It ended badly, for good.
    Failed {
        /// Why.
        reason: Reason,
        /// The agent's own code.
        exit_code: Option<i32>,
        /// One line for people.
        message: Option<String>,
    },
    /// An attempt ended badly, and another follows.
    Retrying {
        /// Why.
        reason: Reason,
        /// The agent's own code.
        exit_code: Option<i32>,
        /// One line for people.
        message: Option<String>,
        /// When the next attempt may begin, ms of the Unix clock.
        until: u64,
    },
    /// The agent asked to be called again.
    Parked {
        /// When, ms of the Unix clock.
        until: u64,
    },
    /// Its worker was lost; it goes back to its queue.
    Lost {
        /// The worker.
        worker: String,
    },
    /// Its worker gave it back unburned.
    Returned,
    /// It will not run.
    Skipped,
    /// Somebody ended it.
    Cancelled,
}

impl StepEvent {
    /// `build`, or `sweep[3]` for an item.
    pub(crate) fn label(&self) -> String {
        match self.item {
            Some(item) => format!("{}[{item}]", harmless(&self.step)),
            None => harmless(&self.step),
        }
    }
}

/// `exit 3: no such file`, `timeout`.
pub(crate) fn failure_text(reason: Reason, exit_code: Option<i32>, message: Option<&str>) -> String {
    let what = match (reason, exit_code) {
        (Reason::Exit, Some(code)) => format!("exit {code}"),
        _ => reason.word().to_owned(),
    };
    match message.map(harmless).map(|message| message.trim().to_owned()) {
        Some(message) if !message.is_empty() => format!("{what}: {message}"),
        _ => what,
    }
}

/// The line for an event, or none for what is not worth one (output, waiting for a worker).
/// `took_ms` is what `RunView::on_event` answered: how long the attempt lasted.
pub(crate) fn event_line(event: &StepEvent, took_ms: Option<u64>) -> Option<String> {
    let after = |word: &str| took_ms.map_or(String::new(), |ms| format!(" {word} {}", duration(ms)));
    let text = match &event.kind {
        StepEventKind::Queued | StepEventKind::Output { .. } => return None,
        StepEventKind::Expanded { count: 1 } => "has 1 item".to_owned(),
        StepEventKind::Expanded { count } => format!("has {count} items"),
        StepEventKind::Started { attempt, worker } => {
            format!("started (attempt {attempt}, worker {})", harmless(worker))
        }
        StepEventKind::Completed => format!("completed{}", after("in")),
        StepEventKind::Failed { reason, exit_code, message } => {
            let why = failure_text(*reason, *exit_code, message.as_deref());
            format!("failed{}: {why}", after("after"))
        }
        StepEventKind::Retrying { reason, exit_code, message, until } => {
            let why = failure_text(*reason, *exit_code, message.as_deref());
            let wait = duration(until.saturating_sub(event.at));
            format!("failed{}, tried again in {wait}: {why}", after("after"))
        }
        StepEventKind::Parked { until } => {
            format!("asked to be called again in {}", duration(until.saturating_sub(event.at)))
        }
        StepEventKind::Lost { worker } => {
            format!("was lost with worker {} and is queued again", harmless(worker))
        }
        StepEventKind::Returned => "was given back by its worker and is queued again".to_owned(),
        StepEventKind::Skipped => "skipped".to_owned(),
        StepEventKind::Cancelled => format!("cancelled{}", after("after")),
    };
    Some(format!("{} {} {text}", clock(event.at), event.label()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(item: Option<u32>, kind: StepEventKind, took_ms: Option<u64>) -> Option<String> {
        event_line(&StepEvent { at: 43_201_000, step: "build".to_owned(), item, kind }, took_ms)
    }

    #[test]
    fn each_event_reads_as_one_sentence() {
        let hostile = "\u{1b}[2Jno such\nfile\u{7}".to_owned();
        let failed = |exit_code| StepEventKind::Failed {
            reason: Reason::Exit,
            exit_code,
            message: Some(hostile.clone()),
        };
        let lines = [
            line(None, StepEventKind::Started { attempt: 1, worker: "a".to_owned() }, None),
            line(None, StepEventKind::Completed, Some(8_049)),
            line(Some(3), failed(Some(3)), Some(90_000)),
            line(None, failed(None), None),
            line(
                None,
                StepEventKind::Retrying {
                    reason: Reason::Timeout,
                    exit_code: None,
                    message: None,
                    until: 43_211_000,
                },
                Some(600_000),
            ),
            line(None, StepEventKind::Parked { until: 43_231_000 }, None),
            line(None, StepEventKind::Lost { worker: "a".to_owned() }, None),
            line(None, StepEventKind::Returned, None),
            line(None, StepEventKind::Skipped, None),
            line(None, StepEventKind::Cancelled, Some(1_200)),
            line(None, StepEventKind::Expanded { count: 12 }, None),
        ];
        let lines: Vec<String> = lines.into_iter().flatten().collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        12:00:01 build started (attempt 1, worker a)
        12:00:01 build completed in 8.0s
        12:00:01 build[3] failed after 1m 30s: exit 3: no such file
        12:00:01 build failed: exit: no such file
        12:00:01 build failed after 10m 00s, tried again in 10.0s: timeout
        12:00:01 build asked to be called again in 30.0s
        12:00:01 build was lost with worker a and is queued again
        12:00:01 build was given back by its worker and is queued again
        12:00:01 build skipped
        12:00:01 build cancelled after 1.2s
        12:00:01 build has 12 items
        ");
        assert_eq!(line(None, StepEventKind::Output { line: "x".to_owned() }, None), None);
    }

    #[test]
    fn an_event_is_flat_json() {
        let event = StepEvent {
            at: 43_201_000,
            step: "build".to_owned(),
            item: None,
            kind: StepEventKind::Started { attempt: 1, worker: "a".to_owned() },
        };
        insta::assert_snapshot!(serde_json::to_string(&event).expect("JSON"), @r#"{"at":"1970-01-01T12:00:01Z","step":"build","event":"started","attempt":1,"worker":"a"}"#);
    }
}
