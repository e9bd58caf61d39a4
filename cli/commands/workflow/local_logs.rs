//! Logs of runs that ran with `--local`: their Redis is gone, their files stay below the data folder.
//!
//! `run.json` lists the tasks, `<step>.<attempt>.log` is what an attempt printed, all of it and in one.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use maestro_model::ids::RunId;
use maestro_store::logs::LogStream;
use serde::Deserialize;

use crate::commands::CommandContext;
use crate::commands::task::log_lines::LogLine;
use crate::commands::task::log_print::{LogPrinter, LogSource};
use crate::config::folders::data_folder;
use crate::failure::Failure;
use crate::ids::closest;

/// Words for the newest run.
const NEWEST: [&str; 2] = ["last", "@latest"];
/// Longest line read at one time; a longer one goes on as if it were several.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Largest list of tasks that is read.
const LIST_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The files of a run.
#[derive(Debug)]
pub(super) struct LocalRun {
    folder: PathBuf,
}

#[derive(Debug, Deserialize)]
struct LocalList {
    tasks: Vec<LocalTask>,
}

#[derive(Debug, Deserialize)]
struct LocalTask {
    id: String,
    step: String,
    attempt: u32,
}

impl LocalTask {
    /// The step without an item's number.
    fn bare_step(&self) -> &str {
        self.step.split('[').next().unwrap_or(&self.step)
    }
}

impl LocalRun {
    /// The run of exactly this id, if its files are here.
    pub(super) fn exactly(text: &str, context: &CommandContext) -> Option<LocalRun> {
        let id: RunId = text.parse().ok()?;
        let folder = runs_folder(context)?.join(id.as_str());
        folder.join("run.json").is_file().then_some(LocalRun { folder })
    }

    /// The run a text means, where no cluster knows it: a prefix that fits one alone, or the newest.
    pub(super) fn meant(text: &str, context: &CommandContext) -> Option<LocalRun> {
        let entries = runs_folder(context)?.read_dir().ok()?;
        let mut runs: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                NEWEST.contains(&text) || name.to_str().is_some_and(|name| name.starts_with(text))
            })
            .filter_map(|entry| {
                let list = entry.path().join("run.json").metadata().ok()?;
                Some((list.modified().ok()?, entry.path()))
            })
            .collect();
        runs.sort();
        match (NEWEST.contains(&text), runs.len()) {
            (true, _) | (false, 1) => runs.pop().map(|(_, folder)| LocalRun { folder }),
            _ => None,
        }
    }

    /// Where its trace is, if it was traced.
    pub(super) fn trace_file(&self) -> PathBuf {
        self.folder.join("trace.json")
    }

    /// Prints its logs, each task's last attempt.
    ///
    /// # Errors
    /// 66 if there is no such step, 65 if the files are not what they were.
    pub(super) fn print(&self, step: Option<&str>, context: &CommandContext) -> Result<(), Failure> {
        let tasks = self.tasks()?;
        let chosen: Vec<&LocalTask> =
            tasks.iter().filter(|task| step.is_none_or(|step| task.bare_step() == step)).collect();
        if let (Some(step), true) = (step, chosen.is_empty()) {
            return Err(no_step(step, &tasks));
        }
        let width = chosen.iter().map(|task| task.step.len()).max().unwrap_or(0);
        let mut printer = match chosen.len() {
            1 => LogPrinter::of_one(&context.printer),
            _ => LogPrinter::of_several(&context.printer, width),
        };
        let mut printed = false;
        for task in chosen {
            printed |= self.print_task(task, &mut printer)?;
        }
        if !printed {
            context.printer.note(&format!("no lines of this run are kept in `{}`", self.folder.display()));
        }
        Ok(())
    }

    fn tasks(&self) -> Result<Vec<LocalTask>, Failure> {
        let path = self.folder.join("run.json");
        let wrong = || Failure::invalid_file(format!("cannot read `{}`", path.display()));
        let mut text = String::new();
        let file = File::open(&path).map_err(|error| wrong().caused_by(&error))?;
        file.take(LIST_BYTES_MAX).read_to_string(&mut text).map_err(|error| wrong().caused_by(&error))?;
        let list: LocalList = serde_json::from_str(&text).map_err(|error| wrong().caused_by(&error))?;
        Ok(list.tasks)
    }

    fn print_task(&self, task: &LocalTask, printer: &mut LogPrinter<'_>) -> Result<bool, Failure> {
        let path = self.folder.join(format!("{}.{}.log", task.step, task.attempt));
        let cannot = |error: &io::Error| {
            Failure::invalid_file(format!("cannot read `{}`", path.display())).caused_by(error)
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            // A `foreach`, and whatever launched nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(cannot(&error)),
        };
        let at_ms = written_at(&path);
        let source = LogSource {
            task: task.id.clone(),
            step: task.step.clone(),
            attempt: task.attempt,
            // A file has no times of its lines.
            traced: false,
        };
        let mut reader = BufReader::new(file);
        let mut printed = false;
        loop {
            let mut bytes = Vec::new();
            let portion = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
            if portion.map_err(|error| cannot(&error))? == 0 {
                printer.next_log()?;
                return Ok(printed);
            }
            printed = true;
            printer.line(&LogLine { at_ms, stream: LogStream::Stdout, bytes }, &source)?;
        }
    }
}

fn no_step(step: &str, tasks: &[LocalTask]) -> Failure {
    let failure = Failure::not_found(format!("the run has no step `{step}` that was ready to start"));
    match closest(step, tasks.iter().map(LocalTask::bare_step)) {
        Some(close) => failure.hint(format!("did you mean `{close}`?")),
        None => failure,
    }
}

fn runs_folder(context: &CommandContext) -> Option<PathBuf> {
    Some(data_folder(&context.surroundings().ok()?).join("runs"))
}

/// When a file was written last, ms since 1970.
fn written_at(path: &Path) -> u64 {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let since = modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    since.unwrap_or_default().as_millis() as u64
}
