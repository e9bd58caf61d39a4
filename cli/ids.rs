//! What a user may write for a run or a task, and which one that is.
//!
//! A run: its id, a prefix that only one id has, `last` or `@latest`. A task: a run (as above), then
//! `.<index>` or `/<step>` or `/<step>[<item>]`; `last` is the task that started last in the newest run,
//! and a run of one task stands for that task.

use maestro_model::ids::{RunId, TaskId};
use maestro_store::Store;
use maestro_store::runs::{RunRecord, TaskView};
use serde_json::json;

use crate::failure::Failure;
use crate::output::moment::{age, now_ms};

/// Words for the newest run.
pub(crate) const NEWEST: [&str; 2] = ["last", "@latest"];
/// Most runs among which a prefix is looked for: more than are ever kept.
const RUNS_MAX: usize = 1_000_000;
/// Matches that an ambiguous prefix shows.
const MATCHES_SHOWN: usize = 8;
/// Steps looked at in one portion.
const STEPS_PER_READ: u32 = 500;
/// A step's name is close to another if it is at least this similar.
const SIMILAR: f64 = 0.75;

/// A task and the run it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct FoundTask {
    /// The run.
    pub(crate) run: RunRecord,
    /// The task.
    pub(crate) task: TaskView,
}

/// The run a text means.
///
/// # Errors
/// 66 if there is none, 2 if there are several.
pub(crate) async fn find_run(store: &Store, text: &str) -> Result<RunRecord, Failure> {
    if NEWEST.contains(&text) {
        return newest_run(store).await;
    }
    if let Ok(id) = text.parse::<RunId>() {
        return store.run(&id).await?.ok_or_else(|| no_run(text));
    }
    let mut matches = matching_runs(store, text).await?;
    match matches.len() {
        0 => Err(no_run_at_all(store, text).await),
        1 => Ok(matches.remove(0)),
        _ => Err(ambiguous(text, &matches)),
    }
}

/// Runs whose id begins with a text, newest first.
async fn matching_runs(store: &Store, text: &str) -> Result<Vec<RunRecord>, Failure> {
    let mut matches = Vec::new();
    if text.is_empty() {
        return Ok(matches);
    }
    for id in store.run_ids(RUNS_MAX).await? {
        if id.as_str().starts_with(text)
            // It may be collected between the two reads.
            && let Some(run) = store.run(&id).await?
        {
            matches.push(run);
            // One more than is shown, so that the message can say that there are more.
            if matches.len() > MATCHES_SHOWN {
                break;
            }
        }
    }
    Ok(matches)
}

async fn newest_run(store: &Store) -> Result<RunRecord, Failure> {
    let newest = store.newest_runs(1).await?.pop();
    newest.ok_or_else(|| {
        Failure::not_found("there is no run yet").hint(
            "start one with `maestro workflow run <FILE>` or `maestro task dispatch <PROMPT> --to <AGENT>`",
        )
    })
}

fn no_run(text: &str) -> Failure {
    Failure::not_found(format!("there is no run `{text}`"))
        .hint("`maestro workflow runs` lists those there are")
}

/// A run that is not there; perhaps the text is the name of a workflow.
async fn no_run_at_all(store: &Store, text: &str) -> Failure {
    let Ok(runs) = store.newest_runs(MATCHES_SHOWN * STEPS_PER_READ as usize).await else {
        return no_run(text);
    };
    match runs.iter().find(|run| run.workflow == text) {
        Some(run) => Failure::not_found(format!("there is no run `{text}`")).hint(format!(
            "`{text}` is a workflow; its newest run is `{}`, and `maestro workflow runs {text}` lists all",
            run.id
        )),
        None => no_run(text),
    }
}

fn ambiguous(text: &str, matches: &[RunRecord]) -> Failure {
    let now = now_ms();
    let shown = &matches[..matches.len().min(MATCHES_SHOWN)];
    let lines = shown.iter().map(|run| {
        let begun = age(run.created_at_ms, now);
        format!("  {}  {}, {}, {begun} ago", run.id, run.workflow, run.status.word())
    });
    let more = if matches.len() > shown.len() { "\n  …" } else { "" };
    let count =
        if more.is_empty() { matches.len().to_string() } else { format!("more than {MATCHES_SHOWN}") };
    let ids: Vec<&str> = shown.iter().map(|run| run.id.as_str()).collect();
    Failure::usage(format!("`{text}` begins the ids of {count} runs"))
        .details(json!({ "matches": ids }))
        .hint(format!("write more of the one you mean:\n{}{more}", lines.collect::<Vec<_>>().join("\n")))
}

/// The task a text means.
///
/// # Errors
/// 66 if there is none, 2 if there are several.
pub(crate) async fn find_task(store: &Store, text: &str) -> Result<FoundTask, Failure> {
    if let Some((run, step)) = text.split_once('/') {
        let run = find_run(store, run).await?;
        return find_step(store, run, step).await;
    }
    if let Some((run, index)) = text.split_once('.') {
        let index = index.parse().map_err(|_| {
            Failure::usage(format!(
                "`{text}` is not a task: after the dot a number is expected, found `{index}`"
            ))
            .hint("a task is `<run>.<index>`, `<run>/<step>` or `<run>/<step>[<item>]`")
        })?;
        let run = find_run(store, run).await?;
        return task_at(store, run, index).await;
    }
    let run = find_run(store, text).await?;
    if NEWEST.contains(&text) {
        return last_task(store, run).await;
    }
    if run.tasks == 1 {
        return task_at(store, run, 0).await;
    }
    Err(Failure::usage(format!("`{text}` is a run of {} tasks: which one is meant?", run.tasks)).hint(
        format!("write `{0}.<index>` or `{0}/<step>`; `maestro workflow status {0}` lists them", run.id),
    ))
}

/// The task that started last, else the first one.
async fn last_task(store: &Store, run: RunRecord) -> Result<FoundTask, Failure> {
    let mut last: Option<TaskView> = None;
    let started = |task: &TaskView| task.record.as_ref().and_then(|record| record.started_at_ms);
    for task in store.tasks(&run.id, 0..run.tasks).await? {
        if matches!(task.kind, 'g' | 'x' | 's') {
            continue;
        }
        if last.as_ref().is_none_or(|last| started(&task) > started(last)) {
            last = Some(task);
        }
    }
    match last {
        Some(task) => Ok(FoundTask { run, task }),
        None => Err(Failure::not_found(format!("run `{}` has no tasks", run.id))),
    }
}

async fn task_at(store: &Store, run: RunRecord, index: u32) -> Result<FoundTask, Failure> {
    // Numbers beyond the run's are not asked for: the range would end before it begins.
    let found = if index < run.tasks { store.tasks(&run.id, index..index + 1).await?.pop() } else { None };
    match found {
        Some(task) => Ok(FoundTask { run, task }),
        None => Err(Failure::not_found(format!("run `{}` has no task {index}", run.id))
            .hint(format!("its tasks are numbered from 0 to {}", run.tasks.saturating_sub(1)))),
    }
}

/// `build`, or `sweep[3]`.
async fn find_step(store: &Store, run: RunRecord, label: &str) -> Result<FoundTask, Failure> {
    let (step, item) = split_label(label)?;
    let mut names = Vec::new();
    let mut from = 0;
    while from < run.steps {
        let to = (from + STEPS_PER_READ).min(run.steps);
        for task in store.tasks(&run.id, from..to).await? {
            if task.own.step == step {
                return match item {
                    None => Ok(FoundTask { run, task }),
                    Some(item) => find_item(store, run, &task, item).await,
                };
            }
            names.push(task.own.step);
        }
        from = to;
    }
    let close = closest(step, names.iter().map(String::as_str));
    let hint = match close {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("`maestro workflow status {}` lists its steps", run.id),
    };
    Err(Failure::not_found(format!("run `{}` has no step `{step}`", run.id)).hint(hint))
}

fn split_label(label: &str) -> Result<(&str, Option<u32>), Failure> {
    let Some((step, item)) = label.split_once('[') else { return Ok((label, None)) };
    let item = item.strip_suffix(']').and_then(|item| item.parse().ok());
    item.map(|item| (step, Some(item))).ok_or_else(|| {
        Failure::usage(format!("`{label}` is not a step: a number between `[` and `]` is expected"))
            .hint("an item of a `foreach` is written `sweep[3]`, the first one `sweep[0]`")
    })
}

async fn find_item(store: &Store, run: RunRecord, group: &TaskView, item: u32) -> Result<FoundTask, Failure> {
    let step = &group.own.step;
    if !matches!(group.kind, 'g' | 'x') {
        return Err(Failure::not_found(format!("step `{step}` has no items: it is not a `foreach`"))
            .hint(format!("write `{}/{step}`", run.id)));
    }
    match store.groups(&run.id).await?.get(&group.id.index) {
        None => Err(Failure::not_found(format!("the items of `{step}` are not known yet"))
            .hint(format!("`maestro task explain {}` says what it waits for", group.id))),
        Some(view) if item < view.count => task_at(store, run, view.first + item).await,
        Some(view) if view.count == 0 => {
            Err(Failure::not_found(format!("step `{step}` has no item {item}: its list is empty")))
        }
        Some(view) => Err(Failure::not_found(format!("step `{step}` has no item {item}"))
            .hint(format!("its items are numbered from 0 to {}", view.count - 1))),
    }
}

/// The name that is most like a text, if one is like it at all.
pub(crate) fn closest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let similar = names.into_iter().map(|name| (strsim::jaro_winkler(text, name), name));
    let best = similar.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(similarity, _)| *similarity >= SIMILAR).map(|(_, name)| name)
}

/// A task's id from the parts of `task:<id>:result`.
pub(crate) fn task_of_result_key(key: &str) -> Option<&str> {
    key.strip_prefix("task:")?.strip_suffix(":result")
}

/// The ids of tasks, as text.
pub(crate) fn id_list(ids: &[TaskId]) -> String {
    ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_step_and_perhaps_an_item() {
        assert_eq!(split_label("build"), Ok(("build", None)));
        assert_eq!(split_label("sweep[3]"), Ok(("sweep", Some(3))));
        for wrong in ["sweep[", "sweep[]", "sweep[a]", "sweep[-1]", "sweep[1", "sweep[1]x"] {
            assert!(split_label(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_slip_is_told_from_another_word() {
        let steps = ["build", "test", "report"];
        assert_eq!(closest("buld", steps), Some("build"));
        assert_eq!(closest("zzz", steps), None);
        assert_eq!(closest("x", []), None);
    }

    #[test]
    fn a_result_has_a_key_of_its_own() {
        assert_eq!(task_of_result_key("task:0abc.1:result"), Some("0abc.1"));
        assert_eq!(task_of_result_key("task:0abc.1"), None);
        assert_eq!(task_of_result_key("other"), None);
    }
}
