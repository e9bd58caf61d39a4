//! Asking workers: which one is meant, what it answers, and what it means if it does not.

use std::time::Duration;

use maestro_model::mailbox::{WorkerAnswer, WorkerQuestion};
use maestro_store::Store;
use maestro_store::mailbox::Hearing;
use maestro_store::worker::{AttachedProcess, ProcessRole};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::closest;

/// How long a worker may take to say what it knows.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to copy, count or remove files.
pub(crate) const WORK_WITHIN: Duration = Duration::from_secs(3600);

/// Workers whose lease holds, by name.
///
/// # Errors
/// What the store says.
pub(crate) async fn live_workers(store: &Store) -> Result<Vec<AttachedProcess>, Failure> {
    let processes = store.processes().await?;
    let is_live = |process: &AttachedProcess| process.alive && process.about.role == ProcessRole::Worker;
    Ok(processes.into_iter().filter(is_live).collect())
}

/// What is said where no worker is alive.
pub(crate) fn no_worker() -> Failure {
    Failure::new(Exit::NothingToRunIt, "no worker is alive")
        .hint("start a whole cluster here with `maestro up`, or a worker with `maestro worker start`")
}

/// The worker a text means: its name, its incarnation, or what only one of either begins with.
///
/// # Errors
/// 66 if there is none, 2 if there are several, 75 if it has gone silent.
pub(crate) async fn find_worker(store: &Store, text: &str) -> Result<AttachedProcess, Failure> {
    let mut workers = store.processes().await?;
    workers.retain(|process| process.about.role == ProcessRole::Worker);
    let is_exact = |process: &&AttachedProcess| process.name == text || process.incarnation.as_str() == text;
    if let Some(exact) = workers.iter().find(is_exact) {
        return alive(exact.clone());
    }
    let begins = |process: &&AttachedProcess| {
        !text.is_empty() && (process.name.starts_with(text) || process.incarnation.as_str().starts_with(text))
    };
    let found: Vec<&AttachedProcess> = workers.iter().filter(begins).collect();
    match found[..] {
        [one] => alive(one.clone()),
        [] => Err(no_such_worker(text, &workers)),
        _ => {
            let names: Vec<String> = found.iter().map(|worker| format!("`{}`", worker.name)).collect();
            Err(Failure::usage(format!("`{text}` can mean several workers: {}", names.join(", ")))
                .hint("write more of the name"))
        }
    }
}

/// The one live worker of a host.
///
/// # Errors
/// 66 if there is none, 2 if there are several.
pub(crate) async fn find_worker_of_host(store: &Store, host: &str) -> Result<AttachedProcess, Failure> {
    let mut found = live_workers(store).await?;
    found.retain(|worker| worker.about.host == host);
    if found.len() > 1 {
        let names: Vec<String> = found.iter().map(|worker| format!("`{}`", worker.name)).collect();
        let message = format!("host `{host}` has several workers: {}", names.join(", "));
        return Err(Failure::usage(message).hint("say which one by its name"));
    }
    found.pop().ok_or_else(|| {
        Failure::not_found(format!("host `{host}` has no live worker"))
            .hint("`maestro worker list` shows who is there, and where")
    })
}

fn alive(worker: AttachedProcess) -> Result<AttachedProcess, Failure> {
    if worker.alive {
        return Ok(worker);
    }
    Err(Failure::new(
        Exit::NothingToRunIt,
        format!("worker `{}` does not answer: its lease has run out", worker.name),
    )
    .hint("its tasks go back to their queues by themselves; see `maestro worker list`"))
}

fn no_such_worker(text: &str, workers: &[AttachedProcess]) -> Failure {
    let failure = Failure::not_found(format!("there is no worker `{text}`"));
    match closest(text, workers.iter().map(|worker| worker.name.as_str())) {
        Some(name) => failure.hint(format!("did you mean `{name}`?")),
        None => failure.hint("`maestro worker list` shows who is there"),
    }
}

/// Asks a worker; what it refuses or cannot do is a failure.
///
/// # Errors
/// 77 what a rule forbids, 1 what it could not do, 75 if it does not answer.
pub(crate) async fn ask_worker(
    store: &Store,
    worker: &AttachedProcess,
    question: &WorkerQuestion,
    longest: Duration,
) -> Result<WorkerAnswer, Failure> {
    let name = &worker.name;
    let silent = |what: String| {
        Err(Failure::new(Exit::NothingToRunIt, what).hint("`maestro worker list` shows how it is"))
    };
    match store.ask_worker(&worker.incarnation, question, longest).await? {
        Hearing::Answered(WorkerAnswer::Refused { message, hint }) => {
            let failure = Failure::refused(message);
            Err(match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
        Hearing::Answered(WorkerAnswer::Failed { message }) => {
            Err(Failure::new(Exit::WorkFailed, message).cause(format!("said worker `{name}`")))
        }
        Hearing::Answered(WorkerAnswer::NotUnderstood) => Err(misunderstood(worker)),
        Hearing::Answered(answer) => Ok(answer),
        Hearing::Silent => silent(format!("worker `{name}` did not answer within {} s", longest.as_secs())),
        Hearing::Gone => silent(format!("worker `{name}` has ended meanwhile")),
        Hearing::Full => silent(format!("too many questions wait for worker `{name}`")),
    }
}

/// What is said of an answer that belongs to another question, or of a worker that knows none of it.
pub(crate) fn misunderstood(worker: &AttachedProcess) -> Failure {
    let (name, version) = (&worker.name, &worker.about.version);
    Failure::unavailable(format!("worker `{name}` ({version}) does not understand the question"))
        .hint("run the same version of maestro everywhere")
}
