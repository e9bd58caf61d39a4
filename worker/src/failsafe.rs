//! Fail-safe mode: a folder that goes on from task to task goes back to where it was before a task that failed.
//!
//! Each failed attempt goes back, so the next one begins where the first did. What was cancelled, or was given back,
//! has not failed: its folder stays as it is. Folders of a task's own need none of this: each attempt has a fresh one.
//! Where several tasks work in one folder at one time there is no state to go back to, and that is said.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use maestro_model::attempt::{AttemptOutcome, AttemptReport};
use maestro_model::ids::TaskId;
use maestro_model::task::Reason;

use crate::attempt::BrokenPart;
use crate::standstill::Mover;
use crate::workspace::{Checkpoint, WorkspaceError, WorkspacePaths, WorkspacePlace};

/// What happens to a folder in which a task has failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailsafeMode {
    /// Nothing.
    #[default]
    Off,
    /// It goes back to where it was before the task.
    Workspace,
}

/// Who works in which folder, on this worker. Clones are the same list.
#[derive(Debug, Clone, Default)]
pub(crate) struct FolderUsers(Arc<Mutex<HashMap<PathBuf, FolderUse>>>);

#[derive(Debug, Default)]
struct FolderUse {
    tasks: usize,
    /// Whether several have worked in it since it was last left alone.
    is_shared: bool,
}

/// A task in a folder that is to go back if it fails.
#[derive(Debug)]
struct Safeguard {
    user: FolderUser,
    /// None if another task worked in the folder already.
    checkpoint: Option<Checkpoint>,
}

/// One task in a folder; dropped, it has left.
#[derive(Debug)]
struct FolderUser {
    users: FolderUsers,
    folder: PathBuf,
}

/// How a task ended, and what of the host failed it.
type TaskEnd = (AttemptReport, Option<BrokenPart>);

impl FolderUsers {
    /// Does the work of a task in its folder, and puts the folder back if it failed. Without a state to go back to the
    /// work does not begin.
    pub(crate) async fn guard(
        &self,
        mode: FailsafeMode,
        mover: &Mover,
        paths: &WorkspacePaths,
        task: &TaskId,
        work: impl Future<Output = TaskEnd>,
    ) -> TaskEnd {
        if mode != FailsafeMode::Off {
            // Nothing is copied during a pause.
            mover.move_when_allowed().await;
        }
        let guard = match Safeguard::begin(mode, self, paths, task).await {
            Ok(guard) => guard,
            Err(error) => {
                let report = AttemptReport::failed(Reason::Infra, None, error.to_string());
                return (report, Some(BrokenPart::Assigned));
            }
        };
        let (report, broken) = work.await;
        if let Some(guard) = guard {
            guard.end(&report).await;
        }
        (report, broken)
    }

    fn enter(&self, folder: &Path) -> FolderUser {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(folder.to_owned()).or_default();
        entry.tasks += 1;
        entry.is_shared |= entry.tasks > 1;
        FolderUser { users: self.clone(), folder: folder.to_owned() }
    }
}

impl FolderUser {
    fn is_alone(&self) -> bool {
        let known = self.users.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&self.folder).is_some_and(|entry| !entry.is_shared)
    }
}

impl Drop for FolderUser {
    fn drop(&mut self) {
        let mut known = self.users.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get_mut(&self.folder) {
            entry.tasks -= 1;
            if entry.tasks == 0 {
                known.remove(&self.folder);
            }
        }
    }
}

impl Safeguard {
    /// Before a task works in its folder; none where there is nothing to go back to.
    ///
    /// # Errors
    /// If the state of the folder cannot be kept: the task must not begin.
    async fn begin(
        mode: FailsafeMode,
        users: &FolderUsers,
        paths: &WorkspacePaths,
        task: &TaskId,
    ) -> Result<Option<Safeguard>, WorkspaceError> {
        if mode == FailsafeMode::Off || paths.place == WorkspacePlace::Task {
            return Ok(None);
        }
        let user = users.enter(&paths.folder);
        if !user.is_alone() {
            return Ok(Some(Safeguard { user, checkpoint: None }));
        }
        let (folder, task) = (paths.folder.clone(), task.clone());
        let taken = tokio::task::spawn_blocking(move || Checkpoint::take(&folder, &task)).await;
        let checkpoint = taken.unwrap_or_else(|error| {
            let (action, path, source) =
                ("keep a checkpoint of", paths.folder.clone(), std::io::Error::other(error));
            Err(WorkspaceError::Host { action, path, source })
        })?;
        Ok(Some(Safeguard { user, checkpoint: Some(checkpoint) }))
    }

    /// After the task: nothing of it runs any more.
    async fn end(self, report: &AttemptReport) {
        let has_failed = matches!(report.outcome, AttemptOutcome::Failed { .. });
        let (folder, is_alone) = (self.user.folder.clone(), self.user.is_alone());
        if has_failed && (!is_alone || self.checkpoint.is_none()) {
            tracing::warn!(folder = %folder.display(), "a failed task leaves its folder as it is: others work there");
        }
        let Some(checkpoint) = self.checkpoint else { return };
        let work = move || match has_failed && is_alone {
            true => checkpoint.roll_back().map(|()| true),
            false => checkpoint.discard().map(|()| false),
        };
        let folder = folder.display();
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(true)) => tracing::info!(%folder, "a task failed: its folder is as it was before"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                tracing::error!(%folder, "what a checkpoint has kept is still beside the folder: {error}")
            }
            Err(error) => tracing::error!(%folder, "going back to a checkpoint broke down: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use maestro_model::ids::Attempt;

    use super::*;
    use crate::workspace::WorkspaceRoot;

    fn task(index: u32) -> TaskId {
        TaskId { run: "0k3v9x2mqf1a".parse().expect("lawful"), index }
    }

    fn run_folder() -> (tempfile::TempDir, WorkspacePaths) {
        let above = tempfile::tempdir().expect("a folder");
        let root = WorkspaceRoot::open(&above.path().join("root")).expect("a root");
        let agent = "shell".parse().expect("lawful");
        let paths = root.paths(&agent, &task(1), Attempt(1), WorkspacePlace::Run);
        fs::create_dir_all(&paths.folder).expect("ours");
        fs::write(paths.folder.join("file"), "good").expect("ours");
        (above, paths)
    }

    async fn begin(users: &FolderUsers, paths: &WorkspacePaths, index: u32) -> Safeguard {
        let guard = Safeguard::begin(FailsafeMode::Workspace, users, paths, &task(index)).await;
        guard.expect("there is room").expect("it goes on from task to task")
    }

    fn failed() -> AttemptReport {
        AttemptReport::failed(Reason::Exit, Some(1), "x")
    }

    #[tokio::test]
    async fn a_failure_goes_back_and_nothing_else_does() {
        let outcomes = [
            (failed(), "good"),
            (AttemptReport::plain(AttemptOutcome::Completed), "changed"),
            (AttemptReport::plain(AttemptOutcome::Cancelled), "changed"),
            (AttemptReport::plain(AttemptOutcome::Returned), "changed"),
        ];
        for (report, expected) in outcomes {
            let (_above, paths) = run_folder();
            let guard = begin(&FolderUsers::default(), &paths, 1).await;
            fs::write(paths.folder.join("file"), "changed").expect("ours");
            guard.end(&report).await;
            assert_eq!(fs::read_to_string(paths.folder.join("file")).expect("there"), expected, "{report:?}");
            assert_eq!(fs::read_dir(paths.folder.parent().expect("below")).expect("there").count(), 1);
        }
    }

    #[tokio::test]
    async fn what_several_tasks_work_in_at_one_time_stays_as_it_is() {
        let (_above, paths) = run_folder();
        let users = FolderUsers::default();
        let (first, second) = (begin(&users, &paths, 1).await, begin(&users, &paths, 2).await);
        fs::write(paths.folder.join("file"), "of both").expect("ours");
        second.end(&AttemptReport::plain(AttemptOutcome::Completed)).await;
        first.end(&failed()).await;
        assert_eq!(fs::read_to_string(paths.folder.join("file")).expect("there"), "of both");
        // Left alone, the next one can go back again.
        let third = begin(&users, &paths, 3).await;
        fs::write(paths.folder.join("file"), "bad").expect("ours");
        third.end(&failed()).await;
        assert_eq!(fs::read_to_string(paths.folder.join("file")).expect("there"), "of both");
    }

    #[tokio::test]
    async fn a_fresh_folder_and_a_mode_that_is_off_need_nothing() {
        let (_above, paths) = run_folder();
        let users = FolderUsers::default();
        let off = Safeguard::begin(FailsafeMode::Off, &users, &paths, &task(1)).await;
        assert!(off.expect("nothing was done").is_none());
        let fresh = WorkspacePaths { place: WorkspacePlace::Task, ..paths };
        let none = Safeguard::begin(FailsafeMode::Workspace, &users, &fresh, &task(1)).await;
        assert!(none.expect("nothing was done").is_none());
    }
}
