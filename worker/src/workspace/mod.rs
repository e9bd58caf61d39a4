//! Folders in which agents work, and Maestro's own files beside them.
//!
//! ```text
//! <root>/<agent>/<task>/            the workspace of attempt 1; of attempt n > 1 `<task>.<n>/`
//!                      agent.log    a link to the log beside it
//! <root>/<agent>/<task>.maestro/    (`<task>.<n>.maestro/`) out of the agent's way: agent.log, home/, tmp/,
//!                                   output, error, prompt
//! <root>/<id>/home/                 HOME of the assigned agent of that id, whose files of Maestro's lie beside it;
//!                                   its workspace is the folder it was assigned, and nothing of ours is in there
//! <root>/.runs/<run>/               the one folder of a run's steps with `workspace: run`
//! .<name>.checkpoint-<task>/        beside such a folder, or an assigned one, while a task works in it in fail-safe mode
//! <root>/.trash/                    what is being removed
//! ```
//!
//! Folders are mode 700. Names consist of ids, which keep to `[A-Za-z0-9._-]` and begin with none of `.` and
//! `-`: so no path leaves the root, and no agent type can be called `.runs` or `.trash`.
//!
//! Copies of another step's folder are brought by `step_copy`; whether a git tree has changes is asked in `git_tree`.
//! When a workspace goes is for its caller to say.

mod checkpoint;
mod git_exclude;
mod own_files;
mod root;
mod template;
mod trash;

pub(crate) use checkpoint::Checkpoint;
pub(crate) use git_exclude::LOG_EXCLUDED;
pub(crate) use own_files::read_own_head;
pub use own_files::{OwnFileError, read_own_file};
pub(crate) use root::make_folder;
pub use root::{
    AssignedFolder, PreparedWorkspace, WorkspaceError, WorkspacePaths, WorkspacePlace, WorkspaceRoot,
};
pub use template::TemplateCopyError;
pub(crate) use template::copy_template;
pub use trash::TrashPortion;
