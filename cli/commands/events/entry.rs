//! An event of the audit stream as users see it: one record, and one line for people.

use std::collections::HashMap;

use maestro_model::task::Reason;
use maestro_store::Store;
use maestro_store::events::{AuditEvent, EventKind, TaskHappening};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::foreign::harmless;
use crate::output::moment::{as_optional_rfc3339, as_rfc3339, clock, rfc3339};
use crate::output::shape::{Column, Field, Shape};

/// An event's record. What does not apply is null, so that every line has the same fields.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct EventEntry {
    /// When, by Redis' clock.
    #[serde(serialize_with = "as_rfc3339")]
    pub(crate) at: u64,
    /// What: `started`, `run-submitted`, `state-set`, `worker-gone`, …
    pub(crate) event: String,
    /// To whom: the id of a task or run, a key, the name of a worker.
    pub(crate) subject: String,
    /// The run it concerns.
    pub(crate) run: Option<String>,
    /// The task it concerns.
    pub(crate) task: Option<String>,
    /// The step of that task.
    pub(crate) step: Option<String>,
    /// Which try of it.
    pub(crate) attempt: Option<u32>,
    /// Who did it: a worker's name, or what it calls itself where that is not known any more.
    pub(crate) actor: Option<String>,
    /// Why.
    pub(crate) reason: Option<&'static str>,
    /// The agent's own code.
    pub(crate) exit_code: Option<i32>,
    /// Of a task that waits for a time.
    #[serde(serialize_with = "as_optional_rfc3339")]
    pub(crate) until: Option<u64>,
    /// Whatever else is known: a queue, a number of items, a version.
    pub(crate) detail: Option<String>,
}

/// Events for people.
pub(crate) const EVENT_ROWS: Shape<EventEntry> = Shape {
    columns: &[
        Column::new("AT", |event| rfc3339(event.at).into()),
        Column::new("EVENT", |event| event.event.clone().into()),
        Column::new("SUBJECT", |event| event.subject.clone().into()),
        Column::new("ACTOR", |event| Field::or_none(event.actor.clone())),
        Column::new("DETAIL", |event| Field::or_none(event.detail.clone())),
    ],
    name: |event| event.subject.clone(),
    none: "no events",
};

impl EventEntry {
    /// The line people read.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{} {} {}", clock(self.at), self.event, harmless(&self.subject));
        if let Some(step) = &self.step {
            line.push_str(&format!(" ({})", harmless(step)));
        }
        if let Some(attempt) = self.attempt {
            line.push_str(&format!(" attempt {attempt}"));
        }
        if let Some(actor) = &self.actor {
            line.push_str(&format!(" by {}", harmless(actor)));
        }
        let why = match (self.reason, self.exit_code) {
            (Some("exit"), Some(code)) => Some(format!("exit {code}")),
            (reason, _) => reason.map(str::to_owned),
        };
        let until = self.until.map(|until| format!("until {}", clock(until)));
        for part in [why, until, self.detail.as_deref().map(harmless)].into_iter().flatten() {
            line.push_str(&format!(": {part}"));
        }
        line
    }
}

/// Makes records of events; knows who is behind an incarnation as far as events and Redis have told.
#[derive(Debug, Default)]
pub(crate) struct EventTeller {
    names: HashMap<String, String>,
    steps: HashMap<String, Option<String>>,
}

impl EventTeller {
    /// With the names of those that are attached.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn read(store: &Store) -> Result<EventTeller, Failure> {
        let processes = store.processes().await?;
        let names = processes.into_iter().map(|process| (process.incarnation.to_string(), process.name));
        Ok(EventTeller { names: names.collect(), steps: HashMap::new() })
    }

    /// Learns the steps of tasks whose run is asked about.
    pub(crate) fn learn_step(&mut self, task: String, step: Option<String>) {
        self.steps.insert(task, step);
    }

    /// Whether the step of a task has been looked up.
    pub(crate) fn knows_step(&self, task: &str) -> bool {
        self.steps.contains_key(task)
    }

    /// The record of an event.
    pub(crate) fn entry(&mut self, event: &AuditEvent) -> EventEntry {
        let mut entry = blank(event);
        match &event.kind {
            EventKind::Task { task, attempt, who, what } => {
                entry.event = what.word().to_owned();
                entry.subject = task.to_string();
                entry.task = Some(entry.subject.clone());
                entry.step = self.steps.get(&entry.subject).cloned().flatten();
                entry.attempt = (*attempt > 0).then_some(*attempt);
                if let TaskHappening::Started { worker } = what
                    && !worker.is_empty()
                {
                    self.names.insert(who.clone(), worker.clone());
                }
                entry.actor = self.actor(who);
                describe(what, &mut entry);
            }
            EventKind::Run { run, word, detail } => {
                entry.event = format!("run-{word}");
                entry.subject = run.to_string();
                entry.detail = some(detail);
            }
            EventKind::State { key, version, who } => {
                entry.event = if version.is_some() { "state-set" } else { "state-deleted" }.to_owned();
                entry.subject.clone_from(key);
                entry.actor = self.actor(who);
                entry.detail = version.map(|version| format!("version {version}"));
                if let Some((task, attempt)) = event.speaker() {
                    entry.run = Some(task.run.to_string());
                    entry.task = Some(task.to_string());
                    entry.step = self.steps.get(&task.to_string()).cloned().flatten();
                    entry.attempt = Some(attempt.0);
                }
            }
            EventKind::Other { word, subject, who, detail } => {
                entry.event.clone_from(word);
                entry.subject = self.names.get(subject).cloned().unwrap_or_else(|| subject.clone());
                entry.actor = self.actor(who).filter(|actor| *actor != entry.subject);
                entry.detail = some(detail);
                if word == "worker-attached" {
                    self.names.insert(who.clone(), subject.clone());
                    entry.actor = None;
                }
            }
        }
        entry
    }

    fn actor(&self, who: &str) -> Option<String> {
        some(self.names.get(who).map_or(who, String::as_str))
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn blank(event: &AuditEvent) -> EventEntry {
    EventEntry {
        at: event.at_ms,
        event: String::new(),
        subject: String::new(),
        run: event.run().map(ToString::to_string),
        task: None,
        step: None,
        attempt: None,
        actor: None,
        reason: None,
        exit_code: None,
        until: None,
        detail: None,
    }
}

/// What only a task's events tell.
fn describe(what: &TaskHappening, entry: &mut EventEntry) {
    match what {
        TaskHappening::Queued { queue } => entry.detail = some(queue),
        TaskHappening::Expanded { items } => entry.detail = Some(format!("{items} items")),
        TaskHappening::Failed { reason, exit_code } => {
            entry.reason = reason.map(Reason::word);
            entry.exit_code = *exit_code;
        }
        TaskHappening::Parked { reason, until_ms } => {
            entry.reason = reason.map(Reason::word);
            entry.until = Some(*until_ms);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use maestro_model::ids::TaskId;

    use super::*;

    fn task_event(what: TaskHappening, who: &str) -> AuditEvent {
        let task = TaskId { run: "0aaaaaaaaaa1".parse().expect("an id"), index: 2 };
        let kind = EventKind::Task { task, attempt: 1, who: who.to_owned(), what };
        AuditEvent { at_ms: 43_201_000, kind }
    }

    #[test]
    fn each_event_is_a_line_and_a_worker_has_its_name_once_it_was_told() {
        let mut teller = EventTeller::default();
        teller.learn_step("0aaaaaaaaaa1.2".to_owned(), Some("build".to_owned()));
        let events = [
            task_event(TaskHappening::Queued { queue: "a:shell".to_owned() }, ""),
            task_event(TaskHappening::Started { worker: "alpha".to_owned() }, "k3v9"),
            task_event(TaskHappening::Parked { reason: Some(Reason::Timeout), until_ms: 43_211_000 }, "k3v9"),
            task_event(TaskHappening::Failed { reason: Some(Reason::Exit), exit_code: Some(3) }, "k3v9"),
        ];
        let lines: Vec<String> = events.iter().map(|event| teller.entry(event).line()).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        12:00:01 queued 0aaaaaaaaaa1.2 (build) attempt 1: a:shell
        12:00:01 started 0aaaaaaaaaa1.2 (build) attempt 1 by alpha
        12:00:01 parked 0aaaaaaaaaa1.2 (build) attempt 1 by alpha: timeout: until 12:00:11
        12:00:01 failed 0aaaaaaaaaa1.2 (build) attempt 1 by alpha: exit 3
        ");
    }
}
