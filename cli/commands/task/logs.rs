//! `maestro task logs`: what a task's agent printed, also while it prints.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use maestro_model::ids::Attempt;
use maestro_store::logs::LogStream;
use maestro_store::runs::TaskView;
use maestro_store::{Store, StoreError};

use super::entry::state_phrase;
use super::log_lines::{LogCursor, LogLine};
use super::log_print::{LogPrinter, LogSource};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::{FoundTask, find_task};
use crate::output::moment::now_ms;
use crate::since::parse_since;

/// How often a log without new lines is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(150);
/// How long a log may be silent after its task ended: the last lines come a moment behind the report.
pub(crate) const LAST_LINES_WAIT: Duration = Duration::from_secs(1);
/// How long whoever follows puts up with a Redis that does not answer.
pub(crate) const FOLLOW_PATIENCE: Duration = Duration::from_secs(60);

/// Flags of `task logs`.
#[derive(Debug, Args)]
#[command(
    after_help = "Redis keeps the last MiB of a running task, 64 KiB of a failed and 8 KiB of any other \
                        ended one; the whole log is `agent.log` beside the task's workspace.\n\n\
                        Example:\n  maestro task logs last/build -f --tail 20"
)]
pub(crate) struct TaskLogsArgs {
    /// `<run>.<index>`, `<run>/<step>` or `<run>/<step>[<item>]`; a run is its id, a prefix of it, or `last`
    id: String,
    /// Go on until the task has ended, further attempts included
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N lines
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Only lines from this time on: how long ago (`10m`), or when (`2026-11-20T09:00:00Z`)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only this attempt, instead of the last one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Only this stream
    #[arg(long, value_enum)]
    stream: Option<StreamWord>,
}

/// The streams of an agent, as users write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StreamWord {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Copy)]
struct LineWish {
    stream: Option<StreamWord>,
    since_ms: u64,
    /// Whether any line may be left out.
    narrows: bool,
}

impl LineWish {
    fn wants(&self, line: &LogLine) -> bool {
        let stream = match (self.stream, line.stream) {
            (None, _) | (_, LogStream::Note) => true,
            (Some(wanted), LogStream::Stdout) => wanted == StreamWord::Stdout,
            (Some(wanted), LogStream::Stderr) => wanted == StreamWord::Stderr,
        };
        stream && line.at_ms >= self.since_ms
    }
}

/// Prints the log.
pub(crate) fn run(args: &TaskLogsArgs, context: &CommandContext) -> Outcome {
    let since_ms = match &args.since {
        Some(text) => parse_since(text, now_ms()).map_err(Failure::usage)?,
        None => 0,
    };
    let narrows = args.stream.is_some() || args.since.is_some() || args.tail == Some(0);
    let wish = LineWish { stream: args.stream, since_ms, narrows };
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let FoundTask { run, task } = find_task(&store, &args.id).await?;
        if matches!(task.kind, 'g' | 'x') {
            return Err(Failure::usage(format!("step `{}` is a `foreach`: its items have the logs", task.own.step))
                .hint(format!(
                    "`maestro task logs {0}/{1}[0]` is the first one's, `maestro workflow logs {0} --step {1}` all",
                    task.id.run, task.own.step
                )));
        }
        let had = task.record.as_ref().map_or(0, |record| record.attempt.0);
        if let Some(asked) = args.attempt.filter(|asked| *asked > had) {
            return Err(no_attempt(&task, asked, had));
        }
        let mut shown = ShownLog {
            store: &store,
            context,
            printer: LogPrinter::of_one(&context.printer),
            wish,
            task,
            traced: run.trace,
            printed: false,
        };
        let mut cursor = shown.cursor(Attempt(args.attempt.unwrap_or(had)));
        if had > 0 {
            shown.print_kept(&mut cursor, args.tail).await?;
        }
        if args.follow {
            shown.follow(cursor, args.attempt.is_some()).await?;
        } else {
            shown.print(&cursor.finish(), cursor.attempt)?;
            shown.say_if_empty();
        }
        Ok(Exit::Done)
    })
}

fn no_attempt(task: &TaskView, asked: u32, had: u32) -> Failure {
    let hint = match had {
        0 => format!("it has not started: `maestro task explain {}` says why", task.id),
        1 => "it has had one attempt".to_owned(),
        had => format!("it has had {had} attempts"),
    };
    Failure::not_found(format!("task `{}` has no attempt {asked}", task.id)).hint(hint)
}

struct ShownLog<'a> {
    store: &'a Store,
    context: &'a CommandContext,
    printer: LogPrinter<'a>,
    wish: LineWish,
    task: TaskView,
    traced: bool,
    printed: bool,
}

impl ShownLog<'_> {
    fn cursor(&self, attempt: Attempt) -> LogCursor {
        // Of a task that was taken over by a resumed run the log lies where its work was done.
        let task = self.task.own.origin.as_ref().unwrap_or(&self.task.id);
        LogCursor::new(task.clone(), attempt)
    }

    /// What is there now, or its last lines.
    async fn print_kept(&mut self, cursor: &mut LogCursor, tail: Option<usize>) -> Result<(), Failure> {
        let mut last: VecDeque<LogLine> = VecDeque::new();
        while let Some(lines) = cursor.next(self.store).await? {
            let Some(tail) = tail else {
                self.print(&lines, cursor.attempt)?;
                continue;
            };
            for line in lines.into_iter().filter(|line| self.wish.wants(line)) {
                last.push_back(line);
                if last.len() > tail {
                    last.pop_front();
                }
            }
        }
        let last: Vec<LogLine> = last.into();
        self.print(&last, cursor.attempt)
    }

    fn print(&mut self, lines: &[LogLine], attempt: Attempt) -> Result<(), Failure> {
        let source = LogSource {
            task: self.task.id.to_string(),
            step: self.task.own.label(),
            attempt: attempt.0,
            traced: self.traced,
        };
        for line in lines.iter().filter(|line| self.wish.wants(line)) {
            self.printed = true;
            self.printer.line(line, &source)?;
        }
        Ok(())
    }

    /// Goes on until the task has ended; `pinned`: until this attempt has.
    async fn follow(&mut self, mut cursor: LogCursor, pinned: bool) -> Result<(), Failure> {
        let mut silent_since = Instant::now();
        let mut seen_running = false;
        loop {
            let lines = patient(self.context, async || cursor.next(self.store).await).await?;
            if let Some(lines) = lines {
                silent_since = Instant::now();
                self.print(&lines, cursor.attempt)?;
                continue;
            }
            let task = patient(self.context, async || self.store.task(&self.task.id).await).await?;
            let attempt = task.record.as_ref().map_or(Attempt(0), |record| record.attempt);
            let holds = task.record.as_ref().is_some_and(|record| {
                record.attempt == cursor.attempt && !matches!(task.status.word(), "parked" | "queued")
            });
            let over = task.status.is_final() || (pinned && !holds);
            // The last lines of a task that has only just ended may be on their way.
            let ended_at = task.record.as_ref().and_then(|record| record.finished_at_ms);
            let only_just = ended_at.is_some_and(|at| now_ms() < at + LAST_LINES_WAIT.as_millis() as u64);
            seen_running |= !over || only_just;
            let settled = !seen_running || silent_since.elapsed() > LAST_LINES_WAIT;
            if attempt > cursor.attempt && !pinned && settled {
                self.print(&cursor.finish(), cursor.attempt)?;
                self.printer.next_log()?;
                if cursor.attempt.0 > 0 {
                    self.context.printer.note(&format!("attempt {attempt} of `{}`", self.task.id));
                }
                cursor = self.cursor(attempt);
                continue;
            }
            if over && settled {
                self.print(&cursor.finish(), cursor.attempt)?;
                self.task = task;
                self.say_if_empty();
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Says why there is nothing, so that an empty log is not taken for an error.
    fn say_if_empty(&self) {
        if self.printed {
            return;
        }
        let id = &self.task.id;
        let started = self.task.record.as_ref().is_some_and(|record| record.attempt.0 > 0);
        let phrase = state_phrase(self.task.status);
        self.context.printer.note(&if started && self.wish.narrows {
            format!("no line that is kept of task `{id}` matches")
        } else if started {
            format!("task `{id}` has printed nothing")
        } else if self.task.status.is_final() {
            format!("task `{id}` never started: it {phrase}")
        } else {
            format!("task `{id}` has not started: it {phrase}; `maestro task explain {id}` says why")
        });
    }
}

/// Asks again while Redis does not answer, and says so once; for whoever follows something.
///
/// # Errors
/// What the store says, once patience has ended.
pub(crate) async fn patient<T>(
    context: &CommandContext,
    mut ask: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, Failure> {
    let mut failing_since: Option<Instant> = None;
    loop {
        match ask().await {
            Ok(value) => return Ok(value),
            Err(error) if error.may_pass() => {
                let since = *failing_since.get_or_insert_with(|| {
                    context.printer.warn("redis does not answer; trying again");
                    Instant::now()
                });
                if since.elapsed() > FOLLOW_PATIENCE {
                    return Err(error.into());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
