//! The formats of `--format`, and which of them `auto` means.

use clap::ValueEnum;

/// What a user may ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrintFormat {
    /// A table on a terminal, JSON when piped
    #[default]
    Auto,
    /// Columns for people
    Table,
    /// A list is an array with one record per line
    Json,
    /// One record per line, nothing around it
    Jsonl,
    /// The same fields as YAML
    Yaml,
    /// Ids alone, one per line
    Name,
    /// A drawing in characters (`workflow graph`)
    #[value(hide = true)]
    Ascii,
    /// Graphviz (`workflow graph`)
    #[value(hide = true)]
    Dot,
    /// Mermaid (`workflow graph`)
    #[value(hide = true)]
    Mermaid,
}

impl PrintFormat {
    /// The word as it is typed.
    pub(crate) fn word(self) -> &'static str {
        match self {
            PrintFormat::Auto => "auto",
            PrintFormat::Table => "table",
            PrintFormat::Json => "json",
            PrintFormat::Jsonl => "jsonl",
            PrintFormat::Yaml => "yaml",
            PrintFormat::Name => "name",
            PrintFormat::Ascii => "ascii",
            PrintFormat::Dot => "dot",
            PrintFormat::Mermaid => "mermaid",
        }
    }

    /// Whether errors are to be JSON. `auto` never makes them so: a pipe takes standard output, and
    /// whoever sits at the terminal still reads the error.
    pub(crate) fn wants_json_errors(self) -> bool {
        matches!(self, PrintFormat::Json | PrintFormat::Jsonl)
    }

    /// Whether it draws a graph; no other command knows it.
    pub(crate) fn is_drawing(self) -> bool {
        matches!(self, PrintFormat::Ascii | PrintFormat::Dot | PrintFormat::Mermaid)
    }

    /// What is printed, once it is known whether standard output is a terminal.
    pub(crate) fn form(self, destination: Destination) -> Form {
        match (self, destination) {
            (PrintFormat::Auto, Destination::Terminal) => Form::Table,
            (PrintFormat::Auto, Destination::Pipe) => Form::Json,
            (PrintFormat::Json, _) => Form::Json,
            (PrintFormat::Jsonl, _) => Form::Jsonl,
            (PrintFormat::Yaml, _) => Form::Yaml,
            (PrintFormat::Name, _) => Form::Name,
            (PrintFormat::Table | PrintFormat::Ascii | PrintFormat::Dot | PrintFormat::Mermaid, _) => {
                Form::Table
            }
        }
    }
}

/// Where standard output leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Somebody watches.
    Terminal,
    /// A program or a file takes it.
    Pipe,
}

/// How records are printed; `auto` has been decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Columns.
    Table,
    /// JSON, lists as an array.
    Json,
    /// JSON, one record per line.
    Jsonl,
    /// YAML.
    Yaml,
    /// Ids.
    Name,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_a_table_on_a_terminal_and_json_in_a_pipe() {
        assert_eq!(PrintFormat::Auto.form(Destination::Terminal), Form::Table);
        assert_eq!(PrintFormat::Auto.form(Destination::Pipe), Form::Json);
        assert_eq!(PrintFormat::Table.form(Destination::Pipe), Form::Table);
    }

    #[test]
    fn every_format_is_typed_as_its_word() {
        for format in PrintFormat::value_variants() {
            assert_eq!(PrintFormat::from_str(format.word(), false), Ok(*format));
        }
    }
}
