//! `maestro version`: which one this is.

use clap::Args;
use serde::Serialize;

use super::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::output::shape::{Column, Shape};

/// Flags of `version`: none.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro version --format json")]
pub(crate) struct VersionArgs {}

#[derive(Debug, Serialize)]
struct VersionRecord {
    name: &'static str,
    version: &'static str,
    /// Of the processor and system it was built for.
    target: String,
}

const SHAPE: Shape<VersionRecord> = Shape {
    columns: &[
        Column::new("NAME", |record| record.name.into()),
        Column::new("VERSION", |record| record.version.into()),
        Column::new("TARGET", |record| record.target.clone().into()),
    ],
    name: |record| record.version.to_owned(),
    none: "no version",
};

/// Prints the version.
pub(crate) fn run(_args: &VersionArgs, context: &CommandContext) -> Outcome {
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let record = VersionRecord { name: "maestro", version: env!("CARGO_PKG_VERSION"), target };
    context.printer.record(&record, &SHAPE)?;
    Ok(Exit::Done)
}
