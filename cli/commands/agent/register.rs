//! `maestro agent register`: checks agent types, stores them, and says which workers can serve them.

use std::path::PathBuf;

use clap::Args;
use maestro_model::agent_file::ParsedAgent;
use maestro_model::diagnostic::Colour;
use maestro_model::ids::AgentSlug;
use maestro_store::Store;
use maestro_store::assignments::RegisterAnswer;
use serde::Serialize;

use super::registered::{WorkerVerdict, ask_about};
use crate::agent_files::{files_in, read_agent};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::letters::live_workers;
use crate::output::foreign::cut;
use crate::output::format::Form;
use crate::output::shape::{Column, Field, Shape};
use crate::output::tone::Tone;

/// Columns of what a worker found, in the table.
const FOUND_COLUMNS: usize = 36;

/// Flags of `agent register`.
#[derive(Debug, Args)]
#[command(
    after_help = "All files are checked before any is stored. A type that was registered before is replaced; runs \
                  that were submitted keep the one of that time.\n\n\
                  Example:\n  maestro agent register agents.d/code-reviewer.yaml"
)]
pub(crate) struct AgentRegisterArgs {
    /// Files of agent types, or folders of such files
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
}

/// What became of a type.
#[derive(Debug, Clone, Serialize)]
struct RegisteredEntry {
    slug: String,
    /// `registered`, `changed` or `unchanged`.
    change: &'static str,
    /// Whether any live worker serves it.
    served: bool,
    workers: Vec<WorkerVerdict>,
}

/// One type on one worker, as a row.
#[derive(Debug, Serialize)]
struct VerdictRow {
    slug: String,
    change: &'static str,
    worker: Option<WorkerVerdict>,
}

const ROWS: Shape<VerdictRow> = Shape {
    columns: &[
        Column::new("SLUG", |row| row.slug.clone().into()),
        Column::new("CHANGE", |row| row.change.into()),
        Column::new("WORKER", |row| Field::or_none(row.worker.as_ref().map(|worker| worker.name.clone()))),
        Column::new("SERVES", |row| match &row.worker {
            Some(worker) if worker.serves => Field::toned("yes", Tone::Good),
            Some(_) => Field::toned("no", Tone::Warn),
            None => Field::none(),
        }),
        Column::new("BINARY", |row| found(row, "binary")),
        Column::new("MODE", |row| found(row, "mode")),
        Column::new("TEMPLATE", |row| found(row, "template")),
        Column::new("RESOURCES", |row| found(row, "resources")),
    ],
    name: |row| row.slug.clone(),
    none: "no agent types there: a folder's files are called `<slug>.yaml`",
};

const ENTRIES: Shape<RegisteredEntry> =
    Shape { columns: &[], name: |one| one.slug.clone(), none: "no agent types there" };

fn found(row: &VerdictRow, subject: &str) -> Field {
    let finding = row.worker.as_ref().and_then(|worker| worker.finding(subject));
    finding.map_or_else(Field::none, |finding| {
        let tone = if finding.good { Tone::Plain } else { Tone::Warn };
        Field::toned(cut(&finding.text, FOUND_COLUMNS), tone)
    })
}

/// Checks all, stores all, asks all workers.
pub(crate) fn run(args: &AgentRegisterArgs, context: &CommandContext) -> Outcome {
    let agents = read_all(&args.paths, context)?;
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let mut changes = Vec::new();
        for parsed in &agents {
            changes.push(match store.register_type(&parsed.agent).await? {
                RegisterAnswer::New => "registered",
                RegisterAnswer::Changed => "changed",
                RegisterAnswer::Unchanged => "unchanged",
            });
        }
        let slugs: Vec<AgentSlug> = agents.iter().map(|parsed| parsed.agent.slug.clone()).collect();
        let entries = verdicts(&store, &slugs, &changes, context).await?;
        print(&entries, context)?;
        Ok(Exit::Done)
    })
}

fn read_all(paths: &[PathBuf], context: &CommandContext) -> Result<Vec<ParsedAgent>, Failure> {
    let (mut agents, mut wrong): (Vec<ParsedAgent>, Vec<Failure>) = (Vec::new(), Vec::new());
    for path in paths {
        if !path.exists() {
            return Err(Failure::not_found(format!("there is no file or folder `{}`", path.display()))
                .hint("name files of agent types, or folders such as `agents.d`"));
        }
        let files = if path.is_dir() { files_in(path) } else { vec![path.clone()] };
        if files.is_empty() {
            return Err(Failure::not_found(format!("no agent types in `{}`", path.display()))
                .hint("files of agent types are called `<slug>.yaml`"));
        }
        for file in files {
            match read_agent(&file) {
                Ok(parsed) => agents.push(parsed),
                Err(failure) => wrong.push(failure),
            }
        }
    }
    for parsed in &agents {
        if !parsed.warnings.is_empty() {
            context.printer.block(&parsed.warnings.render(Colour::Plain));
        }
    }
    if wrong.len() <= 1 {
        return match wrong.pop() {
            Some(failure) => Err(failure),
            None => Ok(agents),
        };
    }
    let blocks: Vec<&str> = wrong.iter().filter_map(Failure::block).collect();
    let details = wrong.iter().filter_map(|one| one.details_value().cloned()).collect();
    Err(Failure::invalid_file(format!("{} files are not agent types, and none was registered", wrong.len()))
        .cause(wrong[0].one_line())
        .details(serde_json::Value::Array(details))
        .shown_as(blocks.join("\n\n")))
}

async fn verdicts(
    store: &Store,
    slugs: &[AgentSlug],
    changes: &[&'static str],
    context: &CommandContext,
) -> Result<Vec<RegisteredEntry>, Failure> {
    let workers = live_workers(store).await?;
    let verdicts = ask_about(store, &workers, slugs, false).await;
    for silent in &verdicts.silent {
        context.printer.warn(silent);
    }
    if workers.is_empty() {
        context.printer.warn("no worker is alive: whether any can serve these types is not known");
    }
    let entries = slugs.iter().zip(changes).map(|(slug, change)| {
        let workers = verdicts.of(slug);
        let served = workers.iter().any(|worker| worker.serves);
        RegisteredEntry { slug: slug.to_string(), change, served, workers }
    });
    let entries: Vec<RegisteredEntry> = entries.collect();
    for entry in &entries {
        // The same on every worker.
        let mode = entry.workers.iter().filter(|worker| worker.serves).find_map(|one| one.finding("mode"));
        if let Some(missing) = mode.filter(|finding| !finding.good) {
            context.printer.warn(&format!("agent type `{}`: {}", entry.slug, missing.text));
        }
    }
    for entry in entries.iter().filter(|entry| !entry.served && !entry.workers.is_empty()) {
        let reasons: Vec<String> = entry.workers.iter().filter_map(WorkerVerdict::obstacle).collect();
        context.printer.warn(&format!("no worker can serve `{}`: {}", entry.slug, reasons.join("; ")));
    }
    Ok(entries)
}

fn print(entries: &[RegisteredEntry], context: &CommandContext) -> Result<(), Failure> {
    if context.printer.form() != Form::Table {
        return context.printer.list(entries, &ENTRIES);
    }
    let mut rows = Vec::new();
    for entry in entries {
        let row = |worker| VerdictRow { slug: entry.slug.clone(), change: entry.change, worker };
        if entry.workers.is_empty() {
            rows.push(row(None));
        }
        rows.extend(entry.workers.iter().map(|worker| row(Some(worker.clone()))));
    }
    context.printer.list(&rows, &ROWS)
}
