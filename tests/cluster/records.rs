//! What the tests of faults ask of records, events and witnesses.

use std::collections::BTreeMap;

use maestro_model::ids::RunId;
use maestro_model::task::TaskStatus;
use maestro_store::events::{AuditEvent, EventKind, TaskHappening};
use maestro_store::record::TaskRecord;

use crate::graphs::WITNESS;
use crate::support::{AuditReport, RunStory, TestCluster, audit};

/// A line that an agent wrote: its letter, step, attempt and worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) letter: String,
    pub(crate) step: String,
    pub(crate) attempt: u32,
    pub(crate) worker: String,
}

/// All lines so far, in the order in which they were written.
pub(crate) fn notes(cluster: &TestCluster) -> Vec<Note> {
    let lines = cluster.witnessed(WITNESS);
    lines
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [letter, step, attempt, worker] = words[..] else { panic!("no such line: {line:?}") };
            Note {
                letter: letter.to_owned(),
                step: step.to_owned(),
                attempt: attempt.parse().expect("attempts are numbers"),
                worker: worker.to_owned(),
            }
        })
        .collect()
}

/// Steps of a run whose attempt runs on a worker now.
pub(crate) fn running_on(cluster: &TestCluster, run: &RunId, worker: &str) -> Vec<String> {
    let alive = cluster.observer().alive();
    let Some(holder) = alive.iter().find(|process| process.name == worker) else { return Vec::new() };
    let tasks = cluster.observer().tasks(run);
    let held = tasks.iter().filter(|task| {
        let record = task.record.as_ref();
        task.status == TaskStatus::Running
            && record.and_then(|record| record.owner.as_ref()) == Some(&holder.incarnation)
    });
    held.map(|task| task.own.step.clone()).collect()
}

/// Waits until so many steps run on a worker.
pub(crate) fn wait_until_busy(cluster: &TestCluster, run: &RunId, worker: &str, steps: usize) -> Vec<String> {
    let within = std::time::Duration::from_secs(20);
    cluster.wait_until(&format!("{steps} steps on `{worker}`"), within, |_| {
        let running = running_on(cluster, run, worker);
        if running.len() >= steps { Ok(running) } else { Err(format!("{running:?}")) }
    })
}

/// The record of a step.
pub(crate) fn record(story: &RunStory, step: &str) -> TaskRecord {
    let task = story.tasks.iter().find(|task| task.own.step == step);
    let record = task.unwrap_or_else(|| panic!("no step `{step}`")).record.clone();
    record.unwrap_or_else(|| panic!("step `{step}` was never ready"))
}

/// The audit of everything so far; every task has ended and no rule is broken.
pub(crate) fn clean_audit(cluster: &TestCluster) -> AuditReport {
    let report = audit(&cluster.observer().events(), true);
    assert!(report.violations.is_empty(), "{}\n{}", report.violations.join("\n"), cluster.tails());
    report
}

/// All steps completed, each once.
pub(crate) fn assert_all_completed(cluster: &TestCluster, run: &RunId) -> AuditReport {
    let report = clean_audit(cluster);
    let story = cluster.story(run);
    for task in &story.tasks {
        assert_eq!(task.status, TaskStatus::Completed, "{}: {:?}", task.own.label(), task.record);
        let ends = story.events.iter().filter(|event| {
            matches!(&event.kind, EventKind::Task { task: id, what: TaskHappening::Completed, .. } if *id == task.id)
        });
        assert_eq!(ends.count(), 1, "{}: accepted results", task.own.label());
    }
    report
}

/// For each step that was lost: how long after `since_ms` its next attempt started, ms.
pub(crate) fn restarts_after(story: &RunStory, since_ms: u64) -> BTreeMap<String, u64> {
    let mut lost: BTreeMap<String, u64> = BTreeMap::new();
    let mut waits = BTreeMap::new();
    for AuditEvent { at_ms, kind } in &story.events {
        let EventKind::Task { task, what, .. } = kind else { continue };
        match what {
            TaskHappening::Lost => drop(lost.insert(task.to_string(), *at_ms)),
            TaskHappening::Started { .. } if lost.remove(&task.to_string()).is_some() => {
                waits.insert(task.to_string(), at_ms.saturating_sub(since_ms));
            }
            _ => {}
        }
    }
    assert!(lost.is_empty(), "lost and never started again: {lost:?}");
    waits
}

/// The time by Redis' clock, ms since 1970: the one in which events are dated.
pub(crate) fn redis_now_ms(cluster: &TestCluster) -> u64 {
    let mut connection = cluster.redis.connection().expect("redis is there");
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut connection).expect("redis is there");
    seconds * 1000 + micros / 1000
}

/// In the witness every step of a layered graph started after both that it needs had ended.
pub(crate) fn assert_layers_in_order(notes: &[Note], width: usize) {
    for (place, note) in notes.iter().enumerate().filter(|(_, note)| note.letter == "S") {
        let (layer, column) = note.step[1..].split_once('-').expect("steps of layers are named so");
        let (layer, column): (usize, usize) =
            (layer.parse().expect("a number"), column.parse().expect("a number"));
        if layer == 0 {
            continue;
        }
        for need in [column, (column + 1) % width] {
            let need = format!("l{}-{need}", layer - 1);
            let ended = notes[..place].iter().any(|note| note.letter == "E" && note.step == need);
            assert!(ended, "`{}` started before `{need}` had ended", note.step);
        }
    }
}
