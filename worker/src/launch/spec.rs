//! What the worker says to have an agent started.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fd::{BorrowedFd, OwnedFd};

use super::launcher::LAUNCHER_COMMAND;
use super::wire::WallKind;
use super::wire_order::ViewEntry;

/// Most control groups that one agent joins: one for each of the old controllers.
pub const GROUPS_MAX: usize = 5;

/// How a launcher process is started.
#[derive(Debug, Clone)]
pub struct LauncherCommand {
    /// The program; it must call [`launcher_main`](super::launcher_main) first of all.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl LauncherCommand {
    /// The running program itself, also if its file has been replaced meanwhile.
    pub fn this_program() -> LauncherCommand {
        LauncherCommand::of("/proc/self/exe")
    }

    /// Another program that hosts a launcher.
    pub fn of(program: impl Into<PathBuf>) -> LauncherCommand {
        LauncherCommand { program: program.into(), args: vec![LAUNCHER_COMMAND.into()] }
    }
}

/// An agent to be started.
#[derive(Debug, Clone)]
pub struct LaunchSpec {
    /// The argument list, never a shell; its first word is looked for on the PATH of `env`.
    pub argv: Vec<OsString>,
    /// The whole environment: nothing else reaches the agent.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory.
    pub cwd: PathBuf,
    /// What confines it; none = nothing does.
    pub walls: Option<WallPlan>,
    /// Most bytes of data one of its processes may have, where no control group limits memory.
    pub data_bytes_max: Option<u64>,
}

/// What confines one agent.
#[derive(Debug, Clone)]
pub struct WallPlan {
    /// Where it is to run; [`WallKind::Open`] = without namespaces.
    pub kind: WallKind,
    /// What it sees beside the system's folders, a folder before what lies in it; only with namespaces.
    pub entries: Vec<ViewEntry>,
    /// Those of their paths that its type names: if one cannot be shown, the type is to blame.
    pub named: BTreeSet<PathBuf>,
    /// Its Landlock ruleset, which is used up by it.
    pub rules: Option<Arc<OwnedFd>>,
    /// The rights that the ruleset governs, as the kernel numbers them.
    pub handled: u64,
}

/// What becomes the agent's standard input, output and error.
#[derive(Debug)]
pub struct LaunchFds<'a> {
    /// Read by the agent.
    pub stdin: BorrowedFd<'a>,
    /// Written by the agent.
    pub stdout: BorrowedFd<'a>,
    /// Written by the agent.
    pub stderr: BorrowedFd<'a>,
    /// Control groups that it joins, by their lists of processes, open for writing; at most [`GROUPS_MAX`].
    pub groups: &'a [OwnedFd],
}
