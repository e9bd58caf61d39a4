//! Which folder a step left, by what the store knows of it.

use maestro_model::agent_type::NOOP;
use maestro_model::ids::{AgentSlug, Attempt, Incarnation, StepId, TaskId};
use maestro_model::mailbox::LeftFolder;
use maestro_model::plan::WorkspaceChoice;
use maestro_store::Store;

use super::bring::CopyError;
use crate::workspace::{AssignedFolder, WorkspacePlace};

/// The task whose folder is to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTask {
    /// Its step, for messages.
    pub step: StepId,
    /// The task.
    pub task: TaskId,
}

/// A folder that an attempt left.
#[derive(Debug, Clone)]
pub(super) struct LeftBehind {
    pub(super) task: TaskId,
    pub(super) attempt: Attempt,
    pub(super) agent: AgentSlug,
    pub(super) folder: LeftFolder,
    /// The process that ran the attempt.
    pub(super) owner: Option<Incarnation>,
}

impl LeftBehind {
    /// The place in words of the workspace.
    pub(super) fn place(&self) -> WorkspacePlace {
        place_of(&self.folder)
    }
}

/// The place in words of the workspace.
pub(crate) fn place_of(folder: &LeftFolder) -> WorkspacePlace {
    match folder {
        LeftFolder::Task => WorkspacePlace::Task,
        LeftFolder::Run => WorkspacePlace::Run,
        LeftFolder::Assigned { agent, path } => {
            WorkspacePlace::Assigned(AssignedFolder { agent: agent.clone(), folder: path.into() })
        }
    }
}

/// Looks a task up. One that was taken over from another run has left its folder there.
pub(super) async fn find_source(store: &Store, source: &SourceTask) -> Result<LeftBehind, CopyError> {
    let nothing = |why: &str| CopyError::Nothing { step: source.step.clone(), why: why.to_owned() };
    let view = store.task(&source.task).await?;
    let task = view.own.origin.clone().unwrap_or_else(|| source.task.clone());
    let record = view.record.filter(|record| record.attempt.0 > 0);
    let record = record.ok_or_else(|| nothing("it never started"))?;
    let parts = store.run_parts(&source.task.run, &[record.shared], &[]).await?;
    let shared = parts.shared.get(&record.shared).ok_or_else(|| nothing("its run is incomplete"))?;
    if shared.agent.as_str() == NOOP {
        return Err(nothing("`noop` works in no folder"));
    }
    let folder = match (&shared.assigned, &shared.workspace) {
        (Some(agent), _) => {
            let assignment = store.assignment(agent).await?;
            let assignment = assignment.ok_or_else(|| nothing("its agent is not assigned any more"))?;
            LeftFolder::Assigned { agent: agent.clone(), path: assignment.path }
        }
        (None, WorkspaceChoice::Run) => LeftFolder::Run,
        (None, _) => LeftFolder::Task,
    };
    Ok(LeftBehind { task, attempt: record.attempt, agent: shared.agent.clone(), folder, owner: record.owner })
}
