//! An agent as users see it: the record of `agent list`.
//!
//! No field and no word but the status says `active`, so that it can be counted with `grep`.

use maestro_model::agent_type::AgentType;
use maestro_model::assignment::Assignment;
use maestro_model::ids::AgentSlug;
use maestro_store::worker::TaskUsage;
use serde::Serialize;

use crate::agents::{AgentCondition, AgentOverview};
use crate::output::moment::{age, as_optional_rfc3339, as_optional_seconds, duration, now_ms};
use crate::output::shape::{Column, Field, Shape};
use crate::output::tone::Tone;

/// Columns of a folder in the table.
const FOLDER_COLUMNS: usize = 40;

/// An agent, or a type without one.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AgentEntry {
    /// The agent, else the type.
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) agent_type: String,
    /// `active`, `idle` or `failed`.
    pub(crate) status: &'static str,
    /// Why it failed.
    pub(crate) reason: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) priority: Option<u8>,
    /// Who runs it; none for a type, which any worker may.
    pub(crate) worker: Option<String>,
    /// The folder it was assigned; none for a type.
    pub(crate) assignment: Option<String>,
    /// Whether its tasks wait until it is started again.
    pub(crate) stopped: bool,
    /// What it works on.
    pub(crate) task: Option<String>,
    /// Of the worker that runs it; of a type, of the one that serves it and was heard last.
    #[serde(serialize_with = "as_optional_rfc3339")]
    pub(crate) last_heartbeat: Option<u64>,
    /// Since then, seconds.
    #[serde(rename = "heartbeat_age", serialize_with = "as_optional_seconds")]
    pub(crate) heartbeat_age_ms: Option<u64>,
    /// Of what it runs: resident memory.
    pub(crate) memory_bytes: Option<u64>,
    /// Processor time, seconds.
    #[serde(rename = "cpu", serialize_with = "as_optional_seconds")]
    pub(crate) cpu_ms: Option<u64>,
    pub(crate) processes: Option<u32>,
}

impl AgentEntry {
    /// The record of an agent.
    pub(crate) fn of_agent(agent: &Assignment, overview: &AgentOverview) -> AgentEntry {
        let (status, reason) = match overview.condition(agent) {
            AgentCondition::Active => ("active", None),
            AgentCondition::Idle => ("idle", None),
            AgentCondition::Failed(reason) => ("failed", Some(reason)),
        };
        let beat_ms = overview.worker_of(agent).map(|worker| worker.beat_ms);
        AgentEntry {
            id: agent.id.to_string(),
            agent_type: agent.agent_type.to_string(),
            status,
            reason,
            role: agent.role.clone(),
            priority: agent.priority,
            worker: Some(agent.worker.to_string()),
            assignment: Some(agent.path.clone()),
            stopped: agent.held.is_some(),
            task: overview.running.get(&agent.id).map(ToString::to_string),
            ..AgentEntry::of_type_slug(&agent.agent_type, beat_ms, &overview.usage_of(&agent.id))
        }
    }

    /// The record of a type without an assigned agent.
    pub(crate) fn of_type(agent: &AgentType, overview: &AgentOverview) -> AgentEntry {
        let beat_ms = overview.serving(&agent.slug).map(|worker| worker.beat_ms).max();
        let running = overview.unassigned.get(&agent.slug);
        let served = overview.serving(&agent.slug).next().is_some();
        AgentEntry {
            status: if running.is_some() { "active" } else { "idle" },
            reason: (!served).then(|| "no live worker serves it".to_owned()),
            task: running.and_then(|tasks| tasks.first()).map(ToString::to_string),
            ..AgentEntry::of_type_slug(&agent.slug, beat_ms, &overview.usage_of_type(&agent.slug))
        }
    }

    fn of_type_slug(slug: &AgentSlug, beat_ms: Option<u64>, usage: &[&TaskUsage]) -> AgentEntry {
        let runs = !usage.is_empty();
        AgentEntry {
            id: slug.to_string(),
            agent_type: slug.to_string(),
            status: "idle",
            reason: None,
            role: None,
            priority: None,
            worker: None,
            assignment: None,
            stopped: false,
            task: None,
            last_heartbeat: beat_ms,
            heartbeat_age_ms: beat_ms.map(|beat_ms| now_ms().saturating_sub(beat_ms)),
            memory_bytes: runs.then(|| usage.iter().map(|one| one.memory_bytes).sum()),
            cpu_ms: runs.then(|| usage.iter().map(|one| one.cpu_ms).sum()),
            processes: runs.then(|| usage.iter().map(|one| one.processes).sum()),
        }
    }
}

/// Many agents.
pub(crate) const AGENT_ROWS: Shape<AgentEntry> = Shape {
    columns: &[
        Column::new("ID", |one| one.id.clone().into()),
        Column::new("TYPE", |one| one.agent_type.clone().into()),
        Column::new("STATUS", status),
        Column::new("ROLE", |one| Field::or_none(one.role.clone())),
        Column::new("WORKER", |one| Field::or_none(one.worker.clone())),
        Column::new("ASSIGNMENT", |one| Field::or_none(one.assignment.as_deref().map(cut_left))),
        Column::new("HEARTBEAT", |one| {
            Field::or_none(one.last_heartbeat.map(|at| format!("{} ago", age(at, now_ms()))))
        }),
        Column::new("MEMORY", |one| {
            one.memory_bytes.map_or_else(Field::none, |bytes| Field::number(mebibytes(bytes)))
        }),
        Column::new("CPU", |one| one.cpu_ms.map_or_else(Field::none, |ms| Field::number(duration(ms)))),
    ],
    name: |one| one.id.clone(),
    none: "no agents, and no agent types; `maestro agent register` stores some",
};

fn status(one: &AgentEntry) -> Field {
    let tone = match one.status {
        "active" => Tone::Busy,
        "failed" => Tone::Bad,
        _ => Tone::Faint,
    };
    let word = if one.stopped { format!("{} (stopped)", one.status) } else { one.status.to_owned() };
    Field::toned(word, tone)
}

/// The end of a path says more than its beginning.
pub(crate) fn cut_left(path: &str) -> String {
    let letters = path.chars().count();
    if letters <= FOLDER_COLUMNS {
        return path.to_owned();
    }
    let tail: String = path.chars().skip(letters - FOLDER_COLUMNS + 1).collect();
    format!("…{tail}")
}

/// `12.5 MiB`.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_shows_its_end() {
        assert_eq!(cut_left("/srv/app"), "/srv/app");
        let long = format!("/{}/app", "x".repeat(60));
        let shown = cut_left(&long);
        assert_eq!(shown.chars().count(), FOLDER_COLUMNS);
        assert!(shown.starts_with('…') && shown.ends_with("/app"), "{shown}");
    }
}
