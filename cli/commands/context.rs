//! What a command is given: the global flags, the printer, and the way to the settings.

use tokio::runtime::Builder;

use crate::args::GlobalFlags;
use crate::commands::Command;
use crate::config::settings::Settings;
use crate::config::surroundings::Surroundings;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::printer::Printer;

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

    /// All settings. Asked for by the commands that need them, not before.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Settings::load(&self.global.setting_flags(), &self.surroundings()?)
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
