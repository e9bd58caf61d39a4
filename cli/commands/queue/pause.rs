//! `maestro queue pause` and `queue resume`: nothing new is started, and then again.

use clap::Args;
use maestro_store::Store;
use maestro_store::mode::{ModeAnswer, ModeView};
use serde::Serialize;

use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Form;
use crate::output::moment::{as_optional_rfc3339, rfc3339};
use crate::output::shape::{Column, Field, Shape};

/// Who pauses, where nobody has a name.
const SOMEBODY: &str = "somebody";

/// Flags of `queue pause`.
#[derive(Debug, Args)]
#[command(
    after_help = "What runs goes on and is reported; what is submitted waits; retries stay due. Time spent paused \
                        burns no attempt.\n\nExample:\n  maestro queue pause --reason provider-is-down"
)]
pub(crate) struct PauseArgs {
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

/// Flags of `queue resume`: none.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro queue resume")]
pub(crate) struct ResumeArgs {}

/// Whether work is taken.
#[derive(Debug, Serialize)]
struct ModeRecord {
    /// `run`, `paused`, `stopped`, …
    mode: String,
    /// Whether this command changed it.
    changed: bool,
    reason: Option<String>,
    by: Option<String>,
    #[serde(serialize_with = "as_optional_rfc3339")]
    since: Option<u64>,
}

const SHAPE: Shape<ModeRecord> = Shape {
    columns: &[
        Column::new("MODE", |record| record.mode.clone().into()),
        Column::new("REASON", |record| Field::or_none(record.reason.clone())),
        Column::new("BY", |record| Field::or_none(record.by.clone())),
        Column::new("SINCE", |record| Field::or_none(record.since.map(rfc3339))),
    ],
    name: |record| record.mode.clone(),
    none: "no mode",
};

/// Pauses the cluster.
pub(crate) fn pause(args: &PauseArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let changed = store.pause(&args.reason, &user(context)).await?;
        let sentence = match changed {
            ModeAnswer::Changed => "paused: nothing new is started, what runs goes on",
            ModeAnswer::Unchanged => "paused already",
        };
        print(&store, changed, sentence, context).await
    })
}

/// Lets it go on.
pub(crate) fn resume(_args: &ResumeArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let changed = store.resume(&user(context)).await?;
        let sentence = match changed {
            ModeAnswer::Changed => "work is taken again",
            ModeAnswer::Unchanged => "work is taken: it was not paused",
        };
        print(&store, changed, sentence, context).await
    })
}

async fn print(store: &Store, changed: ModeAnswer, sentence: &str, context: &CommandContext) -> Outcome {
    if context.printer.form() == Form::Table {
        context.printer.lines(sentence)?;
        return Ok(Exit::Done);
    }
    let mode = store.mode().await?;
    let text = |text: String| (!text.is_empty()).then_some(text);
    let record = ModeRecord {
        mode: mode.word,
        changed: changed == ModeAnswer::Changed,
        reason: text(mode.note),
        by: text(mode.by),
        since: mode.at_ms,
    };
    context.printer.record(&record, &SHAPE)?;
    Ok(Exit::Done)
}

/// Who does it, for whoever finds the cluster paused.
fn user(context: &CommandContext) -> String {
    let name = || -> Result<Option<String>, Failure> {
        let surroundings = context.surroundings()?;
        for variable in ["SUDO_USER", "USER", "LOGNAME"] {
            if let Some(name) = surroundings.variable(variable)? {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    };
    let host = maestro_worker::identity::host_name();
    let name = name().ok().flatten().unwrap_or_else(|| SOMEBODY.to_owned());
    format!("{name}@{host}")
}

/// `paused by ada@host1 since …: the provider is down`.
pub(crate) fn pause_note(mode: &ModeView) -> String {
    let mut text = match mode.word.as_str() {
        "stopped" => "the cluster is shut down".to_owned(),
        "paused" => "the cluster is paused".to_owned(),
        "drain" => "the cluster is drained".to_owned(),
        "freezing" | "frozen" => "the cluster is frozen for a snapshot".to_owned(),
        "recover" => "the cluster finds out what redis has forgotten".to_owned(),
        other => format!("the cluster is in mode `{other}`"),
    };
    if !mode.by.is_empty() {
        text.push_str(&format!(" by {}", mode.by));
    }
    if let Some(at) = mode.at_ms {
        text.push_str(&format!(" since {}", rfc3339(at)));
    }
    if !mode.note.is_empty() {
        text.push_str(&format!(" ({})", mode.note));
    }
    text
}

/// What can be done about it: a freeze and a recovery end by themselves.
pub(crate) fn pause_hint(mode: &ModeView) -> &'static str {
    match mode.word.as_str() {
        "freezing" | "frozen" | "recover" => "it ends by itself",
        _ => "`maestro queue resume` lets it go on",
    }
}
