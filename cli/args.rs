//! The command line as a whole: global flags, and what every help page has in common.
//!
//! Parsing only checks form. Settings are resolved later, by the commands that need them, so that
//! `config reset` works with a broken configuration.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args, Parser};

use crate::commands::Command;
use crate::config::settings::SettingFlags;
use crate::config::variables;
use crate::exit::Exit;
use crate::output::format::PrintFormat;
use crate::output::printer::{Printer, Talk};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Runs fleets of command-line AI agents on many hosts
#[derive(Debug, Parser)]
#[command(
    name = "maestro",
    version,
    propagate_version = false,
    styles = STYLES,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Example:\n  maestro workflow validate workflows/hello.yaml",
    after_long_help = long_help()
)]
pub(crate) struct CommandLine {
    /// Flags that every command takes.
    #[command(flatten)]
    pub(crate) global: GlobalFlags,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global flags")]
pub(crate) struct GlobalFlags {
    /// Where Redis is: redis://, rediss://, unix://, redis-sentinel://HOST,HOST/MASTER or redis-cluster://HOST,HOST
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) redis_url: Option<String>,
    /// Prefix of every key in Redis
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Read this configuration file in place of those that would be looked for
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = PrintFormat::Auto, value_name = "FORMAT")]
    pub(crate) format: PrintFormat,
    /// Print without colours (as does NO_COLOR)
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Print errors only, beside results
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print details
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    pub(crate) verbose: bool,
}

impl GlobalFlags {
    /// What is printed, and how.
    pub(crate) fn printer(&self) -> Printer {
        let talk = match (self.quiet, self.verbose) {
            (true, _) => Talk::Quiet,
            (false, true) => Talk::Verbose,
            (false, false) => Talk::Normal,
        };
        Printer::new(self.format, talk, self.no_color)
    }

    /// What the flags say about settings.
    pub(crate) fn setting_flags(&self) -> SettingFlags {
        SettingFlags {
            redis_url: self.redis_url.clone(),
            namespace: self.namespace.clone(),
            config: self.config.clone(),
        }
    }
}

/// The printer for a command line that could not be parsed: its flags may still say `--format json`.
pub(crate) fn printer_for_unparsed(words: &[OsString]) -> Printer {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let asks_for = |value: &str| matches!(value, "json" | "jsonl");
    let joined = words.iter().any(|word| word.strip_prefix("--format=").is_some_and(asks_for));
    let apart = words.windows(2).any(|pair| pair[0] == "--format" && asks_for(pair[1]));
    let format = if joined || apart { PrintFormat::Json } else { PrintFormat::Auto };
    Printer::new(format, Talk::Normal, words.contains(&"--no-color"))
}

fn long_help() -> String {
    format!(
        "Example:\n  maestro workflow validate workflows/hello.yaml\n\n\
         Environment (also as keys of maestro.yaml, in lower case without `MAESTRO_`):\n{}\n\n\
         Exit codes:\n{}",
        variables::table(),
        Exit::table()
    )
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_help_page_shows_an_example_that_parses() {
        let mut pages = vec![CommandLine::command()];
        while let Some(page) = pages.pop() {
            let help = page.get_after_help().map(ToString::to_string).unwrap_or_default();
            let mut examples = 0;
            for line in help.lines().filter_map(|line| line.trim().strip_prefix("maestro ")) {
                let line = line.split(" | ").next().unwrap_or(line).split(" > ").next().unwrap_or(line);
                let words = std::iter::once("maestro").chain(line.split_whitespace());
                let words = words.map(|word| word.trim_matches('"'));
                CommandLine::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
                examples += 1;
            }
            assert!(examples > 0, "`{}` shows no example", page.get_name());
            pages.extend(page.get_subcommands().filter(|sub| sub.get_name() != "help").cloned());
        }
    }

    #[test]
    fn a_json_format_is_seen_even_where_nothing_else_parses() {
        let asked = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            printer_for_unparsed(&words).format().wants_json_errors()
        };
        assert!(asked(&["maestro", "nonsense", "--format", "json"]));
        assert!(asked(&["maestro", "--format=jsonl", "nonsense"]));
        assert!(!asked(&["maestro", "nonsense", "--format", "table"]));
    }
}
