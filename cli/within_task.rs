//! Whether this process runs inside a task, or in a task's folder, where no engine may be started: it would
//! outlive the task, and serve others from within its walls.
//!
//! This keeps from a mistake. The walls around an agent are elsewhere.

use std::path::{Path, PathBuf};

use maestro_model::ids::{RunId, TaskId};

use crate::commands::CommandContext;
use crate::config::settings::Settings;
use crate::config::surroundings::Surroundings;
use crate::failure::Failure;

/// Says which task a process belongs to.
const TASK_VARIABLE: &str = "MAESTRO_TASK_ID";
/// Says which folder its task works in.
const WORKSPACE_VARIABLE: &str = "MAESTRO_WORKSPACE";
/// Where the folders of runs lie below a workspace root.
const RUNS_FOLDER: &str = ".runs";
/// How the folder beside a task's folder is named that is Maestro's own.
const OWN_SUFFIX: &str = ".maestro";

/// Refuses to start a worker, a coordinator or both from within a task.
///
/// # Errors
/// 77 inside a task, below the workspace root of the settings, and in a task's folder below any other root.
pub(crate) fn refuse_within_task(settings: &Settings, context: &CommandContext) -> Result<(), Failure> {
    check(&context.surroundings()?, &settings.workspace_root())
}

fn check(surroundings: &Surroundings, root: &Path) -> Result<(), Failure> {
    if let Some(task) = surroundings.variable(TASK_VARIABLE)? {
        return Err(Failure::refused(format!("no cluster is started inside a task (`{task}`)"))
            .hint(format!("start it outside; if this is no task's process, unset `{TASK_VARIABLE}`")));
    }
    let here = real(surroundings.current_folder());
    let named = surroundings.folder(WORKSPACE_VARIABLE).map(|folder| real(&folder));
    let is_below_root = |root: PathBuf| here != root && here.starts_with(root);
    let is_within = is_below_root(real(root))
        || named.is_some_and(|folder| here.starts_with(folder))
        || here.ancestors().any(is_of_task);
    if !is_within {
        return Ok(());
    }
    Err(Failure::refused(format!("no cluster is started in a task's folder (`{}`)", here.display()))
        .hint("change to a folder outside of the workspaces"))
}

/// A path that is not there yet is taken as it is.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Whether a folder has the name and the neighbour of a task's, Maestro's own beside it, or a run's place.
fn is_of_task(folder: &Path) -> bool {
    let (Some(name), Some(parent)) = (folder.file_name().and_then(|name| name.to_str()), folder.parent())
    else {
        return false;
    };
    if parent.file_name().is_some_and(|parent| parent == RUNS_FOLDER) && name.parse::<RunId>().is_ok() {
        return true;
    }
    let task = name.strip_suffix(OWN_SUFFIX).unwrap_or(name);
    is_attempt(task) && parent.join(format!("{task}{OWN_SUFFIX}")).is_dir()
}

/// `<task>`, or `<task>.<attempt>` from the second on.
fn is_attempt(name: &str) -> bool {
    let is_task = |name: &str| name.parse::<TaskId>().is_ok();
    let later = name.rsplit_once('.').filter(|(_, attempt)| attempt.parse::<u32>().is_ok());
    is_task(name) || later.is_some_and(|(task, _)| is_task(task))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::exit::Exit;

    fn exit(variables: &[(&str, &str)], here: &Path, root: &Path) -> Option<Exit> {
        let surroundings = Surroundings::made_up(variables, here, 1000);
        check(&surroundings, root).err().map(|failure| failure.exit())
    }

    #[test]
    fn a_task_is_known_by_its_variables_and_by_its_folder() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = |name: &str| {
            let path = place.path().join(name);
            fs::create_dir_all(&path).expect("ours");
            path
        };
        let (root, project) = (folder("root"), folder("project/deep"));
        let refused = Some(Exit::Refused);
        assert_eq!(exit(&[], &project, &root), None);
        assert_eq!(exit(&[], &root, &root), None, "the root itself is the operator's");
        assert_eq!(exit(&[], place.path(), &place.path().join("not there")), None);
        assert_eq!(exit(&[("MAESTRO_TASK_ID", "0k3v9x2mqf1a.7")], &project, &root), refused);
        let named = project.to_str().expect("UTF-8");
        assert_eq!(exit(&[("MAESTRO_WORKSPACE", named)], &project, &root), refused);
        assert_eq!(exit(&[("MAESTRO_WORKSPACE", named)], &root, &root), None);

        assert_eq!(exit(&[], &folder("root/q/sub"), &root), refused);
        std::os::unix::fs::symlink(root.join("q"), place.path().join("link")).expect("ours");
        assert_eq!(exit(&[], &place.path().join("link/sub"), &root), refused);
        // Below a root that is not this host's any more.
        let later = folder("other/shell/0k3v9x2mqf1a.7.2/src");
        assert_eq!(exit(&[], &later, &root), None, "a name alone says nothing");
        let own = folder("other/shell/0k3v9x2mqf1a.7.2.maestro/tmp");
        assert_eq!(exit(&[], &later, &root), refused);
        assert_eq!(exit(&[], &own, &root), refused);
        assert_eq!(exit(&[], &folder("other/.runs/0k3v9x2mqf1a/src"), &root), refused);
        folder("project/deep.maestro");
        assert_eq!(exit(&[], &project, &root), None, "its name is no task's");
    }
}
