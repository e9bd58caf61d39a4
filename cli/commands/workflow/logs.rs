//! `maestro workflow logs`: what the agents of a run printed, also while they print.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use clap::Args;
use maestro_model::ids::Attempt;
use maestro_store::Store;
use maestro_store::runs::{RunRecord, TaskView};

use super::local_logs::LocalRun;
use crate::cluster::open_store;
use crate::commands::task::log_lines::{LogCursor, LogLine};
use crate::commands::task::log_print::{LogPrinter, LogSource};
use crate::commands::task::logs::{LAST_LINES_WAIT, LOOK_EVERY, patient};
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::{closest, find_run};

/// How often it is looked for tasks that have started meanwhile.
const TASKS_EVERY: Duration = Duration::from_millis(500);
/// How many times as long as a look at all tasks the pause after it is at least.
const LOOK_SHARE: u32 = 4;
/// What an item's number adds to the label of its step, up to `[99]`.
const ITEM_COLUMNS: usize = 4;
/// Widest label in front of a line.
const LABEL_COLUMNS_MAX: usize = 24;

/// Flags of `workflow logs`.
#[derive(Debug, Args)]
#[command(after_help = "Runs that were `--local` are found as well, from their files. \
                        Without -f the logs follow each other in the order in which the tasks started.\n\n\
                        Example:\n  maestro workflow logs last -f --step build")]
pub(crate) struct RunLogsArgs {
    /// The run: its id, a prefix of it, or `last`
    run: String,
    /// Go on until the run has ended; lines come as they are printed
    #[arg(short, long)]
    follow: bool,
    /// Only this step (of a `foreach` all items)
    #[arg(long)]
    step: Option<String>,
}

/// Prints them.
pub(crate) fn run(args: &RunLogsArgs, context: &CommandContext) -> Outcome {
    if let Some(local) = LocalRun::exactly(&args.run, context) {
        local.print(args.step.as_deref(), context)?;
        return Ok(Exit::Done);
    }
    context.block_on(0, async {
        let (store, run) = match find_in_cluster(args, context).await {
            Ok(found) => found,
            Err(failure) => return print_local(args, context, failure),
        };
        let steps = store.tasks(&run.id, 0..run.steps).await?;
        if let Some(step) = &args.step
            && !steps.iter().any(|task| task.own.step == *step)
        {
            return Err(no_step(&run, step, &steps));
        }
        let chosen = |task: &&TaskView| args.step.as_ref().is_none_or(|step| task.own.step == *step);
        let several = steps.iter().filter(chosen).count() > 1 || steps.iter().filter(chosen).any(is_foreach);
        let label = |task: &TaskView| task.own.step.len() + if is_foreach(task) { ITEM_COLUMNS } else { 0 };
        let width = steps.iter().filter(chosen).map(label).max().unwrap_or(0);
        let printer = match several {
            true => LogPrinter::of_several(&context.printer, width.min(LABEL_COLUMNS_MAX)),
            false => LogPrinter::of_one(&context.printer),
        };
        let mut shown = ShownRun {
            store: &store,
            context,
            printer,
            step: args.step.as_deref(),
            open: BTreeMap::new(),
            done: BTreeSet::new(),
            lines: 0,
        };
        if args.follow {
            shown.follow(run).await?
        } else {
            shown.print_all(&run).await?
        }
        Ok(Exit::Done)
    })
}

async fn find_in_cluster(
    args: &RunLogsArgs,
    context: &CommandContext,
) -> Result<(Store, RunRecord), Failure> {
    let store = open_store(&context.settings()?).await?;
    let run = find_run(&store, &args.run).await?;
    Ok((store, run))
}

/// What no cluster knows may be a run that was `--local`.
fn print_local(args: &RunLogsArgs, context: &CommandContext, failure: Failure) -> Outcome {
    let unknown = matches!(failure.exit(), Exit::NotFound | Exit::Unavailable);
    let Some(local) = LocalRun::meant(&args.run, context).filter(|_| unknown) else { return Err(failure) };
    local.print(args.step.as_deref(), context)?;
    Ok(Exit::Done)
}

fn is_foreach(task: &TaskView) -> bool {
    matches!(task.kind, 'g' | 'x')
}

fn no_step(run: &RunRecord, step: &str, steps: &[TaskView]) -> Failure {
    let failure = Failure::not_found(format!("run `{}` has no step `{step}`", run.id));
    match closest(step, steps.iter().map(|task| task.own.step.as_str())) {
        Some(close) => failure.hint(format!("did you mean `{close}`?")),
        None => failure.hint(format!("`maestro workflow status {}` lists its steps", run.id)),
    }
}

/// One attempt's log that is being printed.
struct OpenLog {
    cursor: LogCursor,
    source: LogSource,
    /// When its attempt was first seen to have ended.
    ended: Option<Instant>,
}

struct ShownRun<'a> {
    store: &'a Store,
    context: &'a CommandContext,
    printer: LogPrinter<'a>,
    step: Option<&'a str>,
    open: BTreeMap<(u32, u32), OpenLog>,
    done: BTreeSet<(u32, u32)>,
    lines: u64,
}

impl ShownRun<'_> {
    /// Tasks that have had an attempt, in the order in which they started.
    async fn started(&self, run: &RunRecord) -> Result<Vec<TaskView>, Failure> {
        let mut tasks = self.store.tasks(&run.id, 0..run.tasks).await?;
        tasks.retain(|task| {
            let started = task.record.as_ref().is_some_and(|record| record.attempt.0 > 0);
            started && !is_foreach(task) && self.step.is_none_or(|step| task.own.step == step)
        });
        tasks.sort_by_key(|task| task.record.as_ref().and_then(|record| record.started_at_ms));
        Ok(tasks)
    }

    async fn print_all(&mut self, run: &RunRecord) -> Result<(), Failure> {
        for task in self.started(run).await? {
            let Some(record) = &task.record else { continue };
            let mut log = open_log(&task, record.attempt, run.trace);
            while let Some(lines) = log.cursor.next(self.store).await? {
                self.print(&lines, &log.source)?;
            }
            let rest = log.cursor.finish();
            self.print(&rest, &log.source)?;
            self.printer.next_log()?;
        }
        if self.lines == 0 {
            self.context.printer.note(&format!("no lines of run `{}` are kept", run.id));
        }
        Ok(())
    }

    fn print(&mut self, lines: &[LogLine], source: &LogSource) -> Result<(), Failure> {
        self.lines += lines.len() as u64;
        lines.iter().try_for_each(|line| self.printer.line(line, source))
    }

    async fn follow(&mut self, run: RunRecord) -> Result<(), Failure> {
        let mut look_at = Instant::now();
        loop {
            let begun = Instant::now();
            if begun >= look_at {
                let record = patient(self.context, async || self.store.run(&run.id).await).await?;
                let record = record.ok_or_else(|| {
                    Failure::not_found(format!("run `{}` was removed while it was followed", run.id))
                })?;
                // Its tasks are read after its status: those of a run that has ended are all in it.
                self.look_for_tasks(&record).await?;
                if record.status.is_final() && self.open.is_empty() {
                    return Ok(());
                }
                // A run of many tasks is looked at less often: most of the time belongs to the lines.
                look_at = Instant::now() + TASKS_EVERY.max(begun.elapsed() * LOOK_SHARE);
            }
            if !self.print_new().await? {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Opens logs of attempts that began, marks those that ended.
    async fn look_for_tasks(&mut self, run: &RunRecord) -> Result<(), Failure> {
        for task in self.started(run).await? {
            let Some(record) = &task.record else { continue };
            let key = (task.id.index, record.attempt.0);
            if !self.done.contains(&key) && !self.open.contains_key(&key) {
                self.open.insert(key, open_log(&task, record.attempt, run.trace));
            }
            let runs = matches!(task.status.word(), "running");
            for (_, log) in self.open.range_mut((key.0, 0)..=(key.0, u32::MAX)) {
                if !runs || log.cursor.attempt != record.attempt {
                    log.ended.get_or_insert_with(Instant::now);
                }
            }
        }
        Ok(())
    }

    /// Prints what came; false if nothing did.
    async fn print_new(&mut self) -> Result<bool, Failure> {
        let mut any = false;
        let keys: Vec<(u32, u32)> = self.open.keys().copied().collect();
        for key in keys {
            let Some(mut log) = self.open.remove(&key) else { continue };
            let lines = patient(self.context, async || log.cursor.next(self.store).await).await?;
            match lines {
                Some(lines) => {
                    any = true;
                    self.print(&lines, &log.source)?;
                    log.ended = log.ended.map(|_| Instant::now());
                    self.open.insert(key, log);
                }
                None if log.ended.is_some_and(|ended| ended.elapsed() > LAST_LINES_WAIT) => {
                    let rest = log.cursor.finish();
                    self.print(&rest, &log.source)?;
                    self.printer.next_log()?;
                    self.done.insert(key);
                }
                None => {
                    self.open.insert(key, log);
                }
            }
        }
        Ok(any)
    }
}

fn open_log(task: &TaskView, attempt: Attempt, traced: bool) -> OpenLog {
    OpenLog {
        cursor: LogCursor::new(task.own.origin.clone().unwrap_or_else(|| task.id.clone()), attempt),
        source: LogSource { task: task.id.to_string(), step: task.own.label(), attempt: attempt.0, traced },
        ended: None,
    }
}
