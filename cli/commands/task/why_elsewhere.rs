//! What a task waits for in other runs, or waited for in vain: `task dispatch --depends-on`.

use maestro_model::plan::NeedTarget;
use maestro_model::task::TaskStatus;
use maestro_store::runs::{RunStatus, TaskView};
use maestro_store::{Refusal, Store, StoreError};

use super::entry::state_phrase;
use super::why::Because;
use crate::failure::Failure;

/// Needs that are shown.
const SHOWN_MAX: usize = 10;

/// Where something that a task needs is in its life.
struct KnownNeed {
    id: String,
    /// The end of a sentence: `is running`, `failed`.
    phrase: String,
    end: NeedEnd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NeedEnd {
    Open,
    Well,
    Badly,
}

/// Why it has not been let go, if it waits for another run.
///
/// # Errors
/// What the store says.
pub(super) async fn blocked(store: &Store, task: &TaskView) -> Result<Option<Because>, Failure> {
    let needs = known_needs(store, task).await?;
    let open: Vec<&KnownNeed> = needs.iter().filter(|need| need.end == NeedEnd::Open).collect();
    let Some(first) = open.first() else { return Ok(None) };
    let mut because = Because::of(match needs.len() {
        1 => format!("it waits for `{}` of another run", first.id),
        count => format!("it waits for {} of {count} in other runs", open.len()),
    });
    for need in open.iter().take(SHOWN_MAX) {
        because = because.detail(format!("`{}` has to complete; it {}", need.id, need.phrase));
    }
    if open.len() > SHOWN_MAX {
        because = because.detail(format!("and {} more", open.len() - SHOWN_MAX));
    }
    let hint = match first.id.contains('.') {
        true => format!("`maestro task explain {0}` says what `{0}` does", first.id),
        false => format!("`maestro workflow status {}` shows how that run is getting on", first.id),
    };
    Ok(Some(because.hint(hint)))
}

/// What did not complete, a line each.
///
/// # Errors
/// What the store says.
pub(super) async fn ended_badly(store: &Store, task: &TaskView) -> Result<Vec<String>, Failure> {
    let needs = known_needs(store, task).await?;
    let badly = needs.iter().filter(|need| need.end == NeedEnd::Badly).take(SHOWN_MAX);
    Ok(badly.map(|need| format!("`{}` had to complete; it {}", need.id, need.phrase)).collect())
}

async fn known_needs(store: &Store, task: &TaskView) -> Result<Vec<KnownNeed>, Failure> {
    let mut known = Vec::new();
    for need in store.external_needs(&task.id.run, task.id.index).await? {
        let id = need.on.to_string();
        let found = match &need.on {
            NeedTarget::Task(other) => match store.task(other).await {
                Ok(other) => Some((state_phrase(other.status), end_of_task(other.status))),
                Err(StoreError::Refused(Refusal::NotFound { .. })) => None,
                Err(error) => return Err(error.into()),
            },
            NeedTarget::Run(run) => {
                store.run(run).await?.map(|run| (run_phrase(run.status), end_of_run(run.status)))
            }
        };
        let (phrase, end) = found.unwrap_or_else(|| ("was removed".to_owned(), NeedEnd::Well));
        known.push(KnownNeed { id, phrase, end });
    }
    Ok(known)
}

fn end_of_task(status: TaskStatus) -> NeedEnd {
    match status {
        TaskStatus::Completed => NeedEnd::Well,
        _ if status.is_final() => NeedEnd::Badly,
        _ => NeedEnd::Open,
    }
}

fn end_of_run(status: RunStatus) -> NeedEnd {
    match status {
        RunStatus::Completed => NeedEnd::Well,
        _ if status.is_final() => NeedEnd::Badly,
        _ => NeedEnd::Open,
    }
}

fn run_phrase(status: RunStatus) -> String {
    match status {
        RunStatus::Completed | RunStatus::Failed => status.word().to_owned(),
        RunStatus::Cancelled => "was cancelled".to_owned(),
        _ => format!("is {}", status.word()),
    }
}
