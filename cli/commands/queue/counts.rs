//! How many tasks are where, by agent type.
//!
//! Runs that go on are counted task by task, because a task without a record may be anywhere before its
//! start; of runs that have ended the records alone are read.

use std::collections::BTreeMap;

use maestro_coordinator::counting::{agent_name, counted_tasks};
use maestro_model::task::TaskStatus;
use maestro_store::Store;
use maestro_store::runs::RunRecord;
use maestro_store::worker::ProcessRole;
use serde::Serialize;

use crate::commands::task::scan::{RUNS_LOOKED_AT_MAX, TASKS_LOOKED_AT_MAX};
use crate::failure::Failure;
use crate::output::shape::{Column, Field, Shape};

/// Runs looked at for those that go on: more than are ever kept.
const RUNS_MAX: usize = 1_000_000;

/// One agent type's tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct AgentCounts {
    /// The agent, or the agent type.
    pub(crate) agent: String,
    /// Blocked, queued and parked.
    pub(crate) waiting: u32,
    pub(crate) blocked: u32,
    pub(crate) queued: u32,
    pub(crate) parked: u32,
    /// Running.
    pub(crate) processing: u32,
    /// Ended, however, of the runs that are kept.
    pub(crate) completed: u32,
    /// Of these, ended badly.
    pub(crate) failed: u32,
    /// Live workers that serve it.
    pub(crate) workers: u32,
}

impl AgentCounts {
    fn count(&mut self, status: TaskStatus, number: u32) {
        let waits = match status {
            TaskStatus::Blocked => Some(&mut self.blocked),
            TaskStatus::Queued => Some(&mut self.queued),
            TaskStatus::Parked => Some(&mut self.parked),
            _ => None,
        };
        if let Some(kind) = waits {
            *kind += number;
            self.waiting += number;
            return;
        }
        match status {
            TaskStatus::Running | TaskStatus::Cancelling => self.processing += number,
            _ => self.completed += number,
        }
        if status == TaskStatus::Failed {
            self.failed += number;
        }
    }
}

/// The counts of all types that have tasks or workers.
pub(crate) const COUNT_ROWS: Shape<AgentCounts> = Shape {
    columns: &[
        Column::new("AGENT", |row| row.agent.clone().into()),
        Column::new("WAITING", |row| Field::number(row.waiting)),
        Column::new("BLOCKED", |row| Field::number(row.blocked)),
        Column::new("QUEUED", |row| Field::number(row.queued)),
        Column::new("PARKED", |row| Field::number(row.parked)),
        Column::new("PROCESSING", |row| Field::number(row.processing)),
        Column::new("COMPLETED", |row| Field::number(row.completed)),
        Column::new("FAILED", |row| Field::number(row.failed)),
        Column::new("WORKERS", |row| Field::number(row.workers)),
    ],
    name: |row| row.agent.clone(),
    none: "no tasks, and no worker that could take any",
};

/// What was counted.
#[derive(Debug)]
pub(crate) struct CountedQueues {
    /// By agent type.
    pub(crate) rows: Vec<AgentCounts>,
    /// Whether ended tasks of older runs were left out.
    pub(crate) cut: bool,
}

/// Counts. Runs that go on are counted whole, whatever that takes; ended ones as far as there is room.
///
/// # Errors
/// What the store says.
pub(crate) async fn count_by_agent(store: &Store) -> Result<CountedQueues, Failure> {
    let mut counts: BTreeMap<String, AgentCounts> = BTreeMap::new();
    let mut looked_at = 0;
    let mut cut = false;
    let runs = store.newest_runs(RUNS_MAX).await?;
    for (place, run) in runs.iter().enumerate() {
        if !run.status.is_final() {
            looked_at += run.tasks;
            count_open(store, run, &mut counts).await?;
        } else if looked_at < TASKS_LOOKED_AT_MAX && place < RUNS_LOOKED_AT_MAX {
            looked_at += run.tasks;
            count_ended(store, run, &mut counts).await?;
        } else {
            cut = true;
        }
    }
    let mut workers = store.processes().await?;
    workers.retain(|process| process.alive && process.about.role == ProcessRole::Worker);
    for slug in workers.iter().flat_map(|worker| &worker.types) {
        counts.entry(slug.clone()).or_default().workers += 1;
    }
    for (id, assignment) in store.assignments().await? {
        // A name that is both an agent's and a type's means the agent.
        let there = workers.iter().any(|worker| worker.name == assignment.worker.as_str());
        counts.entry(id.to_string()).or_default().workers = u32::from(there);
    }
    let rows = counts.into_iter().map(|(agent, row)| AgentCounts { agent, ..row }).collect();
    Ok(CountedQueues { rows, cut })
}

async fn count_open(
    store: &Store,
    run: &RunRecord,
    counts: &mut BTreeMap<String, AgentCounts>,
) -> Result<(), Failure> {
    for task in counted_tasks(store, run).await? {
        counts.entry(task.agent).or_default().count(task.status, 1);
    }
    Ok(())
}

async fn count_ended(
    store: &Store,
    run: &RunRecord,
    counts: &mut BTreeMap<String, AgentCounts>,
) -> Result<(), Failure> {
    let tally = store.tally(&run.id).await?;
    let numbers: Vec<u32> = tally.keys().copied().collect();
    if numbers.is_empty() {
        return Ok(());
    }
    // A run may be collected between the two reads.
    let Ok(parts) = store.run_parts(&run.id, &numbers, &[]).await else { return Ok(()) };
    for (number, by_status) in tally {
        let Some(part) = parts.shared.get(&number) else { continue };
        let row = counts.entry(agent_name(part)).or_default();
        for (status, count) in by_status {
            row.count(status, count);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_waiting_processing_or_completed() {
        let mut row = AgentCounts::default();
        for status in TaskStatus::ALL {
            row.count(status, 1);
        }
        assert_eq!((row.waiting, row.processing, row.completed, row.failed), (3, 2, 4, 1));
        assert_eq!((row.blocked, row.queued, row.parked), (1, 1, 1));
    }
}
