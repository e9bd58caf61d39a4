//! What a command is given: the global flags, the printer, and the way to the settings.

use std::path::PathBuf;

use tokio::runtime::Builder;

use crate::args::GlobalFlags;
use crate::commands::Command;
use crate::config::settings::Settings;
use crate::config::surroundings::Surroundings;
use crate::config::variables;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::printer::Printer;
use crate::output::progress::ProgressLine;

/// Where an agent's processes find the socket of their worker.
const SOCKET_VARIABLE: &str = "MAESTRO_SOCKET";

/// How a command ends.
pub(crate) type Outcome = Result<Exit, Failure>;

/// What every command is given.
#[derive(Debug)]
pub(crate) struct CommandContext {
    global: GlobalFlags,
    /// Prints everything.
    pub(crate) printer: Printer,
}

impl CommandContext {
    /// For one call of the command.
    pub(crate) fn new(global: GlobalFlags, printer: Printer) -> CommandContext {
        CommandContext { global, printer }
    }

    /// The environment, folder and user of this process.
    pub(crate) fn surroundings(&self) -> Result<Surroundings, Failure> {
        Surroundings::of_process()
    }

    /// A bar for what takes a while, where somebody watches.
    ///
    /// # Errors
    /// 2 if the surroundings cannot be read.
    pub(crate) fn progress(&self) -> Result<ProgressLine, Failure> {
        Ok(ProgressLine::begin(&self.printer, &self.surroundings()?))
    }

    /// All settings. Asked for by the commands that need them, not before.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Settings::load(&self.global.setting_flags(), &self.surroundings()?)
    }

    /// The worker's socket, if this process runs inside a task and nobody named a Redis: a flag or a variable
    /// that does is meant, while a configuration file may only happen to lie in the workspace.
    ///
    /// # Errors
    /// 2 with a namespace: the worker speaks for its own alone.
    pub(crate) fn side_door(&self) -> Result<Option<PathBuf>, Failure> {
        let surroundings = self.surroundings()?;
        let named = surroundings.variable(variables::REDIS_URL.name)?.is_some();
        if named || self.global.redis_url.is_some() {
            return Ok(None);
        }
        let Some(socket) = surroundings.variable(SOCKET_VARIABLE)? else { return Ok(None) };
        match &self.global.namespace {
            None => Ok(Some(PathBuf::from(socket))),
            Some(_) => Err(Failure::usage("inside a task only the state of its own cluster can be reached")
                .hint("leave `--namespace` out, or name a redis with `--redis-url`")),
        }
    }

    /// Runs a command's asynchronous part. One thread is enough for whoever only asks and waits;
    /// `threads` more take the work of a worker or coordinator.
    pub(crate) fn block_on<F: Future<Output = Outcome>>(&self, threads: usize, work: F) -> Outcome {
        let mut builder =
            if threads == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
        if threads > 0 {
            builder.worker_threads(threads);
        }
        let runtime = builder.enable_all().build();
        let runtime = runtime.map_err(|error| {
            Failure::unavailable("cannot start the command's own threads").caused_by(&error)
        })?;
        runtime.block_on(work)
    }

    /// Refuses (2) a format that draws graphs where there is none.
    pub(crate) fn check_format(&self, command: &Command) -> Result<(), Failure> {
        let format = self.printer.format();
        if !format.is_drawing() || command.draws() {
            return Ok(());
        }
        Err(Failure::usage(format!("the format `{}` is for `workflow graph` alone", format.word()))
            .hint("here there are `table`, `json`, `jsonl`, `yaml` and `name`"))
    }
}
