//! Ending the agents of all workers, and waiting until none is left.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use maestro_model::ids::{Incarnation, TaskId};
use maestro_model::mailbox::{WorkerAnswer, WorkerQuestion};
use maestro_store::Store;
use maestro_store::mailbox::Hearing;
use maestro_store::worker::{AttachedProcess, ProcessRole};
use tokio::task::JoinSet;

use crate::commands::CommandContext;
use crate::commands::task::entry::counted;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::letters::{ANSWER_WITHIN, misunderstood};

/// Between two looks at what still runs.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// When a worker is asked again: a claim may have been under way when it was asked first.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Beyond grace and lease: the time of a worker that has much to do.
const MARGIN: Duration = Duration::from_secs(10);

/// What was ended.
#[derive(Debug, Default)]
pub(super) struct EndedAgents {
    /// Tasks that ran.
    pub(super) tasks: BTreeSet<TaskId>,
    /// Workers that held some, and whose lease has run out meanwhile or before.
    pub(super) silent: Vec<String>,
}

/// Ends all, and waits until their tasks are back in their queues.
///
/// # Errors
/// What the store says; 69 for a worker of another version, 124 if something does not end.
pub(super) async fn end_agents(
    store: &Store,
    grace: Duration,
    lease: Duration,
    context: &CommandContext,
) -> Result<EndedAgents, Failure> {
    let begun = Instant::now();
    let longest = grace.saturating_add(lease).saturating_add(MARGIN);
    let mut ended = EndedAgents::default();
    let mut asked: HashMap<Incarnation, Instant> = HashMap::new();
    loop {
        let (busy, silent) = holders(store).await?;
        ended.silent = silent;
        let before = ended.tasks.len();
        ended.tasks.extend(busy.iter().flat_map(|(_, tasks)| tasks.iter().cloned()));
        if ended.tasks.len() > before {
            let agents = counted((ended.tasks.len() - before) as u32, "agent");
            context.printer.note(&format!("ending {agents}; their tasks go back to their queues"));
        }
        if busy.is_empty() {
            return Ok(ended);
        }
        if begun.elapsed() > longest {
            let (worker, tasks) = &busy[0];
            return Err(Failure::new(
                Exit::TimedOut,
                "the cluster is stopped, and not all agents have ended",
            )
            .cause(format!("worker `{}` still runs task `{}`", worker.name, tasks[0]))
            .hint("run the same command again, with `--grace-period 0`"));
        }
        let due = busy
            .into_iter()
            .map(|(worker, _)| worker)
            .filter(|worker| asked.get(&worker.incarnation).is_none_or(|at| at.elapsed() > ASK_AGAIN));
        let due: Vec<AttachedProcess> = due.collect();
        asked.extend(due.iter().map(|worker| (worker.incarnation.clone(), Instant::now())));
        ask(store, due, grace).await?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

type Busy = Vec<(AttachedProcess, Vec<TaskId>)>;

/// Live workers with what they hold, if it is something; and the names of those that hold something and are silent.
async fn holders(store: &Store) -> Result<(Busy, Vec<String>), Failure> {
    let mut workers = store.processes().await?;
    workers.retain(|process| process.about.role == ProcessRole::Worker);
    let incarnations: Vec<Incarnation> = workers.iter().map(|worker| worker.incarnation.clone()).collect();
    let held = store.held_tasks(&incarnations).await?;
    let (mut busy, mut silent) = (Vec::new(), Vec::new());
    for (worker, tasks) in workers.into_iter().zip(held).filter(|(_, tasks)| !tasks.is_empty()) {
        if worker.alive {
            busy.push((worker, tasks));
        } else {
            silent.push(worker.name);
        }
    }
    Ok((busy, silent))
}

/// Asks all of them at one time. One that does not answer is asked again, as long as its lease holds.
async fn ask(store: &Store, workers: Vec<AttachedProcess>, grace: Duration) -> Result<(), Failure> {
    let mut asking = JoinSet::new();
    for worker in workers {
        let store = store.clone();
        let question = WorkerQuestion::EndAgents { grace_ms: grace.as_millis() as u64 };
        asking.spawn(async move {
            let hearing = store.ask_worker(&worker.incarnation, &question, ANSWER_WITHIN).await;
            (worker, hearing)
        });
    }
    for (worker, hearing) in asking.join_all().await {
        match hearing? {
            Hearing::Answered(WorkerAnswer::Ending { .. })
            | Hearing::Silent
            | Hearing::Gone
            | Hearing::Full => {}
            Hearing::Answered(_) => return Err(misunderstood(&worker)),
        }
    }
    Ok(())
}
