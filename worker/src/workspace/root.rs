//! Which folder belongs to an attempt, and making it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use maestro_model::ids::{AgentId, AgentSlug, Attempt, RunId, TaskId};
use rustix::fs::{CWD, RenameFlags};

use super::git_exclude::leave_log_out;
use super::template::{TemplateCopyError, copy_template};

/// Where the folders of runs lie.
const RUNS: &str = ".runs";

/// Why there is no workspace.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The host could not make it: no space, no rights, the root vanished.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Host {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The folder that its agent was assigned is gone, or closed to the worker.
    #[error("the assigned folder `{}` cannot be used: {source}", path.display())]
    Assigned {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The type's template is not here, or cannot be copied.
    #[error(transparent)]
    Template(#[from] TemplateCopyError),
}

impl WorkspaceError {
    pub(super) fn host(action: &'static str, path: &Path, source: io::Error) -> WorkspaceError {
        WorkspaceError::Host { action, path: path.to_owned(), source }
    }
}

/// Which folder an attempt works in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkspacePlace {
    /// A fresh one of its own.
    Task,
    /// The one of its run, as the steps before left it.
    Run,
    /// The one its agent was assigned, as its tasks before left it.
    Assigned(AssignedFolder),
}

/// The folder of an assigned agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedFolder {
    /// Whose it is: Maestro's own files lie below its id in the root.
    pub agent: AgentId,
    /// Where it is; absolute.
    pub folder: PathBuf,
}

/// The folder below which all workspaces of this host lie.
#[derive(Debug, Clone)]
pub struct WorkspaceRoot {
    path: PathBuf,
}

/// Where everything of one attempt lies. Nothing of it need exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspacePaths {
    /// Whose folder it is.
    pub place: WorkspacePlace,
    /// The agent's working directory: `<< workspace >>`.
    pub folder: PathBuf,
    /// Maestro's own folder of this attempt.
    pub own: PathBuf,
}

impl WorkspacePaths {
    /// Everything the agent wrote to standard output and error.
    pub fn log(&self) -> PathBuf {
        self.own.join("agent.log")
    }

    /// HOME, unless the type says otherwise. An assigned agent keeps its own from task to task.
    pub fn home(&self) -> PathBuf {
        let folder = match self.place {
            WorkspacePlace::Task | WorkspacePlace::Run => &self.own,
            WorkspacePlace::Assigned(_) => self.own.parent().unwrap_or(&self.own),
        };
        folder.join("home")
    }

    /// Where a copy of another step's folder is put together.
    pub fn incoming(&self) -> PathBuf {
        self.own.join("incoming")
    }

    /// TMPDIR.
    pub fn tmp(&self) -> PathBuf {
        self.own.join("tmp")
    }

    /// What the agent leaves for Maestro: of the folder that holds it, it may write here only.
    pub fn out(&self) -> PathBuf {
        self.own.join("out")
    }

    /// `MAESTRO_OUTPUT_FILE`
    pub fn output(&self) -> PathBuf {
        self.out().join("output")
    }

    /// `MAESTRO_ERROR_FILE`
    pub fn error(&self) -> PathBuf {
        self.out().join("error")
    }

    /// `MAESTRO_PROMPT_FILE`, and `<< prompt >>` in a command whose prompt comes by file.
    pub fn prompt(&self) -> PathBuf {
        self.own.join("prompt")
    }
}

/// A workspace that exists.
#[derive(Debug)]
pub struct PreparedWorkspace {
    /// The new, empty log.
    pub log: File,
}

impl WorkspaceRoot {
    /// Takes a folder as root, making it if it is missing.
    ///
    /// # Errors
    /// If it cannot be made, or is no folder.
    pub fn open(path: &Path) -> Result<WorkspaceRoot, WorkspaceError> {
        let failed = |source| WorkspaceError::host("make the workspace root", path, source);
        let absolute = std::path::absolute(path).map_err(failed)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&absolute).map_err(|error| {
            match error.kind() {
                io::ErrorKind::AlreadyExists => failed(io::ErrorKind::NotADirectory.into()),
                _ => failed(error),
            }
        })?;
        Ok(WorkspaceRoot { path: absolute })
    }

    /// The root itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where an attempt's folders lie. `agent` is its type; of an assigned agent the id counts instead.
    pub fn paths(
        &self,
        agent: &AgentSlug,
        task: &TaskId,
        attempt: Attempt,
        place: WorkspacePlace,
    ) -> WorkspacePaths {
        let name = match attempt {
            Attempt(1) => task.to_string(),
            Attempt(later) => format!("{task}.{later}"),
        };
        let agent_folder = self.path.join(match &place {
            WorkspacePlace::Task | WorkspacePlace::Run => agent.as_str(),
            WorkspacePlace::Assigned(assigned) => assigned.agent.as_str(),
        });
        let folder = match &place {
            WorkspacePlace::Task => agent_folder.join(&name),
            WorkspacePlace::Run => self.run_folder(&task.run),
            WorkspacePlace::Assigned(assigned) => assigned.folder.clone(),
        };
        WorkspacePaths { place, folder, own: agent_folder.join(name + ".maestro") }
    }

    /// The folder that the steps of a run with `workspace: run` share.
    pub fn run_folder(&self, run: &RunId) -> PathBuf {
        self.path.join(RUNS).join(run.as_str())
    }

    /// Makes an attempt's folders and its log. A task folder starts from the template; a run's folder does
    /// when its first step makes it, and an assigned one, which must be there, while it is empty. What an
    /// earlier life of the same attempt left is thrown away.
    ///
    /// Blocks on the disk, for as long as copying the template takes.
    ///
    /// # Errors
    /// See [`WorkspaceError`]; what was made until then stays and is the caller's to discard.
    pub fn prepare(
        &self,
        paths: &WorkspacePaths,
        template: Option<&Path>,
    ) -> Result<PreparedWorkspace, WorkspaceError> {
        let prepared = self.prepare_own(paths)?;
        self.prepare_folder(paths, template)?;
        Ok(prepared)
    }

    /// The first half of `prepare`: Maestro's own folder of an attempt, and the log.
    ///
    /// # Errors
    /// See [`WorkspaceError`].
    pub fn prepare_own(&self, paths: &WorkspacePaths) -> Result<PreparedWorkspace, WorkspaceError> {
        self.make_fresh(&paths.own)?;
        make_folder(&paths.tmp())?;
        make_folder(&paths.out())?;
        Ok(PreparedWorkspace { log: create_log(&paths.log())? })
    }

    /// The second half of `prepare`.
    fn prepare_folder(&self, paths: &WorkspacePaths, template: Option<&Path>) -> Result<(), WorkspaceError> {
        match &paths.place {
            WorkspacePlace::Task => {
                self.make_fresh(&paths.folder)?;
                if let Some(template) = template {
                    copy_template(template, &paths.folder)?;
                    leave_log_out(&paths.folder)
                        .map_err(|error| WorkspaceError::host("set up git in", &paths.folder, error))?;
                }
                link_log(paths)?;
            }
            WorkspacePlace::Run => self.make_run_folder(&paths.folder, template)?,
            WorkspacePlace::Assigned(assigned) => use_assigned(&assigned.folder, template)?,
        }
        Ok(())
    }

    /// Makes a task's folder as a copy of another folder of this host.
    ///
    /// # Errors
    /// See [`WorkspaceError`].
    pub fn copy_into(&self, paths: &WorkspacePaths, source: &Path) -> Result<(), WorkspaceError> {
        self.make_fresh(&paths.folder)?;
        copy_template(source, &paths.folder)?;
        link_log(paths)
    }

    /// Makes a folder that was filled elsewhere below the root a task's own.
    ///
    /// # Errors
    /// See [`WorkspaceError`].
    pub fn adopt(&self, paths: &WorkspacePaths, filled: &Path) -> Result<(), WorkspaceError> {
        if paths.folder.symlink_metadata().is_ok() {
            self.discard_path(&paths.folder)?;
        }
        fs::rename(filled, &paths.folder)
            .and_then(|()| fs::set_permissions(&paths.folder, fs::Permissions::from_mode(0o700)))
            .map_err(|error| WorkspaceError::host("make the folder", &paths.folder, error))?;
        link_log(paths)
    }

    /// Makes a folder below an agent's, which is made too if it is missing. The root is not: one that has
    /// vanished is for a person to look at.
    fn make_fresh(&self, path: &Path) -> Result<(), WorkspaceError> {
        match folder_builder().create(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().expect("an attempt's folder lies in an agent's");
                make_folder(parent)?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.discard_path(path)?,
            Err(error) => return Err(WorkspaceError::host("make the folder", path, error)),
        }
        folder_builder().create(path).map_err(|error| WorkspaceError::host("make the folder", path, error))
    }

    /// With a template the folder appears whole or not at all: another step of the run may be starting too.
    fn make_run_folder(&self, path: &Path, template: Option<&Path>) -> Result<(), WorkspaceError> {
        if path.is_dir() {
            return Ok(());
        }
        make_folder(&self.path.join(RUNS))?;
        let Some(template) = template else { return make_folder(path) };
        let run = path.file_name().expect("a run's folder is named after it").to_string_lossy();
        let staged = path.with_file_name(format!("{run}.new-{:08x}", rand::random::<u32>()));
        make_folder(&staged)?;
        copy_template(template, &staged)?;
        match rustix::fs::renameat_with(CWD, &staged, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::EXIST) => self.discard_path(&staged),
            Err(errno) => Err(WorkspaceError::host("make the folder", path, errno.into())),
        }
    }
}

/// Nothing is made in place of an assigned folder that is gone: what was in it is not there any more, and
/// that is for a person to see.
fn use_assigned(folder: &Path, template: Option<&Path>) -> Result<(), WorkspaceError> {
    let failed = |source| WorkspaceError::Assigned { path: folder.to_owned(), source };
    let mut entries = fs::read_dir(folder).map_err(failed)?;
    match (template, entries.next()) {
        (Some(template), None) => Ok(copy_template(template, folder)?),
        _ => Ok(()),
    }
}

fn folder_builder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// Makes a folder unless it is there.
pub(crate) fn make_folder(path: &Path) -> Result<(), WorkspaceError> {
    match folder_builder().create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other.map_err(|error| WorkspaceError::host("make the folder", path, error)),
    }
}

fn create_log(path: &Path) -> Result<File, WorkspaceError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(|error| WorkspaceError::host("create", path, error))
}

/// The link is relative, so that it holds when the whole root is moved. It replaces a template's file.
fn link_log(paths: &WorkspacePaths) -> Result<(), WorkspaceError> {
    let link = paths.folder.join("agent.log");
    let own = paths.own.file_name().expect("Maestro's own folder has a name");
    let target = Path::new("..").join(own).join("agent.log");
    let failed = |error| WorkspaceError::host("link the log as", &link, error);
    match symlink(&target, &link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&link).map_err(failed)?;
            symlink(&target, &link).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, WorkspaceRoot) {
        let folder = tempfile::tempdir().expect("a folder");
        let root = WorkspaceRoot::open(&folder.path().join("root")).expect("a root");
        (folder, root)
    }

    fn task() -> TaskId {
        "0k3v9x2mqf1a.7".parse().expect("a lawful id")
    }

    fn agent() -> AgentSlug {
        "shell".parse().expect("a lawful slug")
    }

    #[test]
    fn each_attempt_has_a_folder_of_its_own_below_the_root() {
        let (_folder, root) = root();
        let first = root.paths(&agent(), &task(), Attempt(1), WorkspacePlace::Task);
        assert_eq!(first.folder, root.path().join("shell/0k3v9x2mqf1a.7"));
        assert_eq!(first.log(), root.path().join("shell/0k3v9x2mqf1a.7.maestro/agent.log"));
        let second = root.paths(&agent(), &task(), Attempt(2), WorkspacePlace::Task);
        assert_eq!(second.folder, root.path().join("shell/0k3v9x2mqf1a.7.2"));
        assert_eq!(second.own, root.path().join("shell/0k3v9x2mqf1a.7.2.maestro"));
        let shared = root.paths(&agent(), &task(), Attempt(2), WorkspacePlace::Run);
        assert_eq!(shared.folder, root.path().join(".runs/0k3v9x2mqf1a"));
        assert_eq!(shared.own, second.own);
    }

    #[test]
    fn every_folder_is_closed_to_others_and_the_log_is_linked() {
        let (_folder, root) = root();
        let paths = root.paths(&agent(), &task(), Attempt(1), WorkspacePlace::Task);
        root.prepare(&paths, None).expect("a workspace");
        let parent = paths.folder.parent().expect("below the root");
        for folder in [root.path(), parent, &paths.folder, &paths.own, &paths.tmp()] {
            let mode = fs::metadata(folder).expect("made").permissions().mode();
            assert_eq!(mode & 0o7777, 0o700, "{}", folder.display());
        }
        fs::write(paths.log(), "hello").expect("our file");
        let linked = paths.folder.join("agent.log");
        assert!(fs::read_link(&linked).expect("a link").is_relative());
        assert_eq!(fs::read_to_string(linked).expect("leads to the log"), "hello");
    }

    #[test]
    fn what_an_earlier_life_left_is_thrown_away() {
        let (_folder, root) = root();
        let paths = root.paths(&agent(), &task(), Attempt(1), WorkspacePlace::Task);
        root.prepare(&paths, None).expect("a workspace");
        fs::write(paths.folder.join("old"), "").expect("our folder");
        root.prepare(&paths, None).expect("again");
        assert!(!paths.folder.join("old").exists());
    }

    #[test]
    fn a_link_in_place_of_a_workspace_is_not_followed() {
        let (folder, root) = root();
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).expect("a folder");
        fs::write(elsewhere.join("kept"), "").expect("a file");
        let paths = root.paths(&agent(), &task(), Attempt(1), WorkspacePlace::Task);
        make_folder(paths.folder.parent().expect("below the root")).expect("a folder");
        symlink(&elsewhere, &paths.folder).expect("a link");
        root.prepare(&paths, None).expect("a workspace");
        assert!(!fs::symlink_metadata(&paths.folder).expect("made").is_symlink());
        root.empty_trash(100).expect("nothing in the way");
        assert!(elsewhere.join("kept").exists());
    }

    #[test]
    fn the_folder_of_a_run_goes_on_as_it_is() {
        let (folder, root) = root();
        let template = folder.path().join("template");
        fs::create_dir(&template).expect("a folder");
        fs::write(template.join("seed"), "1").expect("a file");
        let first = root.paths(&agent(), &task(), Attempt(1), WorkspacePlace::Run);
        root.prepare(&first, Some(&template)).expect("a workspace");
        assert_eq!(fs::read_to_string(first.folder.join("seed")).expect("copied"), "1");
        fs::write(first.folder.join("seed"), "2").expect("ours");
        let second = root.paths(&agent(), &task(), Attempt(2), WorkspacePlace::Run);
        root.prepare(&second, Some(&template)).expect("a workspace");
        assert_eq!(fs::read_to_string(second.folder.join("seed")).expect("still there"), "2");
        let names: Vec<_> = fs::read_dir(root.path().join(RUNS)).expect("made").collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    fn smith(folder: &Path) -> WorkspacePlace {
        let agent = "smith".parse().expect("a lawful id");
        WorkspacePlace::Assigned(AssignedFolder { agent, folder: folder.to_owned() })
    }

    #[test]
    fn an_assigned_agent_works_in_its_folder_and_nothing_of_ours_is_in_there() {
        let (folder, root) = root();
        let assigned = folder.path().join("app");
        fs::create_dir(&assigned).expect("a folder");
        let template = folder.path().join("template");
        fs::create_dir(&template).expect("a folder");
        fs::write(template.join("seed"), "1").expect("a file");
        let paths = root.paths(&agent(), &task(), Attempt(2), smith(&assigned));
        assert_eq!(paths.folder, assigned);
        assert_eq!(paths.own, root.path().join("smith/0k3v9x2mqf1a.7.2.maestro"));
        assert_eq!(paths.home(), root.path().join("smith/home"));
        root.prepare(&paths, Some(&template)).expect("a workspace");
        let names: Vec<_> =
            fs::read_dir(&assigned).expect("ours").flatten().map(|one| one.file_name()).collect();
        assert_eq!(names, ["seed"], "an empty folder starts from the template");
        assert!(paths.log().exists());

        fs::write(assigned.join("seed"), "2").expect("ours");
        fs::write(template.join("other"), "1").expect("a file");
        root.prepare(&paths, Some(&template)).expect("again");
        assert_eq!(fs::read_to_string(assigned.join("seed")).expect("kept"), "2");
        assert!(!assigned.join("other").exists(), "what is not empty goes on as it is");
        root.discard(&paths).expect("our own files go");
        assert!(assigned.join("seed").exists() && !paths.own.exists());
    }

    #[test]
    fn an_assigned_folder_that_is_gone_is_not_made_again() {
        let (folder, root) = root();
        let assigned = folder.path().join("app");
        let paths = root.paths(&agent(), &task(), Attempt(1), smith(&assigned));
        let refused = root.prepare(&paths, None).expect_err("there is no folder");
        assert!(matches!(refused, WorkspaceError::Assigned { .. }), "{refused}");
        assert!(refused.to_string().starts_with("the assigned folder `"), "{refused}");
        assert!(!assigned.exists());
        fs::write(&assigned, "").expect("a file");
        assert!(root.prepare(&paths, None).is_err(), "a file is no folder");
    }

    #[test]
    fn a_root_that_vanished_is_the_hosts_failure() {
        let (_folder, root) = root();
        fs::remove_dir_all(root.path()).expect("ours");
        let paths = root.paths(&agent(), &task(), Attempt(1), WorkspacePlace::Task);
        let refused = root.prepare(&paths, None).expect_err("there is no root");
        assert!(matches!(refused, WorkspaceError::Host { .. }), "{refused}");
        assert!(refused.to_string().starts_with("cannot make the folder `"), "{refused}");
    }
}
