//! A run as it was against the run as it should have been. Each difference is one line.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use maestro_model::task::TaskStatus;
use maestro_store::events::{EventKind, TaskHappening};
use maestro_store::runs::{RunStatus, StoredOutput, TaskView};
use serde_json::Value;

use crate::evaluate::{Expectation, Expected, SkipCause};
use crate::generate::Trial;
use crate::sketch::Read;
use crate::support::RunStory;
use crate::witness::Witness;

/// All that was seen of one trial.
pub(crate) struct Seen {
    pub(crate) story: RunStory,
    pub(crate) witness: Witness,
    /// Shared state under the keys that the workflow publishes.
    pub(crate) state: BTreeMap<String, Option<String>>,
}

/// The tasks of a run by step and item.
pub(crate) type TasksByName<'s> = HashMap<(&'s str, Option<u32>), (&'s TaskView, Option<&'s StoredOutput>)>;

pub(crate) fn by_name(story: &RunStory) -> TasksByName<'_> {
    let named = story.tasks.iter().zip(&story.outputs);
    named.map(|(task, output)| ((task.own.step.as_str(), task.own.number), (task, output.as_ref()))).collect()
}

/// Whether all of the run is determined: nobody stops it, and nothing makes it stop itself.
pub(crate) fn is_determined(trial: &Trial) -> bool {
    let stops_itself = trial.sketch.fail_fast && !trial.expectation.unhandled.is_empty();
    trial.sketch.sleeper.is_none() && !stops_itself
}

/// Whether attempts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tries {
    /// Nothing goes wrong: each is known.
    Exact,
    /// Workers die: there may be more, and what agents wrote may stand there twice.
    More,
}

/// Everything in which a determined run differs from what was expected.
pub(crate) fn differences(trial: &Trial, seen: &Seen, tries: Tries) -> Vec<String> {
    let mut found = Vec::new();
    let expected = &trial.expectation;
    let status = if expected.unhandled.is_empty() { RunStatus::Completed } else { RunStatus::Failed };
    if seen.story.record.status != status {
        found.push(format!("the run is {:?}, expected {status:?}", seen.story.record.status));
    }
    let tasks = by_name(&seen.story);
    for (index, step) in expected.steps.iter().enumerate() {
        let id = trial.sketch.steps[index].id.as_str();
        let reads = &trial.sketch.steps[index].reads;
        compare_task(&tasks, (id, None), step, reads, (seen, tries), &mut found);
        for (number, item) in step.items.iter().enumerate() {
            compare_task(&tasks, (id, Some(number as u32)), item, reads, (seen, tries), &mut found);
        }
        // Items of a literal list are there from the beginning; of a step that never starts they count for
        // nothing, as long as none was touched.
        let touched = |task: &&TaskView| !step.items.is_empty() || task.record.is_some();
        let items = seen.story.tasks.iter().filter(|task| task.own.step == id && task.own.number.is_some());
        let items = items.filter(touched);
        if items.clone().count() != step.items.len() {
            found.push(format!("`{id}` has {} items, expected {}", items.count(), step.items.len()));
        }
    }
    compare_state(expected, seen, &mut found);
    if tries == Tries::Exact {
        found.extend(out_of_order(trial, &seen.witness, &tasks));
    }
    found
}

fn compare_task(
    tasks: &TasksByName<'_>,
    name: (&str, Option<u32>),
    expected: &Expected,
    reads: &[Read],
    (seen, tries): (&Seen, Tries),
    found: &mut Vec<String>,
) {
    let shown = name.1.map_or(name.0.to_owned(), |number| format!("{}[{number}]", name.0));
    let Some((task, output)) = tasks.get(&name) else {
        found.push(format!("`{shown}` is missing, expected {}", expected.fate.word()));
        return;
    };
    let mut differs = |what: &str, is: String, should: String| {
        if is != should {
            found.push(format!("`{shown}`: {what} is {is}, expected {should}"));
        }
    };
    differs("status", task.status.word().to_owned(), expected.fate.word().to_owned());
    let witnessed = seen.witness.tries(&task.id.to_string());
    if tries == Tries::Exact || expected.tries == 0 {
        let each_once: Vec<u32> = (1..=expected.tries).collect();
        differs("what its agents wrote", format!("{witnessed:?}"), format!("{each_once:?}"));
    }
    let record = task.record.as_ref();
    if tries == Tries::Exact && expected.tries > 0 {
        let attempts = record.map_or(0, |record| record.attempt.0);
        differs("attempts", attempts.to_string(), expected.tries.to_string());
    }
    if expected.skipped == Some(SkipCause::Edges) {
        let started = starts(seen, task).count();
        differs("starts", started.to_string(), "0".to_owned());
    }
    // How a `foreach` words the failures of its items is left open.
    if expected.reason.is_some() {
        let reason = record.and_then(|record| record.reason).map(|reason| reason.word());
        differs("reason", format!("{reason:?}"), format!("{:?}", expected.reason));
    }
    if expected.reason == Some("exit") {
        let code = record.and_then(|record| record.exit_code);
        differs("exit code", format!("{code:?}"), format!("{:?}", expected.exit_code));
    }
    if let Some(name) = &expected.names {
        let message = output.and_then(|output| output.message.clone()).unwrap_or_default();
        if !message.contains(name) {
            differs("message", message, format!("one that names `{name}`"));
        }
    }
    if let Some(result) = &expected.result {
        let outputs = output.and_then(|output| output.outputs.as_ref());
        let is = outputs.map(|outputs| &outputs.result);
        differs("result", format!("{is:?}"), format!("{:?}", Some(&Value::String(result.clone()))));
        let is: BTreeMap<String, Value> = outputs
            .into_iter()
            .flat_map(|outputs| &outputs.outputs)
            .map(|(name, value)| (name.clone(), read_back(name, value, reads)))
            .collect();
        differs("outputs", format!("{is:?}"), format!("{:?}", expected.outputs));
    }
}

/// What was read of a `foreach` was put out as JSON.
fn read_back(name: &str, value: &Value, reads: &[Read]) -> Value {
    let number = name.strip_prefix('r').and_then(|number| number.parse::<usize>().ok());
    let read = number.and_then(|number| reads.get(number));
    match (read, value) {
        (Some(Read::ListResult(_) | Read::ListOutputs(_)), Value::String(text)) => {
            serde_json::from_str(text).unwrap_or_else(|_| value.clone())
        }
        _ => value.clone(),
    }
}

fn starts<'s>(seen: &'s Seen, task: &'s TaskView) -> impl Iterator<Item = u32> + 's {
    seen.story.events.iter().filter_map(|event| match &event.kind {
        EventKind::Task { task: id, attempt, what: TaskHappening::Started { .. }, .. } if *id == task.id => {
            Some(*attempt)
        }
        _ => None,
    })
}

fn compare_state(expected: &Expectation, seen: &Seen, found: &mut Vec<String>) {
    for (key, allowed) in &expected.state {
        let is = seen.state.get(key).cloned().flatten();
        let fits = match &is {
            Some(value) => allowed.contains(value),
            None => allowed.is_empty(),
        };
        if !fits {
            found.push(format!("state `{key}` is {is:?}, expected one of {allowed:?}"));
        }
    }
}

/// Steps that wrote something before all that comes before them had written its last.
fn out_of_order(trial: &Trial, witness: &Witness, tasks: &TasksByName<'_>) -> Vec<String> {
    let places = |index: usize| -> Vec<usize> {
        let id = trial.sketch.steps[index].id.as_str();
        let of_step = tasks.iter().filter(|((step, _), _)| *step == id);
        of_step.flat_map(|(_, (task, _))| witness.places(&task.id.to_string())).collect()
    };
    let all: Vec<Vec<usize>> = (0..trial.sketch.steps.len()).map(places).collect();
    let mut found = Vec::new();
    for (index, before) in trial.expectation.before.iter().enumerate() {
        let Some(first) = all[index].iter().min() else { continue };
        for earlier in (0..all.len()).filter(|earlier| before & (1 << earlier) != 0) {
            if all[earlier].iter().max().is_some_and(|last| last > first) {
                let ids = (&trial.sketch.steps[index].id, &trial.sketch.steps[earlier].id);
                found.push(format!("`{}` started before `{}` had ended", ids.0, ids.1));
            }
        }
    }
    found
}

/// What can be said of a run that was stopped, or stopped itself: each step ended as expected or did not get
/// there, nothing started after the stop but handlers of a run that stopped itself.
pub(crate) fn differences_of_stopped(trial: &Trial, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    let tasks = by_name(&seen.story);
    let handlers = trial.sketch.handlers();
    let upstream = trial.sketch.upstream();
    // Steps that did not end as they would have in a run left alone.
    let mut other = 0u64;
    for (index, expected) in trial.expectation.steps.iter().enumerate() {
        let id = trial.sketch.steps[index].id.as_str();
        let ended = tasks.get(&(id, None)).map(|(task, _)| task.status.word());
        if ended != Some(expected.fate.word()) {
            other |= 1 << index;
        }
    }
    for (index, expected) in trial.expectation.steps.iter().enumerate() {
        let id = trial.sketch.steps[index].id.as_str();
        let Some((task, _)) = tasks.get(&(id, None)) else {
            found.push(format!("`{id}` is missing"));
            continue;
        };
        // A handler goes on behind steps that were cut short, and may find that they were skipped and not
        // failed: what it does then was not foretold. That it may start at all is checked below.
        let foretold = handlers & (1 << index) == 0 || upstream[index] & other == 0;
        let spared = trial.sketch.sleeper.is_none() && handlers & (1 << index) != 0;
        if spared && task.status == TaskStatus::Cancelled {
            found.push(format!("`{id}` handles a failure and was not spared"));
        }
        let short = matches!(task.status, TaskStatus::Cancelled | TaskStatus::Skipped);
        // A `foreach` of which an item was cancelled has failed if another failed before.
        let cut_group = trial.sketch.steps[index].list.is_some() && task.status == TaskStatus::Failed;
        let slept = trial.sketch.sleeper == Some(index);
        if foretold && !short && !cut_group && (slept || task.status.word() != expected.fate.word()) {
            found.push(format!(
                "`{id}` is {:?}, expected {} or cut short",
                task.status,
                expected.fate.word()
            ));
        }
        let tries = seen.witness.tries(&task.id.to_string()).len() as u32;
        if foretold && !slept && tries > expected.tries {
            found.push(format!("`{id}` was tried {tries} times, expected at most {}", expected.tries));
        }
    }
    found.extend(started_after_the_stop(trial, seen, handlers));
    let status = seen.story.record.status;
    let by_hand = trial.sketch.sleeper.is_some();
    let unhandled = trial.expectation.unhandled.iter().any(|index| {
        let task = tasks.get(&(trial.sketch.steps[*index].id.as_str(), None));
        task.is_some_and(|(task, _)| task.status == TaskStatus::Failed)
    });
    let expected = if by_hand { RunStatus::Cancelled } else { RunStatus::Failed };
    let may_have_failed_first = by_hand && trial.sketch.fail_fast && unhandled && status == RunStatus::Failed;
    if status != expected && !may_have_failed_first {
        found.push(format!("the run is {status:?}, expected {expected:?}"));
    }
    if !by_hand && !unhandled {
        found.push("the run stopped itself, but no step has failed unhandled".to_owned());
    }
    found
}

fn started_after_the_stop(trial: &Trial, seen: &Seen, handlers: u64) -> Vec<String> {
    let mut found = Vec::new();
    let mut stop: Option<&str> = None;
    for event in &seen.story.events {
        match &event.kind {
            EventKind::Run { word, detail, .. } if word == "stopping" => stop = Some(detail),
            EventKind::Task { task, what: TaskHappening::Started { .. }, .. } => {
                let Some(why) = stop else { continue };
                let view = seen.story.tasks.iter().find(|view| view.id == *task);
                let step = view.map_or("?", |view| view.own.step.as_str());
                let index = trial.sketch.steps.iter().position(|one| one.id == step);
                let handler = index.is_some_and(|index| handlers & (1 << index) != 0);
                if why != "fail_fast" || !handler {
                    found.push(format!("`{step}` started after the run was being stopped ({why})"));
                }
            }
            _ => {}
        }
    }
    found
}

/// Runs and steps that had more going on at one time than they may.
pub(crate) fn over_limit(trial: &Trial, seen: &Seen) -> Vec<String> {
    let mut found = BTreeSet::new();
    let views: HashMap<u32, &TaskView> = seen.story.tasks.iter().map(|view| (view.id.index, view)).collect();
    let limits: HashMap<&str, u32> =
        trial.sketch.steps.iter().filter_map(|step| Some((step.id.as_str(), step.max_parallel?))).collect();
    let mut running: BTreeSet<u32> = BTreeSet::new();
    for event in &seen.story.events {
        let EventKind::Task { task, what, .. } = &event.kind else { continue };
        let Some(view) = views.get(&task.index) else { continue };
        // A `foreach` itself is no agent.
        if matches!(view.kind, 'g' | 'x') {
            continue;
        }
        match what {
            TaskHappening::Started { .. } => drop(running.insert(task.index)),
            TaskHappening::Cancelling | TaskHappening::Fenced => {}
            _ => drop(running.remove(&task.index)),
        }
        if trial.sketch.concurrency.is_some_and(|most| running.len() > most as usize) {
            found.insert(format!("{} tasks of the run at a time", running.len()));
        }
        if let Some(most) = limits.get(view.own.step.as_str()) {
            let of_step = running.iter().filter(|index| views[index].own.step == view.own.step).count();
            if of_step > *most as usize {
                found.insert(format!("{of_step} items of `{}` at a time, expected {most}", view.own.step));
            }
        }
    }
    found.into_iter().collect()
}
