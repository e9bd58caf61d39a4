//! `maestro config`: which settings hold and why, and back to the beginning.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{CommandContext, Outcome};
use crate::config::folders;
use crate::config::layers::{Chosen, Origin};
use crate::config::value::SettingValue;
use crate::config::variables;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::shape::{Column, Field, Shape};
use crate::output::tone::Tone;

/// The verbs of `config`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  maestro config show --origin")]
pub(crate) enum ConfigCommand {
    /// Print every setting
    Show(ShowArgs),
    /// Replace your configuration file by one in which nothing is set; the old one stays as `.bak`
    Reset(ResetArgs),
}

/// Flags of `config show`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro config show --origin")]
pub(crate) struct ShowArgs {
    /// Say where each value comes from
    #[arg(long)]
    origin: bool,
}

/// Flags of `config reset`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maestro config reset --to-default")]
pub(crate) struct ResetArgs {
    /// Every setting back to its default
    #[arg(long, required = true)]
    to_default: bool,
}

/// Runs one of the verbs.
pub(crate) fn run(command: ConfigCommand, context: &CommandContext) -> Outcome {
    match command {
        ConfigCommand::Show(args) => show(&args, context),
        ConfigCommand::Reset(args) => reset(&args, context),
    }
}

#[derive(Debug, Serialize)]
struct SettingRecord {
    key: &'static str,
    variable: &'static str,
    value: SettingValue,
    #[serde(serialize_with = "origin_as_text")]
    origin: Origin,
}

fn origin_as_text<S: serde::Serializer>(origin: &Origin, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(origin)
}

impl From<&Chosen> for SettingRecord {
    fn from(chosen: &Chosen) -> SettingRecord {
        SettingRecord {
            key: chosen.variable.key,
            variable: chosen.variable.name,
            value: chosen.value.masked(chosen.variable),
            origin: chosen.origin.clone(),
        }
    }
}

const KEY: Column<SettingRecord> = Column::new("KEY", |record| record.key.into());
const VALUE: Column<SettingRecord> = Column::new("VALUE", |record| record.value.text().into());
const ORIGIN: Column<SettingRecord> = Column::new("ORIGIN", |record| match record.origin {
    Origin::Default => Field::toned("default", Tone::Faint),
    ref origin => origin.to_string().into(),
});

const PLAIN_SHAPE: Shape<SettingRecord> =
    Shape { columns: &[KEY, VALUE], name: |record| record.key.to_owned(), none: "no settings" };
const ORIGIN_SHAPE: Shape<SettingRecord> =
    Shape { columns: &[KEY, VALUE, ORIGIN], name: |record| record.key.to_owned(), none: "no settings" };

fn show(args: &ShowArgs, context: &CommandContext) -> Outcome {
    let settings = context.settings()?;
    let records: Vec<SettingRecord> = settings.all().iter().map(SettingRecord::from).collect();
    let shape = if args.origin { &ORIGIN_SHAPE } else { &PLAIN_SHAPE };
    context.printer.list(&records, shape)?;
    Ok(Exit::Done)
}

fn reset(args: &ResetArgs, context: &CommandContext) -> Outcome {
    debug_assert!(args.to_default, "the command line requires the flag");
    let surroundings = context.surroundings()?;
    let path = folders::user_config(&surroundings).ok_or_else(|| {
        Failure::usage("cannot tell where your configuration file is")
            .hint("set `HOME` or `XDG_CONFIG_HOME` to a folder")
    })?;
    let text = default_file();
    match fs::read(&path) {
        // A second reset must not put the defaults in place of what `.bak` keeps.
        Ok(present) if present == text.as_bytes() => {
            context.printer.note(&format!("`{}` sets nothing already", path.display()));
            return Ok(Exit::Done);
        }
        Ok(_) => {
            let backup = backup_of(&path);
            fs::rename(&path, &backup).map_err(|error| cannot_write(&backup, &error))?;
            context.printer.note(&format!("the old file is kept as `{}`", backup.display()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(Failure::usage(format!("cannot read `{}`", path.display())).caused_by(&error));
        }
    }
    write_whole(&path, &text).map_err(|error| cannot_write(&path, &error))?;
    context.printer.note(&format!("`{}` sets nothing now: every default holds", path.display()));
    Ok(Exit::Done)
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot write `{}`", path.display())).caused_by(error)
}

fn backup_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".bak");
    PathBuf::from(name)
}

/// Under a temporary name first, so that there is never half a file.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// A file that sets nothing and shows everything that could be set.
fn default_file() -> String {
    let mut text = String::from(
        "# Settings of Maestro. A line without its `#` is set; flags and environment win over it.\n",
    );
    for variable in variables::ALL {
        text.push_str(&format!("\n# {}\n# {}: {}\n", variable.meaning, variable.key, variable.default));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::read_config;

    #[test]
    fn the_default_file_sets_nothing_and_each_of_its_lines_can_be_set() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.yaml");
        fs::write(&path, default_file()).expect("written");
        assert_eq!(read_config(&path, None), Ok(Some(Vec::new())));

        let is_setting = |line: &str| {
            variables::ALL.iter().any(|variable| line.starts_with(&format!("# {}: ", variable.key)))
        };
        let all_set = default_file()
            .lines()
            .map(|line| if is_setting(line) { &line[2..] } else { line })
            .collect::<Vec<_>>()
            .join("\n");
        fs::write(&path, all_set).expect("written");
        let layer = read_config(&path, None).expect("lawful").expect("there");
        assert_eq!(layer.len(), variables::ALL.len());
    }
}
