//! `maestro task wait`: ends when tasks have ended, with their first code that is not 0.

use std::time::Instant;

use clap::Args;
use maestro_model::duration::{ShownDuration, parse_duration};
use serde::Serialize;

use super::entry::status_tone;
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::shape::{Column, Field, Shape};
use crate::waiting::{AwaitedWork, wait_for_all};
use crate::work::{FoundWork, find_work, first_bad};

/// Most things waited for at one time.
const AWAITED_MAX: usize = 1_000;

/// Flags of `task wait`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 if all completed, else the first other one in the order given: the agent's own, \
                        1 skipped, 124 timed out, 130 cancelled. With `--timeout` 124 if something still goes on.\n\n\
                        Example:\n  maestro task wait last --timeout 10m"
)]
pub(crate) struct TaskWaitArgs {
    /// Tasks or runs: `<run>.<index>`, `<run>/<step>`, `<run>`, `last`
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Wait no longer than this
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<std::time::Duration>,
}

/// How something that was waited for ended.
#[derive(Debug, Serialize)]
struct WaitedRecord {
    id: String,
    /// Where it is in its life; of what still goes on, where it was seen last.
    status: &'static str,
    /// The code it stands for; null while it goes on.
    exit: Option<u8>,
}

const SHAPE: Shape<WaitedRecord> = Shape {
    columns: &[
        Column::new("ID", |record| record.id.clone().into()),
        Column::new("STATUS", |record| Field::toned(record.status, status_tone(record.status))),
        Column::new("EXIT", |record| Field::or_none(record.exit.map(|code| code.to_string()))),
    ],
    name: |record| record.id.clone(),
    none: "nothing to wait for",
};

/// Waits.
pub(crate) fn run(args: &TaskWaitArgs, context: &CommandContext) -> Outcome {
    if args.ids.len() > AWAITED_MAX {
        return Err(Failure::usage(format!(
            "{} things cannot be waited for at one time: the limit is {AWAITED_MAX}",
            args.ids.len()
        )));
    }
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let deadline = args.timeout.and_then(|longest| Instant::now().checked_add(longest));
        let mut awaited = Vec::with_capacity(args.ids.len());
        for id in &args.ids {
            awaited.push(AwaitedWork::new(find_work(&store, id).await?));
        }
        let all = wait_for_all(&store, &mut awaited, deadline, context, |_| ()).await?;
        let records: Vec<WaitedRecord> = awaited.iter().map(record_of).collect();
        context.printer.list(&records, &SHAPE)?;
        if !all {
            let open = awaited.iter().filter(|one| one.exit.is_none()).count();
            let waited = args.timeout.map(|longest| ShownDuration(longest).to_string()).unwrap_or_default();
            return Err(Failure::new(
                Exit::TimedOut,
                format!("{open} of {} still go on after {waited}", awaited.len()),
            )
            .hint("`maestro task explain <ID>` says what one waits for"));
        }
        Ok(first_bad(awaited.iter().filter_map(|one| one.exit)))
    })
}

fn record_of(one: &AwaitedWork) -> WaitedRecord {
    let status = match &one.work {
        FoundWork::Task(found) => found.task.status.word(),
        FoundWork::Run(run) => run.status.word(),
    };
    WaitedRecord { id: one.work.id(), status, exit: one.exit.map(Exit::code) }
}
