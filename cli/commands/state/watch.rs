//! `maestro state watch`: changes of shared state as they happen.

use std::time::Duration;

use clap::Args;
use hyper::Method;
use maestro_store::events::{AuditEvent, EventKind, EventPosition, EventReader};
use maestro_store::{Store, StoreError};
use maestro_worker::side_door::{ChangeRecord, ErrorBody, KeyPattern, WATCH_PATH, query_text};
use serde::Serialize;
use serde_json::Value;

use super::entry::value_text;
use super::pattern::read_pattern;
use super::road::StateRoad;
use crate::commands::task::logs::patient;
use crate::commands::{CommandContext, Outcome};
use crate::failure::Failure;
use crate::output::foreign::harmless;
use crate::output::moment::{as_rfc3339, clock, read_rfc3339};
use crate::side_door::{DoorFailure, DoorLines, DoorPayload, SideDoorClient};

/// Longest wait for a change before the connection is used again.
const CHANGES_WAIT: Duration = Duration::from_secs(2);

/// Flags of `state watch`.
#[derive(Debug, Args)]
#[command(
    after_help = "Shows each value as it is when it is read: one that is replaced at once is passed over. \
                        Values that end with their time to live are not announced.\n\n\
                        Example:\n  maestro state watch \"build*\" --format jsonl"
)]
pub(crate) struct StateWatchArgs {
    /// Only keys that match: `*`, `?`, `[ab]`, `{a,b}`
    glob: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownChange {
    #[serde(serialize_with = "as_rfc3339")]
    at: u64,
    /// `set` or `deleted`.
    event: &'static str,
    key: String,
    version: Option<u64>,
    value: Option<Value>,
    /// Who did it: a task's attempt, or `cli`.
    by: String,
}

/// Watches until it is interrupted.
pub(crate) fn run(args: &StateWatchArgs, context: &CommandContext) -> Outcome {
    let glob = args.glob.as_deref();
    let pattern = read_pattern(glob)?;
    context.block_on(0, async {
        match StateRoad::open(context).await? {
            StateRoad::Cluster { store, .. } => watch_cluster(&store, &pattern, context).await,
            StateRoad::Door(client) => watch_by_door(&client, glob, context).await,
        }
    })
}

async fn watch_cluster(store: &Store, pattern: &KeyPattern, context: &CommandContext) -> Outcome {
    let mut changes = Changes { store, position: store.events_end().await?, reader: None };
    context.printer.detail("watching; Ctrl-C ends it");
    loop {
        let events = patient(context, async || changes.next().await).await?;
        for event in events {
            if let Some(change) = read_change(store, context, event, pattern).await? {
                context.printer.next(&change, change_line)?;
            }
        }
    }
}

/// The worker says what changes, until it ends the watch.
async fn watch_by_door(client: &SideDoorClient, glob: Option<&str>, context: &CommandContext) -> Outcome {
    let query = glob.map_or_else(String::new, |glob| format!("?glob={}", query_text(glob)));
    let answer = client.open(&Method::GET, &format!("{WATCH_PATH}{query}"), &DoorPayload::default()).await?;
    context.printer.detail("watching; Ctrl-C ends it");
    let mut lines = DoorLines::of(answer);
    while let Some(line) = lines.next().await.map_err(|error| client.unanswered(&error))? {
        if let Ok(ErrorBody { error }) = serde_json::from_slice(&line) {
            return Err(DoorFailure::Answered(error).into());
        }
        let change: ChangeRecord =
            serde_json::from_slice(&line).map_err(|error| client.unanswered(&error))?;
        context.printer.next(&ShownChange::from(change), change_line)?;
    }
    Err(Failure::unavailable("the worker has ended the watch").hint("the task is about to end"))
}

impl From<ChangeRecord> for ShownChange {
    fn from(change: ChangeRecord) -> ShownChange {
        ShownChange {
            at: read_rfc3339(&change.at).unwrap_or_default(),
            event: if change.version.is_some() { "set" } else { "deleted" },
            key: change.key,
            version: change.version,
            value: change.value,
            by: change.by,
        }
    }
}

/// The audit stream from a position on, opened anew after a failure.
struct Changes<'a> {
    store: &'a Store,
    position: EventPosition,
    reader: Option<EventReader>,
}

impl Changes<'_> {
    async fn next(&mut self) -> Result<Vec<AuditEvent>, StoreError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.store.follow_events(self.position.clone(), CHANGES_WAIT).await?,
        };
        // A reader that failed is not put back: the next call opens another one at the same place.
        let events = reader.next().await?;
        self.position = reader.position().clone();
        self.reader = Some(reader);
        Ok(events)
    }
}

async fn read_change(
    store: &Store,
    context: &CommandContext,
    event: AuditEvent,
    pattern: &KeyPattern,
) -> Result<Option<ShownChange>, Failure> {
    let EventKind::State { key, version, who } = event.kind else { return Ok(None) };
    if !pattern.means(&key) {
        return Ok(None);
    }
    let now = patient(context, async || store.state(&key).await).await?;
    let current = now.as_ref().map(|shared| shared.version);
    // What came after it has an event of its own.
    if current != version {
        return Ok(None);
    }
    Ok(Some(ShownChange {
        at: event.at_ms,
        event: if version.is_some() { "set" } else { "deleted" },
        key,
        version,
        value: now.map(|shared| shared.value),
        by: who,
    }))
}

/// `12:00:01 build_id = 42 (version 3, by 0k3v9x2mqf1a.2.1)`
fn change_line(change: &ShownChange) -> String {
    let key = harmless(&change.key);
    let by = if change.by.is_empty() { String::new() } else { format!("by {}", harmless(&change.by)) };
    match (&change.value, change.version) {
        (Some(value), Some(version)) => {
            let by = if by.is_empty() { by } else { format!(", {by}") };
            format!("{} {key} = {} (version {version}{by})", clock(change.at), harmless(&value_text(value)))
        }
        _ => format!("{} {key} deleted {by}", clock(change.at)).trim_end().to_owned(),
    }
}
