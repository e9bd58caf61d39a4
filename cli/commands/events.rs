//! `maestro events`: the audit stream, as far as it is kept, or as it comes.

mod entry;

use std::time::Duration;

use clap::Args;
use maestro_model::ids::{RunId, TaskId};
use maestro_store::Store;
use maestro_store::events::{AuditEvent, EventPosition, EventReader};

use self::entry::{EVENT_ROWS, EventEntry, EventTeller};
use super::task::logs::{FOLLOW_PATIENCE, LOOK_EVERY};
use super::{CommandContext, Outcome};
use crate::cluster::open_store;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::{find_run, find_task};
use crate::output::format::Form;
use crate::output::moment::now_ms;
use crate::since::parse_since;

/// Longest wait for events before the stream is asked again.
const EVENTS_WAIT: Duration = Duration::from_secs(1);
/// Events of a run may be stamped a moment before the run's own time of submission, ms.
const SUBMIT_MARGIN_MS: u64 = 1_000;
/// Tasks whose step is looked up for one list.
const STEPS_LOOKED_UP_MAX: usize = 10_000;

/// Flags of `events`.
#[derive(Debug, Args)]
#[command(after_help = "About 200,000 entries are kept. With -f and nothing else the stream is shown from \
                        now on; Ctrl-C ends it.\n\nExample:\n  maestro events -f --run last")]
pub(crate) struct EventsArgs {
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Only events of this run: its id, a prefix of it, or `last`
    #[arg(long)]
    run: Option<String>,
    /// Only events of this task: `<run>.<index>`, `<run>/<step>`, `last`
    #[arg(long, conflicts_with = "run")]
    task: Option<String>,
    /// Only events from this time on: how long ago (`10m`), or when (`2026-11-20T09:00:00Z`)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

/// Prints them.
pub(crate) fn run(args: &EventsArgs, context: &CommandContext) -> Outcome {
    let since = args.since.as_deref().map(|text| parse_since(text, now_ms()));
    let since = since.transpose().map_err(Failure::usage)?;
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let wish = EventWish::of(args, &store).await?;
        let from = match (since, wish.begins) {
            (Some(since), begins) => EventPosition::at(begins.unwrap_or(0).max(since)),
            (None, Some(begins)) => EventPosition::at(begins),
            (None, None) if args.follow => store.events_end().await?,
            (None, None) => EventPosition::start(),
        };
        let teller = EventTeller::read(&store).await?;
        let mut shown = ShownEvents { store: &store, context, wish, teller, entries: Vec::new() };
        let position = shown.print_kept(from, args.follow).await?;
        if args.follow { shown.follow(position).await } else { Ok(Exit::Done) }
    })
}

/// Which events are wanted.
struct EventWish {
    run: Option<RunId>,
    task: Option<TaskId>,
    /// When the run was submitted, ms since 1970.
    begins: Option<u64>,
}

impl EventWish {
    async fn of(args: &EventsArgs, store: &Store) -> Result<EventWish, Failure> {
        let (run, task) = match (&args.run, &args.task) {
            (Some(run), _) => (Some(find_run(store, run).await?), None),
            (None, Some(task)) => {
                let found = find_task(store, task).await?;
                (Some(found.run), Some(found.task.id))
            }
            (None, None) => (None, None),
        };
        let begins = run.as_ref().map(|run| run.created_at_ms.saturating_sub(SUBMIT_MARGIN_MS));
        Ok(EventWish { run: run.map(|run| run.id), task, begins })
    }

    fn wants(&self, event: &AuditEvent) -> bool {
        match (&self.task, &self.run) {
            (Some(wanted), _) => event.task().as_ref() == Some(wanted),
            (None, Some(wanted)) => {
                event.run() == Some(wanted) || event.speaker().is_some_and(|(task, _)| task.run == *wanted)
            }
            (None, None) => true,
        }
    }
}

struct ShownEvents<'a> {
    store: &'a Store,
    context: &'a CommandContext,
    wish: EventWish,
    teller: EventTeller,
    /// Those of a list that is printed whole.
    entries: Vec<EventEntry>,
}

impl ShownEvents<'_> {
    /// What is there; where it ends.
    async fn print_kept(&mut self, from: EventPosition, goes_on: bool) -> Result<EventPosition, Failure> {
        let printer = &self.context.printer;
        let as_list = !goes_on && !matches!(printer.form(), Form::Table | Form::Name | Form::Jsonl);
        let mut position = from;
        let mut any = false;
        loop {
            let (events, next) = self.store.events_after(&position).await?;
            if next == position {
                break;
            }
            position = next;
            for entry in self.entries_of(&events).await? {
                any = true;
                if as_list { self.entries.push(entry) } else { self.print(&entry)? }
            }
        }
        if as_list {
            printer.list(&self.entries, &EVENT_ROWS)?;
        } else if !any && !goes_on {
            printer.note(EVENT_ROWS.none);
        }
        Ok(position)
    }

    fn print(&self, entry: &EventEntry) -> Result<(), Failure> {
        let names = self.context.printer.form() == Form::Name;
        self.context.printer.next(entry, |entry| if names { entry.subject.clone() } else { entry.line() })
    }

    async fn entries_of(&mut self, events: &[AuditEvent]) -> Result<Vec<EventEntry>, Failure> {
        let wanted: Vec<&AuditEvent> = events.iter().filter(|event| self.wish.wants(event)).collect();
        self.learn_steps(&wanted).await?;
        Ok(wanted.into_iter().map(|event| self.teller.entry(event)).collect())
    }

    /// Steps are told where one run is asked about; elsewhere they would cost a question for each run.
    async fn learn_steps(&mut self, events: &[&AuditEvent]) -> Result<(), Failure> {
        let Some(run) = &self.wish.run else { return Ok(()) };
        let mut unknown: Vec<u32> = Vec::new();
        for event in events.iter().take(STEPS_LOOKED_UP_MAX) {
            if let Some(task) = event.task()
                && !self.teller.knows_step(&task.to_string())
                && !unknown.contains(&task.index)
            {
                unknown.push(task.index);
            }
        }
        for task in self.store.tasks_at(run, &unknown).await? {
            self.teller.learn_step(task.id.to_string(), Some(task.own.label()));
        }
        Ok(())
    }

    /// Goes on until somebody ends the command. A Redis that is away for a while is waited for.
    async fn follow(&mut self, mut position: EventPosition) -> Outcome {
        let mut reader: Option<EventReader> = None;
        let mut failing_since = None;
        loop {
            let next = match &mut reader {
                Some(reader) => reader.next().await,
                None => match self.store.follow_events(position.clone(), EVENTS_WAIT).await {
                    Ok(open) => reader.insert(open).next().await,
                    Err(error) => Err(error),
                },
            };
            let events = match next {
                Ok(events) => events,
                Err(error) if error.may_pass() => {
                    reader = None;
                    let since = *failing_since.get_or_insert_with(|| {
                        self.context.printer.warn("redis does not answer; trying again");
                        std::time::Instant::now()
                    });
                    if since.elapsed() > FOLLOW_PATIENCE {
                        return Err(error.into());
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            failing_since = None;
            if let Some(reader) = &reader {
                position = reader.position().clone();
            }
            for entry in self.entries_of(&events).await? {
                self.print(&entry)?;
            }
        }
    }
}
