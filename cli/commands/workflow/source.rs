//! Reads a workflow definition for a command: the file, the agent types it may name, the errors.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use maestro_model::diagnostic::{Colour, Diagnostics, SourceText};
use maestro_model::workflow::{KnownNames, ParsedWorkflow, parse_workflow};

use crate::agent_files::AgentFiles;
use crate::commands::CommandContext;
use crate::failure::Failure;

/// The name of a definition that comes through standard input.
const STANDARD_INPUT: &str = "-";
/// Most bytes read of a file that claims to be a definition: enough to say how far it is over its limit.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads and checks a definition; warnings are printed. The agent types it may name are those of this
/// host: the folders of the settings, and what is shipped. `vars` are names given beside those of the file.
///
/// # Errors
/// 66 if there is no such file, 65 with every error marked if it is wrong.
pub(crate) fn read_workflow(
    file: &Path,
    vars: &[String],
    context: &CommandContext,
) -> Result<ParsedWorkflow, Failure> {
    let read = read_definition(file, &[], vars, context)?;
    show_warnings(&read.parsed, context);
    Ok(read.parsed)
}

/// Shows all that is probably not as meant.
pub(crate) fn show_warnings(parsed: &ParsedWorkflow, context: &CommandContext) {
    if !parsed.warnings.is_empty() {
        context.printer.block(&parsed.warnings.render(Colour::Plain));
    }
}

/// A definition with its text.
#[derive(Debug)]
pub(crate) struct ReadDefinition {
    /// What it says.
    pub(crate) parsed: ParsedWorkflow,
    /// The file as it is.
    pub(crate) text: String,
}

/// As `read_workflow`, with the text, and without showing warnings; `registered` are agent types it may name beside those of this host.
///
/// # Errors
/// As `read_workflow`.
pub(crate) fn read_definition(
    file: &Path,
    registered: &[String],
    vars: &[String],
    context: &CommandContext,
) -> Result<ReadDefinition, Failure> {
    let mut agents = AgentFiles::find(&context.settings()?.agents_dirs()).slugs();
    agents.extend_from_slice(registered);
    let bytes = read_file(file)?;
    let wrong = |problems: Diagnostics| wrong_file(file, &problems);
    let source = SourceText::from_bytes(file.display().to_string(), bytes.clone()).map_err(wrong)?;
    let known = KnownNames { agents: Some(&agents), vars };
    let parsed = parse_workflow(source, known).map_err(|problems| wrong_file(file, &problems))?;
    // What has been parsed is text; if it ever were not, nothing would be stored that cannot be read again.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(ReadDefinition { parsed, text })
}

/// The failure that shows everything that is wrong in a definition.
fn wrong_file(file: &Path, problems: &Diagnostics) -> Failure {
    let first = problems.list.first();
    let first = first.map(|one| format!("line {}, column {}: {}", one.line, one.column, one.message));
    Failure::invalid_file(format!("`{}` is not a workflow", file.display()))
        .cause(first.unwrap_or_default())
        .details(problems.to_json())
        .shown_as(problems.render(Colour::Plain))
}

fn read_file(file: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Failure::not_found(format!("there is no file `{}`", file.display()))
        }
        _ => Failure::invalid_file(format!("cannot read `{}`", file.display())).caused_by(error),
    };
    let mut bytes = Vec::new();
    if file == Path::new(STANDARD_INPUT) {
        io::stdin().lock().take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| cannot(&error))?;
    } else {
        let opened = File::open(file).map_err(|error| cannot(&error))?;
        opened.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| cannot(&error))?;
    }
    Ok(bytes)
}
