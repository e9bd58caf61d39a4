//! Stopping an agent and waiting until nothing of it runs: what `stop`, `restart`, `reset` and `clean` share.

use std::time::{Duration, Instant};

use maestro_model::assignment::Assignment;
use maestro_model::ids::TaskId;
use maestro_store::Store;
use maestro_store::assignments::HoldOrder;

use crate::agents::who_asks;
use crate::commands::CommandContext;
use crate::exit::Exit;
use crate::failure::Failure;

/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Beyond grace and lease: the time of a worker that has much to do.
const MARGIN: Duration = Duration::from_secs(10);

/// What a stop found.
#[derive(Debug)]
pub(crate) struct EndedAgent {
    /// What the agent worked on, and works on no more.
    pub(crate) task: Option<TaskId>,
    /// Whether it was stopped before.
    pub(crate) was_held: bool,
}

/// Stops or restarts an agent, and waits until what it worked on has ended.
///
/// # Errors
/// What the store says; 124 if it does not end.
pub(crate) async fn end_agent(
    store: &Store,
    agent: &Assignment,
    order: HoldOrder,
    context: &CommandContext,
) -> Result<EndedAgent, Failure> {
    let by = who_asks(&context.surroundings()?);
    let answer = store.hold_agent(&agent.id, &by, order).await?;
    let Some(task) = answer.running else { return Ok(EndedAgent { task: None, was_held: answer.was_held }) };
    let settings = context.settings()?;
    let longest = settings.grace_period() + settings.lease() + MARGIN;
    context.printer.note(&format!("ending task `{task}`, which agent `{}` works on", agent.id));
    let begun = Instant::now();
    // Restarted, it may have taken up something else meanwhile, or the same task again.
    let attempt = attempt_of(store, &task).await?;
    while attempt.is_some() && attempt_of(store, &task).await? == attempt {
        if begun.elapsed() > longest {
            return Err(Failure::new(Exit::TimedOut, format!("task `{task}` has not ended"))
                .hint(format!("`maestro task explain {task}` says why; `--force` ends it without grace")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(EndedAgent { task: Some(task), was_held: answer.was_held })
}

/// The attempt of a task that runs or is being ended.
async fn attempt_of(store: &Store, task: &TaskId) -> Result<Option<u32>, Failure> {
    use maestro_model::task::TaskStatus;
    let view = store.task(task).await?;
    let runs = matches!(view.status, TaskStatus::Running | TaskStatus::Cancelling);
    Ok(view.record.filter(|_| runs).map(|record| record.attempt.0))
}

/// Lets a stopped agent go on.
///
/// # Errors
/// What the store says.
pub(crate) async fn release(
    store: &Store,
    agent: &Assignment,
    context: &CommandContext,
) -> Result<(), Failure> {
    let by = who_asks(&context.surroundings()?);
    store.release_agent(&agent.id, &by).await?;
    Ok(())
}
