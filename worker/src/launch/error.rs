//! Why an agent could not be started. What follows from it for the task is decided in `attempt`.

use std::io;
use std::path::PathBuf;

use super::wire::WallStep;

/// A start that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No such program here; another host may have it.
    #[error("binary not found: `{program}`, looked for in {looked_in}")]
    ProgramMissing {
        /// The command's first word.
        program: String,
        /// The folders of PATH, or the path itself.
        looked_in: String,
    },
    /// There is such a file, but it cannot be executed.
    #[error("binary `{program}` cannot be executed: {source}")]
    ProgramRefused {
        /// The command's first word.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is there, the interpreter that its first line names is not.
    #[error("binary not found: the interpreter or loader of `{program}`")]
    InterpreterMissing {
        /// The command's first word.
        program: String,
    },
    /// The working directory cannot be entered.
    #[error("cannot enter the workspace `{}`: {source}", path.display())]
    Workspace {
        /// The working directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The command is not one that any kernel would take: empty, or with a NUL in it.
    #[error("the command cannot be run: {rule}")]
    Malformed {
        /// The rule it breaks.
        rule: &'static str,
    },
    /// Arguments and environment are larger than this host passes on.
    #[error("the command and its environment are too large for this host")]
    TooLarge,
    /// The host has no more processes, memory or descriptors to give.
    #[error("cannot start a process: {source}")]
    Host {
        /// What the kernel said.
        source: io::Error,
    },
    /// Walls of this kind cannot be built on this host.
    #[error("namespaces are refused ({step:?}): {source}")]
    Unwalled {
        /// What could not be done.
        step: WallStep,
        /// What the kernel said.
        source: io::Error,
    },
    /// The walls of this one agent could not be built, or its limits not be set.
    #[error("cannot confine the agent: {source}")]
    Confinement {
        /// What the kernel said.
        source: io::Error,
    },
    /// The type names a path that no agent of it can be given.
    #[error("the agent may not reach `{}`, which its type names: {rule}", path.display())]
    PathRefused {
        /// As the type names it.
        path: PathBuf,
        /// What keeps it from the agent.
        rule: String,
    },
    /// A path of the host cannot be shown to the agent.
    #[error("cannot show the agent `{}`: {source}", path.display())]
    NotShown {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The launcher could not be started, or died while this start was under way. Whatever had been
    /// started is ended by then; a new launcher is made for the next start.
    #[error("the launcher of agent processes is gone: {source}")]
    LauncherLost {
        /// What was seen of it.
        source: io::Error,
    },
}
