//! What is wrong with a cluster, and what each rule means.
//!
//! Whether an agent has failed is said here and nowhere else: `agent list`, `agent health`, alerts and gauges all
//! ask. No clock and no I/O.

use std::collections::BTreeSet;

use maestro_model::assignment::Assignment;
use maestro_model::ids::{AgentSlug, WorkerName};
use maestro_store::worker::{AttachedProcess, DiskRoom, KilledAgent, ProcessCondition, TaskUsage};
use serde::{Deserialize, Serialize};

use super::facts::HealthFacts;

/// A heartbeat older than this makes an agent fail, ms.
pub const HEARTBEAT_AGE_MAX_MS: u64 = 60_000;
/// Beats that a worker may miss before somebody is told.
const BEATS_MISSED_MAX: u64 = 3;
/// Of a worker that does not say how often it beats, ms.
const HEARTBEAT_MS: u64 = 5_000;
/// A disk with less than this part of its room or its files free is full, percent.
const DISK_FREE_MIN_PERCENT: u64 = 5;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthRule {
    /// A worker is alive and beats.
    Worker,
    /// The disk of a worker has room.
    Disk,
    /// A worker's host has what its tasks need.
    Host,
    /// An agent can be worked with: its type is registered, its worker is there and was heard.
    Agent,
    /// An agent's folder is there, with its owner and mode, and its type can be launched.
    Workspace,
    /// The process of an agent exists and takes signals, and nobody kills it.
    Process,
    /// An agent whose type says after how long it stalls makes output.
    Output,
}

impl HealthRule {
    /// All of them, in the order in which they are told.
    pub const ALL: [HealthRule; 7] = [
        HealthRule::Worker,
        HealthRule::Disk,
        HealthRule::Host,
        HealthRule::Agent,
        HealthRule::Workspace,
        HealthRule::Process,
        HealthRule::Output,
    ];

    /// The word users read.
    pub fn word(self) -> &'static str {
        match self {
            HealthRule::Worker => "worker",
            HealthRule::Disk => "disk",
            HealthRule::Host => "host",
            HealthRule::Agent => "agent",
            HealthRule::Workspace => "workspace",
            HealthRule::Process => "process",
            HealthRule::Output => "output",
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthProblem {
    /// Which rule says so.
    pub rule: HealthRule,
    /// With what: a worker, an agent, or a task of no assigned agent. One rule finds one problem with it.
    pub subject: String,
    /// In words; numbers in it may differ from look to look.
    pub message: String,
    /// On which worker.
    pub worker: Option<String>,
    /// Whether it stays until a person does something.
    pub needs_person: bool,
}

/// Everything that is wrong, in the order of the rules.
pub fn problems(facts: &HealthFacts) -> Vec<HealthProblem> {
    let mut found: Vec<HealthProblem> =
        facts.lost.iter().map(|(name, at_ms)| lost(name, *at_ms, facts)).collect();
    for worker in &facts.workers {
        found.extend(of_worker(worker, facts.now_ms));
        // While the cluster is held still its agents are stopped, and say nothing.
        if worker.alive && !facts.mode.is_freezing() {
            found.extend(worker.status.tasks.iter().flat_map(|task| of_task(task, worker)));
        }
        found.extend(worker.status.killed.iter().filter(|_| worker.alive).map(|one| of_killed(one, worker)));
    }
    for agent in &facts.assigned {
        found.extend(of_agent(agent, facts));
    }
    found.sort_by(|a, b| (a.rule, &a.subject).cmp(&(b.rule, &b.subject)));
    found.dedup_by(|a, b| (a.rule, &a.subject) == (b.rule, &b.subject));
    found
}

fn lost(name: &str, at_ms: u64, facts: &HealthFacts) -> HealthProblem {
    let since = facts.now_ms.saturating_sub(at_ms) / 1000;
    HealthProblem {
        rule: HealthRule::Worker,
        subject: name.to_owned(),
        message: format!("worker `{name}` was lost {since} s ago; its tasks have gone back to their queues"),
        worker: Some(name.to_owned()),
        // Tasks go on elsewhere; agents with a folder there have problems of their own.
        needs_person: false,
    }
}

fn of_worker(worker: &AttachedProcess, now_ms: u64) -> Vec<HealthProblem> {
    let name = &worker.name;
    let found = |rule, needs_person, message| HealthProblem {
        rule,
        subject: name.clone(),
        message,
        worker: Some(name.clone()),
        needs_person,
    };
    let age_ms = now_ms.saturating_sub(worker.beat_ms);
    let between = if worker.status.heartbeat_ms == 0 { HEARTBEAT_MS } else { worker.status.heartbeat_ms };
    let longest = (between * BEATS_MISSED_MAX).min(HEARTBEAT_AGE_MAX_MS);
    if !worker.alive || age_ms > longest {
        let message = format!("worker `{name}` has not been heard for {} s", age_ms / 1000);
        // What it said of its host is as old as that.
        return vec![found(HealthRule::Worker, false, message)];
    }
    let mut problems = Vec::new();
    if let Some(room) = worker.status.disk.filter(is_full) {
        let message = format!(
            "the disk of worker `{name}` is full: {} MiB of {} MiB and {} of {} files are free",
            room.free_bytes >> 20,
            room.total_bytes >> 20,
            room.free_files,
            room.total_files
        );
        problems.push(found(HealthRule::Disk, true, message));
    }
    if let Some(trouble) = &worker.status.trouble {
        problems.push(found(HealthRule::Host, true, format!("worker `{name}`: {trouble}")));
    }
    problems
}

/// Some file systems count no files: they have none to run out of.
fn is_full(room: &DiskRoom) -> bool {
    let scarce = |free: u64, total: u64| {
        u128::from(free) * 100 < u128::from(total) * u128::from(DISK_FREE_MIN_PERCENT)
    };
    scarce(room.free_bytes, room.total_bytes) || scarce(room.free_files, room.total_files)
}

/// What goes by an agent's name if one is assigned, else by the task.
fn subject_of(task: &TaskUsage) -> String {
    task.assigned.as_ref().map_or_else(|| task.task.to_string(), ToString::to_string)
}

fn of_task(task: &TaskUsage, worker: &AttachedProcess) -> Vec<HealthProblem> {
    let who = match &task.assigned {
        Some(agent) => format!("agent `{agent}`"),
        None => format!("an agent of type `{}`", task.agent),
    };
    let found = |rule, message: String, needs_person| HealthProblem {
        rule,
        subject: subject_of(task),
        message: format!("{who} on worker `{}`, task `{}`: {message}", worker.name, task.task),
        worker: Some(worker.name.clone()),
        needs_person,
    };
    let mut problems = Vec::new();
    match task.condition {
        ProcessCondition::Runs => {}
        ProcessCondition::Stopped => {
            let message = format!("its process {} is stopped and takes no signals", task.pid);
            problems.push(found(HealthRule::Process, message, true));
        }
        ProcessCondition::Gone => {
            let message = format!("its process {} is gone, and its end was not noticed", task.pid);
            problems.push(found(HealthRule::Process, message, true));
        }
    }
    // It is ended by itself once the whole time is over; half of it is time to look.
    if let Some(stall_ms) = task.stall_ms.filter(|stall_ms| task.silent_ms > stall_ms / 2) {
        let (silent, stall) = (task.silent_ms / 1000, stall_ms / 1000);
        let message = format!("no output for {silent} s; it is ended after {stall} s");
        problems.push(found(HealthRule::Output, message, false));
    }
    problems
}

fn of_killed(killed: &KilledAgent, worker: &AttachedProcess) -> HealthProblem {
    let agent = killed.assigned.as_ref().map_or_else(|| killed.agent.to_string(), ToString::to_string);
    HealthProblem {
        rule: HealthRule::Process,
        message: format!(
            "agent `{agent}` on worker `{}`: its process was ended by signal {} while it worked on task `{}`",
            worker.name, killed.signal, killed.task
        ),
        subject: agent,
        worker: Some(worker.name.clone()),
        needs_person: true,
    }
}

fn of_agent(agent: &Assignment, facts: &HealthFacts) -> Vec<HealthProblem> {
    let worker = facts.workers.iter().find(|worker| worker.name == agent.worker.as_str());
    // One alert for a worker that is silent, not one for each of its agents as well; once it is gone they say so.
    if worker.is_some_and(|worker| {
        of_worker(worker, facts.now_ms).iter().any(|one| one.rule == HealthRule::Worker)
    }) {
        return Vec::new();
    }
    let found = agent_problems(agent, worker, &facts.types, facts.now_ms);
    let problem = |(rule, message): (HealthRule, String)| HealthProblem {
        rule,
        subject: agent.id.to_string(),
        message: format!("agent `{}`: {message}", agent.id),
        worker: Some(agent.worker.to_string()),
        needs_person: true,
    };
    found.into_iter().map(problem).collect()
}

/// What makes an agent `failed`, as far as heartbeats tell, with the rule that says so.
pub fn agent_problems(
    agent: &Assignment,
    worker: Option<&AttachedProcess>,
    types: &BTreeSet<AgentSlug>,
    now_ms: u64,
) -> Vec<(HealthRule, String)> {
    let mut problems = Vec::new();
    if !types.contains(&agent.agent_type) {
        problems.push((HealthRule::Agent, format!("agent type `{}` is not registered", agent.agent_type)));
    }
    let Some(worker) = worker else {
        problems.push((HealthRule::Agent, format!("worker `{}` is gone", agent.worker)));
        return problems;
    };
    problems.extend(unheard(&agent.worker, worker, now_ms).map(|problem| (HealthRule::Agent, problem)));
    problems.extend(worker.status.folders.get(&agent.id).map(|found| (HealthRule::Workspace, found.clone())));
    problems
}

fn unheard(name: &WorkerName, worker: &AttachedProcess, now_ms: u64) -> Option<String> {
    let age_ms = now_ms.saturating_sub(worker.beat_ms);
    if !worker.alive {
        Some(format!("worker `{name}` is lost: no heartbeat for {} s", age_ms / 1000))
    } else if age_ms > HEARTBEAT_AGE_MAX_MS {
        Some(format!("no heartbeat of worker `{name}` for {} s", age_ms / 1000))
    } else {
        None
    }
}
