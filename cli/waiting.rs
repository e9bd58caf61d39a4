//! Waiting until tasks and runs have ended.
//!
//! The audit stream says when to look; what is true is read from the records. A Redis that is away for a
//! while is waited for.

use std::time::{Duration, Instant};

use maestro_model::ids::RunId;
use maestro_store::events::EventReader;
use maestro_store::runs::{RunRecord, TaskView};
use maestro_store::{Refusal, Store, StoreError};

use crate::commands::CommandContext;
use crate::commands::task::logs::{FOLLOW_PATIENCE, LOOK_EVERY};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::work::{FoundWork, exit_of_run, exit_of_task};

/// Longest time between two looks, whatever the stream says.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// Something that is waited for.
#[derive(Debug)]
pub(crate) struct AwaitedWork {
    /// What it is, as it was looked at last.
    pub(crate) work: FoundWork,
    /// Its tasks, once it has ended.
    pub(crate) tasks: Vec<TaskView>,
    /// How it ended, once it has.
    pub(crate) exit: Option<Exit>,
}

impl AwaitedWork {
    /// Nothing is known of its end yet.
    pub(crate) fn new(work: FoundWork) -> AwaitedWork {
        AwaitedWork { work, tasks: Vec::new(), exit: None }
    }

    /// Looks at it again.
    async fn look(&mut self, store: &Store) -> Result<(), StoreError> {
        match &mut self.work {
            FoundWork::Task(found) => {
                found.task = store.task(&found.task.id).await?;
                self.exit = exit_of_task(&found.task);
                if self.exit.is_some() {
                    self.tasks = vec![found.task.clone()];
                }
            }
            FoundWork::Run(run) => {
                let known = store.run(&run.id).await?;
                let known: RunRecord = known.ok_or_else(|| {
                    StoreError::from(Refusal::NotFound { what: format!("run `{}`", run.id) })
                })?;
                **run = known;
                if run.status.is_final() {
                    self.tasks = store.tasks(&run.id, 0..run.tasks).await?;
                    self.exit = exit_of_run(run, &self.tasks);
                }
            }
        }
        Ok(())
    }
}

/// Waits until all have ended, or the time has come; `on_end` is told of each that has. True if all have.
///
/// # Errors
/// What the store says, once patience has ended; 66 if something is removed meanwhile.
pub(crate) async fn wait_for_all(
    store: &Store,
    awaited: &mut [AwaitedWork],
    deadline: Option<Instant>,
    context: &CommandContext,
    mut on_end: impl FnMut(&AwaitedWork),
) -> Result<bool, Failure> {
    let mut bell = EventBell { store, reader: None };
    let mut failing_since: Option<Instant> = None;
    loop {
        // From here on the stream is read, so that nothing that happens during the look is missed.
        let looked = async {
            bell.open().await?;
            for one in awaited.iter_mut().filter(|one| one.exit.is_none()) {
                one.look(store).await?;
                if one.exit.is_some() {
                    on_end(one);
                }
            }
            let open: Vec<&RunId> =
                awaited.iter().filter(|one| one.exit.is_none()).map(|one| one.work.run()).collect();
            if open.is_empty() {
                return Ok(true);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let longest = left.map_or(LOOK_AT_LEAST_EVERY, |left| left.min(LOOK_AT_LEAST_EVERY));
            bell.rang(&open, longest).await?;
            Ok(false)
        };
        match looked.await {
            Ok(true) => return Ok(true),
            Ok(false) => failing_since = None,
            Err(error) => {
                let error: StoreError = error;
                if !error.may_pass() {
                    return Err(error.into());
                }
                bell.reader = None;
                let since = *failing_since.get_or_insert_with(|| {
                    context.printer.warn("redis does not answer; trying again");
                    Instant::now()
                });
                if since.elapsed() > FOLLOW_PATIENCE {
                    return Err(error.into());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        if deadline.is_some_and(|at| Instant::now() >= at) {
            return Ok(false);
        }
    }
}

/// Tells that something has happened.
struct EventBell<'a> {
    store: &'a Store,
    reader: Option<EventReader>,
}

impl EventBell<'_> {
    async fn open(&mut self) -> Result<(), StoreError> {
        if self.reader.is_none() {
            let end = self.store.events_end().await?;
            self.reader = Some(self.store.follow_events(end, LOOK_EVERY).await?);
        }
        Ok(())
    }

    /// Waits until something happened to one of the runs, or for `longest`.
    async fn rang(&mut self, runs: &[&RunId], longest: Duration) -> Result<(), StoreError> {
        let begun = Instant::now();
        let Some(reader) = &mut self.reader else { return Ok(()) };
        while begun.elapsed() < longest {
            let events = reader.next().await?;
            if events.iter().any(|event| event.run().is_some_and(|run| runs.contains(&run))) {
                break;
            }
        }
        Ok(())
    }
}
