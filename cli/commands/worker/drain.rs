//! `maestro worker drain`: lets a worker end by and by, and shows what it still runs.

use std::time::{Duration, Instant};

use clap::Args;
use maestro_model::duration::parse_duration;
use maestro_model::ids::TaskId;
use maestro_model::mailbox::{WorkerAnswer, WorkerQuestion};
use maestro_store::Store;
use maestro_store::worker::AttachedProcess;
use maestro_worker::identity::host_name;
use serde::Serialize;

use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::letters::{ANSWER_WITHIN, ask_worker, find_worker, find_worker_of_host, misunderstood};
use crate::output::format::Form;
use crate::output::moment::{as_seconds, duration};
use crate::output::shape::{Column, Field, Shape};

/// Between two looks at what still runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it is said, if nothing changes.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Tasks named at one time.
const NAMED_MAX: usize = 5;

/// Flags of `worker drain`.
#[derive(Debug, Args)]
#[command(
    after_help = "It takes no new tasks; those it runs may end by themselves until the deadline, then they are ended \
                  and go back to their queues, no attempt counted. Waits until the worker has gone; Ctrl-C leaves it \
                  draining.\n\n\
                  Example:\n  maestro worker drain alpha --deadline 1h"
)]
pub(crate) struct WorkerDrainArgs {
    /// The worker: its name, or a prefix of it
    #[arg(required_unless_present = "this_host", conflicts_with = "this_host")]
    id: Option<String>,
    /// The one worker of this host, in place of a name: for a hook that runs before a container ends
    #[arg(long)]
    this_host: bool,
    /// When running tasks are ended
    #[arg(long, value_name = "TIME", default_value = "30m", conflicts_with = "force")]
    deadline: String,
    /// End running tasks at once
    #[arg(long)]
    force: bool,
}

/// How it went.
#[derive(Debug, Serialize)]
struct DrainedRecord {
    name: String,
    /// `gone`.
    status: &'static str,
    /// Tasks that ran when it began.
    held: u32,
    /// Seconds.
    #[serde(rename = "took", serialize_with = "as_seconds")]
    took_ms: u64,
}

const SHAPE: Shape<DrainedRecord> = Shape {
    columns: &[
        Column::new("NAME", |one| one.name.clone().into()),
        Column::new("STATUS", |one| one.status.into()),
        Column::new("HELD", |one| Field::number(one.held)),
        Column::new("TOOK", |one| duration(one.took_ms).into()),
    ],
    name: |one| one.name.clone(),
    none: "no worker",
};

/// Drains it and waits until it has gone.
pub(crate) fn run(args: &WorkerDrainArgs, context: &CommandContext) -> Outcome {
    let deadline = parse_duration(&args.deadline).map_err(|error| {
        Failure::usage(format!("cannot use the value of `--deadline`: {error}")).hint(error.hint())
    })?;
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let worker = match &args.id {
            Some(id) => find_worker(&store, id).await?,
            None => find_worker_of_host(&store, &host_name()).await?,
        };
        let begun = Instant::now();
        let deadline_ms = (!args.force).then_some(deadline.as_millis() as u64);
        let question = WorkerQuestion::Drain { deadline_ms, force: args.force };
        match ask_worker(&store, &worker, &question, ANSWER_WITHIN).await? {
            WorkerAnswer::Draining { already: true } => {
                context.printer.note(&format!("worker `{}` drains already", worker.name));
            }
            WorkerAnswer::Draining { already: false } => {}
            _ => return Err(misunderstood(&worker)),
        }
        let left = tokio::select! {
            left = wait_until_gone(&store, &worker, context) => left,
            _ = tokio::signal::ctrl_c() => Ok(Left::Interrupted),
        };
        if matches!(left?, Left::Interrupted) {
            let name = &worker.name;
            context.printer.note(&format!(
                "worker `{name}` goes on draining; `maestro worker drain {name}` follows it again, with `--force` it ends now"
            ));
            return Ok(Exit::Cancelled);
        }
        let took_ms = begun.elapsed().as_millis() as u64;
        if context.printer.form() == Form::Table {
            context.printer.lines(&format!("worker `{}` has gone, after {}", worker.name, duration(took_ms)))?;
        } else {
            let record = DrainedRecord { name: worker.name, status: "gone", held: worker.holds, took_ms };
            context.printer.record(&record, &SHAPE)?;
        }
        Ok(Exit::Done)
    })
}

/// Why nobody waits any more.
enum Left {
    Gone,
    Interrupted,
}

async fn wait_until_gone(
    store: &Store,
    worker: &AttachedProcess,
    context: &CommandContext,
) -> Result<Left, Failure> {
    let mut said: Option<(Vec<TaskId>, Instant)> = None;
    loop {
        let processes = store.processes().await?;
        let Some(now) = processes.into_iter().find(|one| one.incarnation == worker.incarnation) else {
            return Ok(Left::Gone);
        };
        if !now.alive {
            context
                .printer
                .warn(&format!("worker `{}` went silent: its tasks go back by themselves", now.name));
            return Ok(Left::Gone);
        }
        let held = store.held_tasks(std::slice::from_ref(&worker.incarnation)).await?;
        let held = held.into_iter().next().unwrap_or_default();
        let is_news = said.as_ref().is_none_or(|(known, at)| *known != held || at.elapsed() > SAY_EVERY);
        if is_news {
            context.printer.note(&waits_for(&now.name, &held));
            said = Some((held, Instant::now()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn waits_for(worker: &str, held: &[TaskId]) -> String {
    if held.is_empty() {
        return format!("worker `{worker}` runs nothing; it ends once no run needs a folder that is on it");
    }
    let shown: Vec<String> = held.iter().take(NAMED_MAX).map(|task| format!("`{task}`")).collect();
    let more = held.len().saturating_sub(NAMED_MAX);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let noun = if held.len() == 1 { "task" } else { "tasks" };
    format!("worker `{worker}` still runs {} {noun}: {}{rest}", held.len(), shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_tasks_are_named_and_the_rest_is_counted() {
        let task = |index| TaskId { run: "0k3v9x2mqf1a".parse().expect("lawful"), index };
        assert_eq!(waits_for("alpha", &[task(3)]), "worker `alpha` still runs 1 task: `0k3v9x2mqf1a.3`");
        let many: Vec<TaskId> = (0..7).map(task).collect();
        assert!(waits_for("alpha", &many).ends_with("`0k3v9x2mqf1a.4` and 2 more"));
    }
}
