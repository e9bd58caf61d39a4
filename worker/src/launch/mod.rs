//! Starting and ending agent processes.
//!
//! ```text
//! worker ──socket──► launcher (one, the binary again, one thread)
//!    │                  │ forks, as many as tasks run at one time
//!    └────socket────► supervisor (kept for the next task) ──exec──► agent ──► whatever it starts
//! ```
//!
//! The worker asks the launcher for supervisors and speaks with each of them directly. A supervisor is a
//! child subreaper: nothing that an agent starts can leave the tree below it, whatever sessions it makes,
//! and "no child is left" is one answer of the kernel. The task is over when the agent's first process
//! is, not when a pipe closes; what is left below it then is killed before the end is reported.
//!
//! What must never be: an agent that outlives its worker, its launcher or its supervisor.
//! - The worker dies: its sockets close, each supervisor kills its tree, the launcher sees to the rest.
//! - The launcher dies: the kernel tells its children (it has one thread, so the parent-death signal is
//!   reliable), each supervisor kills its tree and says so; the worker starts another launcher.
//! - A supervisor dies: its agent's first process dies with it, the others fall to the launcher, which
//!   is a subreaper too and kills what it did not start itself.
//!
//! A confined agent's supervisor is the first process of namespaces of its own (`view`): there the kernel
//! itself sees to it that nothing outlives the supervisor, also if worker, launcher and supervisor are all
//! killed at once. An unconfined agent's grandchildren have no such guard.
//!
//! Which paths an agent may reach is decided in `confinement`; containers are another kind of launch.

mod client;
mod error;
mod launcher;
mod link;
mod program;
mod settings;
mod socket;
mod spec;
mod stillness;
mod supervisor;
mod sys;
mod sys_walls;
mod system;
mod tree;
mod view;
mod walls;
mod wire;
mod wire_order;

pub(crate) use client::memory_file;
pub use client::{AgentProcess, KILL_ANSWER_LIMIT, Launcher, ProcessEnd};
pub use error::LaunchError;
pub use launcher::{LAUNCHER_COMMAND, launcher_main};
pub use program::{DEFAULT_PATH, find_program};
pub(crate) use settings::{SETTINGS_FOLDER, SettingsFound};
pub use spec::{GROUPS_MAX, LaunchFds, LaunchSpec, LauncherCommand, WallPlan};
pub(crate) use stillness::is_tree_still;
pub(crate) use sys_walls::{can_refuse_keyrings, landlock_version};
pub(crate) use system::SYSTEM_FOLDERS;
pub(crate) use tree::{descendants_of, parent_of};
pub use wire::{MainEnd, TreeEnd, TreeEndCause, WallKind, WallStep};
pub use wire_order::{ViewEntry, ViewKind};
