//! `maestro doctor`: what would keep this host or this cluster from working, and how to mend it.
//!
//! Every check is a line: what, what was found, and what to do if that is not well. Nothing is changed.

mod agents;
mod cluster;
mod confinement;
mod host;
mod question;
mod redis;
mod trial;

use clap::Args;
use maestro_store::{Store, StoreError};
use serde::Serialize;

use super::{CommandContext, Outcome};
use crate::cluster::{COMMAND_PATIENCE, store_failure, store_options};
use crate::engine::host_confinement;
use crate::exit::Exit;
use crate::output::foreign::harmless;
use crate::output::format::Form;
use crate::output::shape::{Column, Field, Shape};
use crate::output::tone::Tone;

/// Flags of `doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 if nothing fails, 1 if something does, 69 if Redis cannot be used. With \
                        --agent only that type is looked at, and Redis need not be there.\n\n\
                        Examples:\n  maestro doctor\n  maestro doctor --agent code-reviewer"
)]
pub(crate) struct DoctorArgs {
    /// Launch this agent type's program in a scratch folder and say what it could not reach
    #[arg(long, value_name = "TYPE")]
    agent: Option<String>,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    /// As it should be.
    Ok,
    /// Work goes on, but look at it.
    Warn,
    /// It does not work like this.
    Fail,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CheckEntry {
    status: Health,
    /// What was looked at.
    check: String,
    /// What was found.
    found: String,
    /// What to do about it.
    mend: Option<String>,
}

impl CheckEntry {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> CheckEntry {
        CheckEntry { status: Health::Ok, check: check.into(), found: found.into(), mend: None }
    }

    fn warn(check: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> CheckEntry {
        CheckEntry { status: Health::Warn, mend: Some(mend.into()), ..CheckEntry::ok(check, found) }
    }

    fn fail(check: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> CheckEntry {
        CheckEntry { status: Health::Fail, ..CheckEntry::warn(check, found, mend) }
    }
}

/// For `--format name`; people get lines of their own.
const SHAPE: Shape<CheckEntry> = Shape {
    columns: &[
        Column::new("CHECK", |entry| entry.check.clone().into()),
        Column::new("FOUND", |entry| Field::from(entry.found.clone())),
    ],
    name: |entry| entry.check.clone(),
    none: "nothing was checked",
};

/// Checks everything.
pub(crate) fn run(args: &DoctorArgs, context: &CommandContext) -> Outcome {
    let settings = context.settings()?;
    if let Some(agent) = &args.agent {
        let entries = trial::checks(agent, &settings, context)?;
        print(&entries, context)?;
        let fails = entries.iter().any(|entry| entry.status == Health::Fail);
        return Ok(if fails { Exit::WorkFailed } else { Exit::Done });
    }
    context.block_on(0, async {
        let mut entries = Vec::new();
        let confinement = host_confinement().await;
        let connected = Store::connect(&store_options(&settings, COMMAND_PATIENCE)).await;
        let is_usable = connected.is_ok();
        match connected {
            Ok(store) => {
                let checked = async {
                    entries.extend(redis::checks(&store, &settings).await?);
                    entries.extend(cluster::checks(&store).await?);
                    Ok::<(), StoreError>(())
                };
                if let Err(error) = checked.await {
                    entries.push(unusable(error, &settings));
                }
                let registered = store.agent_types().await.unwrap_or_default();
                entries.extend(agents::checks(&settings, registered, &confinement));
            }
            Err(error) => {
                entries.push(unusable(error, &settings));
                entries.extend(agents::checks(&settings, indexmap::IndexMap::new(), &confinement));
            }
        }
        entries.extend(host::checks(&settings));
        entries.extend(confinement::checks(&confinement));
        print(&entries, context)?;
        let fails = entries.iter().any(|entry| entry.status == Health::Fail);
        Ok(match (is_usable, fails) {
            (false, _) => Exit::Unavailable,
            (true, true) => Exit::WorkFailed,
            (true, false) => Exit::Done,
        })
    })
}

fn unusable(error: StoreError, settings: &crate::config::settings::Settings) -> CheckEntry {
    let failure = store_failure(error);
    let origin = &settings.chosen(crate::config::variables::REDIS_URL).origin;
    let found = format!("{} (address from: {origin})", failure.one_line());
    CheckEntry::fail("redis", found, failure.hint_text().unwrap_or("run `maestro doctor` again").to_owned())
}

fn print(entries: &[CheckEntry], context: &CommandContext) -> Result<(), crate::failure::Failure> {
    let printer = &context.printer;
    if printer.form() != Form::Table {
        return printer.list(entries, &SHAPE);
    }
    let width = entries.iter().map(|entry| entry.check.len()).max().unwrap_or(0);
    let line = |entry: &CheckEntry| {
        let (word, tone) = match entry.status {
            Health::Ok => ("ok  ", Tone::Good),
            Health::Warn => ("warn", Tone::Warn),
            Health::Fail => ("fail", Tone::Bad),
        };
        let mend = entry.mend.as_ref().map(|mend| format!(" — {}", harmless(mend))).unwrap_or_default();
        let check = format!("{:<width$}", entry.check);
        format!("{}  {check}  {}{mend}", printer.paint().apply(tone, word), harmless(&entry.found))
    };
    printer.lines(&entries.iter().map(line).collect::<Vec<_>>().join("\n"))
}
