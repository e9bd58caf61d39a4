//! `maestro state set`: writes a shared value.

use std::io::{self, Read};
use std::time::Duration;

use clap::Args;
use maestro_model::duration::parse_duration;
use maestro_store::state::{STATE_VALUE_BYTES_MAX, WriteCondition};
use maestro_store::{Refusal, StoreError};
use serde_json::Value;

use super::entry::check_key;
use super::road::{StateRoad, WriteFailure};
use crate::cluster::store_failure;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::task_of_result_key;
use crate::output::foreign::harmless;
use crate::output::format::Form;

/// The value that is read from standard input.
const STANDARD_INPUT: &str = "-";
/// Most bytes read from standard input: enough to say how far a value is over its limit.
const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Flags of `state set`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro state set build_id 42 --json --ttl 2h")]
pub(crate) struct StateSetArgs {
    /// The key
    key: String,
    /// The value, text as it is; `-` reads standard input
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// How long it lives: `90s`, `24h`; 0 = until it is deleted (default: MAESTRO_STATE_TTL)
    #[arg(long, value_name = "TIME", value_parser = read_ttl)]
    ttl: Option<Duration>,
    /// Only if the value has this version; 0 = only if there is no value
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
    /// The value is JSON and keeps its type
    #[arg(long)]
    json: bool,
}

fn read_ttl(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| format!("{}; {}", error.rule, error.hint()))
}

/// Writes it.
pub(crate) fn run(args: &StateSetArgs, context: &CommandContext) -> Outcome {
    check_key(&args.key)?;
    if task_of_result_key(&args.key).is_some() {
        return Err(Failure::usage(format!(
            "`{}` is the name of a task's result and cannot be set",
            args.key
        ))
        .hint("choose a key of another form"));
    }
    let value = read_value(args)?;
    let condition = match args.if_version {
        None => WriteCondition::Always,
        Some(0) => WriteCondition::Absent,
        Some(version) => WriteCondition::Version(version),
    };
    context.block_on(0, async {
        let road = StateRoad::open(context).await?;
        let version = match road.set(&args.key, &value, args.ttl, condition).await {
            Ok(version) => version,
            Err(WriteFailure::Store(error)) => return Err(refused(error, args)),
            Err(WriteFailure::Other(failure)) => return Err(failure),
        };
        let printer = &context.printer;
        match printer.form() {
            Form::Table => printer.lines(&harmless(&format!("`{}` is set (version {version})", args.key)))?,
            Form::Name => printer.lines(&args.key)?,
            _ => printer.document(&serde_json::json!({ "key": args.key, "version": version }))?,
        }
        Ok(Exit::Done)
    })
}

fn read_value(args: &StateSetArgs) -> Result<Value, Failure> {
    let text = if args.value == STANDARD_INPUT { read_input()? } else { args.value.clone() };
    if !args.json {
        return Ok(Value::String(text));
    }
    serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!("the value of `{}` is not JSON", args.key))
            .caused_by(&error)
            .hint("leave `--json` out to store it as text; JSON text stands in quotes: `'\"text\"'`")
    })
}

fn read_input() -> Result<String, Failure> {
    let cannot = |error: &io::Error| Failure::usage("cannot read standard input").caused_by(error);
    let mut bytes = Vec::new();
    io::stdin().lock().take(INPUT_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| cannot(&error))?;
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        Failure::usage(format!("standard input is not UTF-8: byte {} does not belong there", place + 1))
            .hint(format!("a value is text or JSON of up to {STATE_VALUE_BYTES_MAX} bytes; encode it first"))
    })
}

fn refused(error: StoreError, args: &StateSetArgs) -> Failure {
    match (&error, args.if_version) {
        (StoreError::Refused(Refusal::VersionConflict { key, current: 0 }), _) => {
            Failure::refused(format!("`{key}` has no value now, so none of the version asked for"))
                .hint("`--if-version 0` writes only if there is none")
        }
        (StoreError::Refused(Refusal::VersionConflict { key, current }), Some(0)) => {
            Failure::refused(format!("`{key}` has a value already: version {current}"))
                .hint(format!("read it with `maestro state get {key}`"))
        }
        (StoreError::Refused(Refusal::VersionConflict { key, current }), Some(asked)) => Failure::refused(
            format!("`{key}` has version {current}, not {asked}: somebody wrote it meanwhile"),
        )
        .hint(format!("read it again with `maestro state get {key} --format json`")),
        (StoreError::Refused(Refusal::TooLarge { what, .. }), _) if what != "the key" => store_failure(error)
            .hint("put what is large into a file of the workspace, and its name into the state"),
        _ => store_failure(error),
    }
}
