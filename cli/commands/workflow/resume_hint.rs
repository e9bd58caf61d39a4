//! From which step a run can be resumed whose folder was lost with a worker.

use std::collections::{BTreeSet, HashMap};

use maestro_model::plan::WorkspaceChoice;
use maestro_model::task::Reason;
use maestro_store::Store;
use maestro_store::runs::{RunRecord, TaskView};

use crate::cluster::store_failure;
use crate::failure::Failure;

/// The command that resumes it; none if nothing was lost, or nothing tells which step left what was.
pub(super) async fn resume_hint(store: &Store, record: &RunRecord) -> Result<Option<String>, Failure> {
    if record.reason != "lost" {
        return Ok(None);
    }
    let step = first_lost_step(store, record).await?;
    Ok(step.map(|step| {
        format!(
            "a folder that its steps go on from was lost with a worker; `maestro workflow run {} --resume-from {step} --run {}` \
             makes it again",
            record.workflow, record.id
        )
    }))
}

/// The step that left the folder: the first in the run's own folder, or the source of the copy that failed.
async fn first_lost_step(store: &Store, record: &RunRecord) -> Result<Option<String>, Failure> {
    let run = &record.id;
    let tasks = store.tasks(run, 0..record.tasks).await.map_err(store_failure)?;
    let numbers: Vec<u32> =
        tasks.iter().map(|task| task.shared).collect::<BTreeSet<u32>>().into_iter().collect();
    let parts = store.run_parts(run, &numbers, &[]).await.map_err(store_failure)?;
    let choice = |task: &TaskView| parts.shared.get(&task.shared).map(|shared| &shared.workspace);
    let has_lost =
        |task: &&TaskView| task.record.as_ref().is_some_and(|record| record.reason == Some(Reason::Lost));
    if let Some(WorkspaceChoice::Step(source)) = tasks.iter().find(has_lost).and_then(choice) {
        return Ok(Some(source.to_string()));
    }
    let bound = tasks.iter().filter(|task| task.kind != 'i' && choice(task) == Some(&WorkspaceChoice::Run));
    let bound: Vec<&TaskView> = bound.collect();
    let mut followers: HashMap<u32, Vec<u32>> = HashMap::new();
    for edge in store.edges(run).await.map_err(store_failure)? {
        followers.entry(edge.from).or_default().push(edge.to);
    }
    let mut behind = BTreeSet::new();
    let mut waiting: Vec<u32> = bound.iter().map(|task| task.id.index).collect();
    while let Some(index) = waiting.pop() {
        for next in followers.get(&index).into_iter().flatten() {
            if behind.insert(*next) {
                waiting.push(*next);
            }
        }
    }
    Ok(bound.iter().find(|task| !behind.contains(&task.id.index)).map(|task| task.own.step.clone()))
}
