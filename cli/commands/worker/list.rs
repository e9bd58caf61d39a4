//! `maestro worker list`: who is there, workers and coordinators.

use std::collections::BTreeMap;

use clap::Args;
use maestro_model::ids::Incarnation;
use maestro_store::worker::{AttachedProcess, ProcessRole, TaskUsage};
use serde::Serialize;

use crate::cluster::open_store;
use crate::commands::agent::mebibytes;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::output::foreign::cut;
use crate::output::moment::{age, as_rfc3339, as_seconds, duration, now_ms};
use crate::output::shape::{Column, Field, Shape};
use crate::output::tone::Tone;

/// Columns of the agent types in the table.
const TYPES_COLUMNS: usize = 40;

/// Flags of `worker list`: none.
#[derive(Debug, Args)]
#[command(
    after_help = "Memory and CPU time are those of the running tasks, by the last heartbeat. A worker that ended properly is not in the list; `lost` is one that went silent. CONFINED is `yes` where namespaces and Landlock keep process agents apart, `partly` where one of them does; `--format json` and `maestro doctor` say which, and what limits them.\n\n\
                        Example:\n  maestro worker list"
)]
pub(crate) struct WorkerListArgs {}

/// A process as users see it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProcessEntry {
    /// Its name; one process start of that name at a time.
    pub(crate) name: String,
    /// `worker` or `coordinator`.
    pub(crate) role: ProcessRole,
    /// Of a coordinator: whether it leads.
    pub(crate) leads: bool,
    /// `up`, `draining` or `lost`.
    pub(crate) status: &'static str,
    /// Tasks it holds, and may hold at one time.
    pub(crate) slots_used: u32,
    pub(crate) slots: u32,
    /// Agent types it serves.
    pub(crate) agents: Vec<String>,
    pub(crate) host: String,
    pub(crate) pid: u32,
    pub(crate) labels: BTreeMap<String, String>,
    /// What confines its agents.
    pub(crate) confinement: Vec<String>,
    /// What is wrong with its host.
    pub(crate) trouble: Option<String>,
    /// Resident memory of the process itself.
    pub(crate) memory_bytes: u64,
    /// What its running tasks use, by the last heartbeat.
    pub(crate) tasks: Vec<TaskUse>,
    #[serde(serialize_with = "as_rfc3339")]
    pub(crate) since: u64,
    #[serde(serialize_with = "as_rfc3339")]
    pub(crate) last_heartbeat: u64,
    /// Since then, seconds.
    #[serde(rename = "heartbeat_age", serialize_with = "as_seconds")]
    pub(crate) heartbeat_age_ms: u64,
    pub(crate) version: String,
}

/// What one running task uses, all its processes together.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TaskUse {
    pub(crate) task: String,
    /// The agent, else its type.
    pub(crate) agent: String,
    pub(crate) attempt: u32,
    /// Its first process.
    pub(crate) pid: u32,
    pub(crate) processes: u32,
    pub(crate) memory_bytes: u64,
    /// Processor time, seconds.
    #[serde(rename = "cpu", serialize_with = "as_seconds")]
    pub(crate) cpu_ms: u64,
    /// Since it wrote something, seconds.
    #[serde(rename = "silent", serialize_with = "as_seconds")]
    pub(crate) silent_ms: u64,
}

impl TaskUse {
    fn of(usage: &TaskUsage) -> TaskUse {
        let agent = usage.assigned.as_ref().map_or_else(|| usage.agent.to_string(), ToString::to_string);
        TaskUse {
            task: usage.task.to_string(),
            agent,
            attempt: usage.attempt.0,
            pid: usage.pid,
            processes: usage.processes,
            memory_bytes: usage.memory_bytes,
            cpu_ms: usage.cpu_ms,
            silent_ms: usage.silent_ms,
        }
    }
}

impl ProcessEntry {
    /// The record of an attached process.
    pub(crate) fn of(process: AttachedProcess, leader: Option<&Incarnation>, now_ms: u64) -> ProcessEntry {
        let status = match (process.alive, process.status.draining) {
            (false, _) => "lost",
            (true, true) => "draining",
            (true, false) => "up",
        };
        ProcessEntry {
            role: process.about.role,
            leads: leader == Some(&process.incarnation),
            status,
            slots_used: process.holds.max(process.status.running),
            slots: process.about.slots,
            agents: process.types,
            host: process.about.host,
            pid: process.about.pid,
            labels: process.about.labels,
            confinement: process.about.confinement,
            trouble: process.status.trouble,
            memory_bytes: process.status.memory_bytes,
            tasks: process.status.tasks.iter().map(TaskUse::of).collect(),
            since: process.since_ms,
            last_heartbeat: process.beat_ms,
            heartbeat_age_ms: now_ms.saturating_sub(process.beat_ms),
            version: process.about.version,
            name: process.name,
        }
    }
}

const SHAPE: Shape<ProcessEntry> = Shape {
    columns: &[
        Column::new("NAME", |one| one.name.clone().into()),
        Column::new("ROLE", |one| match (one.role, one.leads) {
            (ProcessRole::Worker, _) => "worker".into(),
            (ProcessRole::Coordinator, true) => "coordinator (leads)".into(),
            (ProcessRole::Coordinator, false) => "coordinator".into(),
        }),
        Column::new("STATUS", |one| {
            let tone = match one.status {
                "up" => Tone::Good,
                "lost" => Tone::Bad,
                _ => Tone::Warn,
            };
            let trouble = one.trouble.as_ref().map(|trouble| format!("{}: {trouble}", one.status));
            Field::toned(trouble.unwrap_or_else(|| one.status.to_owned()), tone)
        }),
        Column::new("SLOTS", |one| match one.role {
            ProcessRole::Worker => Field::number(format!("{}/{}", one.slots_used, one.slots)),
            ProcessRole::Coordinator => Field::none(),
        }),
        Column::new("MEMORY", |one| sum(one, |used| used.memory_bytes, mebibytes)),
        Column::new("CPU", |one| sum(one, |used| used.cpu_ms, duration)),
        Column::new("AGENTS", |one| {
            let types = (!one.agents.is_empty()).then(|| cut(&one.agents.join(","), TYPES_COLUMNS));
            Field::or_none(types)
        }),
        Column::new("HOST", |one| format!("{} ({})", one.host, one.pid).into()),
        Column::new("UP", |one| age(one.since, now_ms()).into()),
        Column::new("HEARTBEAT", |one| format!("{} ago", age(one.last_heartbeat, now_ms())).into()),
        Column::new("CONFINED", |one| match one.role {
            ProcessRole::Worker => confined(&one.confinement),
            ProcessRole::Coordinator => Field::none(),
        }),
        Column::new("VERSION", |one| one.version.clone().into()),
    ],
    name: |one| one.name.clone(),
    none: "no worker and no coordinator is there; `maestro up` starts a whole cluster here",
};

/// In one word what confines process agents; JSON has all of it.
fn confined(by: &[String]) -> Field {
    let has = |word: &str| by.iter().any(|part| part.contains(word));
    match (has("namespaces"), has("landlock")) {
        (true, true) => Field::toned("yes", Tone::Good),
        (false, false) => Field::toned("no", Tone::Warn),
        _ => Field::toned("partly", Tone::Warn),
    }
}

/// What all running tasks use together.
fn sum(one: &ProcessEntry, part: fn(&TaskUse) -> u64, shown: fn(u64) -> String) -> Field {
    let runs = !one.tasks.is_empty();
    if runs { Field::number(shown(one.tasks.iter().map(part).sum())) } else { Field::none() }
}

/// Lists them by name, workers first.
pub(crate) fn run(_args: &WorkerListArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let leader = store.leader().await?;
        let now = now_ms();
        let mut entries: Vec<ProcessEntry> = store
            .processes()
            .await?
            .into_iter()
            .map(|process| ProcessEntry::of(process, leader.as_ref(), now))
            .collect();
        entries.sort_by_key(|entry| (entry.role == ProcessRole::Coordinator, entry.name.clone()));
        context.printer.list(&entries, &SHAPE)?;
        Ok(Exit::Done)
    })
}
