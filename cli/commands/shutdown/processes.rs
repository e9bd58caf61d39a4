//! Ending workers and coordinators by letter, and waiting until they have gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use maestro_model::ids::Incarnation;
use maestro_model::mailbox::{WorkerAnswer, WorkerQuestion};
use maestro_store::mailbox::Hearing;
use maestro_store::worker::{AttachedProcess, ProcessRole};
use maestro_store::{Store, StoreError};
use tokio::task::JoinSet;

use crate::commands::CommandContext;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::letters::{ANSWER_WITHIN, misunderstood};

/// Between two looks at who is left.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long processes without agents may take to end.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// Ends all live processes of a role; their names.
///
/// # Errors
/// What the store says; 69 for one of another version, 124 if one does not end.
pub(super) async fn end_processes(
    store: &Store,
    role: ProcessRole,
    context: &CommandContext,
) -> Result<Vec<String>, Failure> {
    let begun = Instant::now();
    let mut told: BTreeMap<Incarnation, String> = BTreeMap::new();
    loop {
        let left = match left_of(store, role).await {
            Ok(left) => left,
            // A private Redis goes with the process that keeps it.
            Err(StoreError::Unreachable { .. }) if !told.is_empty() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        if left.is_empty() {
            return Ok(told.into_values().collect());
        }
        if begun.elapsed() > GONE_WITHIN {
            let name = &left[0].name;
            return Err(Failure::new(
                Exit::TimedOut,
                format!("the cluster is stopped, and `{name}` has not ended"),
            )
            .hint("end it by its own process, or run the same command again"));
        }
        let fresh: Vec<AttachedProcess> =
            left.into_iter().filter(|process| !told.contains_key(&process.incarnation)).collect();
        for process in &fresh {
            context.printer.detail(&format!("`{}` is told to end", process.name));
            told.insert(process.incarnation.clone(), process.name.clone());
        }
        tell(store, fresh).await?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn left_of(store: &Store, role: ProcessRole) -> Result<Vec<AttachedProcess>, StoreError> {
    let mut processes = store.processes().await?;
    processes.retain(|process| process.alive && process.about.role == role);
    Ok(processes)
}

async fn tell(store: &Store, processes: Vec<AttachedProcess>) -> Result<(), Failure> {
    let mut telling = JoinSet::new();
    for process in processes {
        let store = store.clone();
        telling.spawn(async move {
            let question = WorkerQuestion::Drain { deadline_ms: None, force: true };
            let hearing = store.ask_worker(&process.incarnation, &question, ANSWER_WITHIN).await;
            (process, hearing)
        });
    }
    for (process, hearing) in telling.join_all().await {
        match hearing {
            Ok(Hearing::Answered(WorkerAnswer::Draining { .. }) | Hearing::Gone) => {}
            // It may have ended, and a private Redis with it, before its answer was fetched.
            Err(StoreError::Unreachable { .. }) => {}
            Ok(Hearing::Answered(_)) => return Err(misunderstood(&process)),
            Ok(Hearing::Silent | Hearing::Full) => {
                let what = format!("the cluster is stopped, and `{}` does not answer", process.name);
                return Err(
                    Failure::new(Exit::NothingToRunIt, what).hint("`maestro worker list` shows how it is")
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
