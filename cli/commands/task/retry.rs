//! `maestro task retry`: another try for what has ended, one task or many.

use std::collections::BTreeMap;

use clap::Args;
use maestro_model::ids::{RunId, TaskId};
use maestro_model::task::TaskStatus;
use maestro_store::Store;
use maestro_store::rerun::RetryAnswer;
use maestro_store::runs::{RunRecord, TaskView};
use serde::Serialize;

use super::entry::{counted, state_phrase, status_tone};
use super::list::StatusWord;
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::consent::Consent;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::FoundTask;
use crate::output::moment::now_ms;
use crate::output::shape::{Column, Field, Shape};
use crate::since::parse_since;
use crate::work::{FoundWork, find_work};

/// Runs looked at for tasks of a state.
const RUNS_LOOKED_AT_MAX: usize = 10_000;

/// Flags of `task retry`.
#[derive(Debug, Args)]
#[command(
    after_help = "Failures and losses are counted from nothing again; attempts go on in their numbers. The id of a \
                        run retries what failed or was cancelled in it.\n\n\
                        Examples:\n  maestro task retry last/deploy --downstream\n  \
                        maestro task retry --status failed --since 2h --dry-run"
)]
pub(crate) struct TaskRetryArgs {
    /// `<run>.<index>`, `<run>/<step>`, `<run>/<step>[<item>]` or `<run>`; a run is its id, a prefix of it, or `last`
    #[arg(required_unless_present = "status")]
    id: Option<String>,
    /// Every task that ended like this
    #[arg(long, value_enum, conflicts_with = "id", requires = "since")]
    status: Option<StatusWord>,
    /// Of these, those that ended since: how long ago (`2h`), or when (`2026-11-20T09:00:00Z`)
    #[arg(long, value_name = "TIME", requires = "status")]
    since: Option<String>,
    /// Everything that follows them as well, however it ended
    #[arg(long)]
    downstream: bool,
    /// Print what would be tried again, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask (many tasks are asked about)
    #[arg(long)]
    yes: bool,
}

/// A task that gets another try, or waits again for one that does.
#[derive(Debug, Serialize)]
struct RetryRecord {
    id: String,
    run: String,
    workflow: String,
    step: String,
    /// Where it is now; with --dry-run as before.
    status: &'static str,
    attempt: u32,
    retried: bool,
}

const SHAPE: Shape<RetryRecord> = Shape {
    columns: &[
        Column::new("ID", |record| record.id.clone().into()),
        Column::new("STEP", |record| record.step.clone().into()),
        Column::new("WORKFLOW", |record| record.workflow.clone().into()),
        Column::new("STATUS", |record| Field::toned(record.status, status_tone(record.status))),
        Column::new("ATTEMPT", |record| Field::number(record.attempt)),
    ],
    name: |record| record.id.clone(),
    none: "nothing to try again",
};

/// What is to be tried again, run by run.
type Chosen = BTreeMap<RunId, (RunRecord, Vec<u32>)>;

/// Tries it again.
pub(crate) fn run(args: &TaskRetryArgs, context: &CommandContext) -> Outcome {
    let since = args.since.as_deref().map(|text| parse_since(text, now_ms()));
    let since_ms = since.transpose().map_err(Failure::usage)?.unwrap_or(0);
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let chosen = match (&args.id, args.status) {
            (Some(id), _) => chosen_by_id(&store, id).await?,
            (None, Some(status)) => chosen_by_status(&store, status, since_ms).await?,
            (None, None) => return Err(Failure::usage("name a task, or say `--status` and `--since`")),
        };
        let count: usize = chosen.values().map(|(_, tasks)| tasks.len()).sum();
        if args.id.is_none() && !args.dry_run && count > 0 {
            let what = format!(
                "{} of {} will be tried again",
                counted(count as u32, "task"),
                counted(chosen.len() as u32, "run")
            );
            Consent::of_flag(args.yes).require(&what, context)?;
        }
        retry_all(&store, &chosen, args, context).await
    })
}

/// Run by run; one that refuses does not stop the others.
async fn retry_all(
    store: &Store,
    chosen: &Chosen,
    args: &TaskRetryArgs,
    context: &CommandContext,
) -> Outcome {
    let mut records = Vec::new();
    let mut refused: Option<Failure> = None;
    for (run, tasks) in chosen.values() {
        let answer = match args.dry_run {
            true => store.retry_plan(&run.id, tasks, args.downstream).await?,
            false => store.retry(&run.id, tasks, args.downstream).await?,
        };
        match (refusal(&run.id, &answer), answer) {
            (None, RetryAnswer::Retried(ids)) => {
                records.extend(records_of(store, run, &ids, !args.dry_run).await?);
            }
            (Some(failure), _) => {
                if chosen.len() > 1 {
                    context.printer.warn(&failure.one_line());
                }
                refused.get_or_insert(failure);
            }
            (None, _) => {}
        }
    }
    match refused {
        Some(failure) if records.is_empty() => Err(failure),
        Some(failure) => {
            context.printer.list(&records, &SHAPE)?;
            Ok(failure.exit())
        }
        None => {
            context.printer.list(&records, &SHAPE)?;
            if args.dry_run {
                context.printer.note("nothing was changed");
            }
            Ok(Exit::Done)
        }
    }
}

async fn chosen_by_id(store: &Store, id: &str) -> Result<Chosen, Failure> {
    Ok(match find_work(store, id).await? {
        FoundWork::Task(found) => {
            let FoundTask { run, task } = *found;
            Chosen::from([(run.id.clone(), (run, vec![task.id.index]))])
        }
        FoundWork::Run(run) => {
            let tasks = store.tasks(&run.id, 0..run.tasks).await?;
            let badly = |task: &&TaskView| {
                matches!(task.status, TaskStatus::Failed | TaskStatus::Cancelled) && is_step(task)
            };
            let tasks: Vec<u32> = tasks.iter().filter(badly).map(|task| task.id.index).collect();
            if tasks.is_empty() {
                return Err(Failure::not_found(format!(
                    "nothing in run `{}` failed or was cancelled",
                    run.id
                )));
            }
            Chosen::from([(run.id.clone(), (*run, tasks))])
        }
    })
}

/// Items are chosen with the step they belong to: it ends as they do.
fn is_step(task: &TaskView) -> bool {
    task.group.is_none()
}

async fn chosen_by_status(store: &Store, status: StatusWord, since_ms: u64) -> Result<Chosen, Failure> {
    let wanted = status.statuses();
    if !wanted.iter().all(|status| status.is_final()) {
        return Err(Failure::usage(format!(
            "tasks that are `{}` have not ended: expected `failed`, `cancelled`, `skipped` or `completed`",
            wanted[0].word()
        )));
    }
    let mut chosen = Chosen::new();
    for run in store.newest_runs(RUNS_LOOKED_AT_MAX).await? {
        // Nothing of a run that ended before can have ended since.
        if run.finished_at_ms.is_some_and(|at| at < since_ms) {
            continue;
        }
        let tasks = store.tasks(&run.id, 0..run.tasks).await?;
        let is_meant = |task: &&TaskView| {
            let ended = task.record.as_ref().and_then(|record| record.finished_at_ms);
            wanted.contains(&task.status) && ended.is_some_and(|at| at >= since_ms) && is_step(task)
        };
        let tasks: Vec<u32> = tasks.iter().filter(is_meant).map(|task| task.id.index).collect();
        if !tasks.is_empty() {
            chosen.insert(run.id.clone(), (run, tasks));
        }
    }
    Ok(chosen)
}

/// Why a run's tasks get no other try.
fn refusal(run: &RunId, answer: &RetryAnswer) -> Option<Failure> {
    Some(match answer {
        RetryAnswer::Retried(_) => return None,
        RetryAnswer::Running { task, status } => {
            Failure::refused(format!("task `{task}` has not ended: it {}", state_phrase(*status))).hint(
                format!(
                    "wait for it (`maestro task wait {task}`), or end it first (`maestro task cancel {task}`)"
                ),
            )
        }
        RetryAnswer::Completed { task } => {
            Failure::refused(format!("task `{task}` completed, and others may have used its results"))
                .hint("say `--downstream` to run it again with all that follows it")
        }
        RetryAnswer::TooMany { found, most } => Failure::refused(format!(
            "at least {found} tasks of run `{run}` would be tried again: the limit is {most}"
        ))
        .hint("`maestro workflow run NAME --resume-from STEP --run RUN` makes a new run of them"),
        RetryAnswer::Stopping => Failure::refused(format!("run `{run}` is being stopped"))
            .hint("try again when it has ended: `maestro task wait` waits for that"),
        RetryAnswer::FolderLost { worker } => Failure::refused(format!(
            "the folder that the steps of run `{run}` share lies on worker `{worker}`, which is gone"
        ))
        .hint("`maestro workflow run NAME --resume-from STEP` starts over elsewhere"),
    })
}

async fn records_of(
    store: &Store,
    run: &RunRecord,
    ids: &[TaskId],
    retried: bool,
) -> Result<Vec<RetryRecord>, Failure> {
    let indexes: Vec<u32> = ids.iter().map(|id| id.index).collect();
    let tasks = store.tasks_at(&run.id, &indexes).await?;
    let record = |task: &TaskView| RetryRecord {
        id: task.id.to_string(),
        run: run.id.to_string(),
        workflow: run.workflow.clone(),
        step: task.own.label(),
        status: task.status.word(),
        attempt: task.record.as_ref().map_or(0, |record| record.attempt.0),
        retried,
    };
    Ok(tasks.iter().map(record).collect())
}
