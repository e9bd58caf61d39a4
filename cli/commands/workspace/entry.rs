//! A workspace as users see it, and asking all workers for theirs.

use std::collections::BTreeSet;

use maestro_model::mailbox::{WorkerAnswer, WorkerQuestion, WorkspaceFacts, WorkspaceKind};
use maestro_store::Store;
use maestro_store::worker::AttachedProcess;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::commands::CommandContext;
use crate::failure::Failure;
use crate::letters::{ANSWER_WITHIN, WORK_WITHIN, ask_worker, live_workers, misunderstood, no_worker};
use crate::output::moment::{age, as_rfc3339, now_ms};
use crate::output::shape::{Column, Field, Shape};

/// One workspace.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WorkspaceEntry {
    /// The type, the agent, or the run whose it is.
    pub(crate) agent: String,
    pub(crate) kind: WorkspaceKind,
    pub(crate) path: String,
    /// The task's attempt that it was made for.
    pub(crate) attempt: Option<String>,
    pub(crate) worker: String,
    pub(crate) host: String,
    pub(crate) in_use: bool,
    #[serde(rename = "changed_at", serialize_with = "as_rfc3339")]
    pub(crate) changed_ms: u64,
    pub(crate) bytes: Option<u64>,
    pub(crate) files: Option<u64>,
    /// Why it is as it is.
    pub(crate) note: Option<String>,
}

impl WorkspaceEntry {
    /// What a worker says of one.
    pub(crate) fn of(facts: WorkspaceFacts, worker: &AttachedProcess) -> WorkspaceEntry {
        WorkspaceEntry {
            agent: facts.of,
            kind: facts.kind,
            path: facts.path,
            attempt: facts.attempt,
            worker: worker.name.clone(),
            host: worker.about.host.clone(),
            in_use: facts.in_use,
            changed_ms: facts.changed_ms,
            bytes: facts.bytes,
            files: facts.files,
            note: facts.note,
        }
    }
}

/// Whose it is.
pub(super) const AGENT: Column<WorkspaceEntry> = Column::new("AGENT", |one| one.agent.clone().into());
/// What kind of folder it is.
pub(super) const KIND: Column<WorkspaceEntry> = Column::new("KIND", |one| match one.kind {
    WorkspaceKind::Task => "task".into(),
    WorkspaceKind::Run => "run".into(),
    WorkspaceKind::Assigned => "assigned".into(),
});
/// Where it is.
pub(super) const PATH: Column<WorkspaceEntry> = Column::new("PATH", |one| one.path.clone().into());
/// Who has it.
pub(super) const WORKER: Column<WorkspaceEntry> = Column::new("WORKER", |one| one.worker.clone().into());
/// When something was last written to it.
pub(super) const CHANGED: Column<WorkspaceEntry> = Column::new("CHANGED", |one| {
    Field::or_none((one.changed_ms > 0).then(|| format!("{} ago", age(one.changed_ms, now_ms()))))
});

/// Many workspaces.
pub(super) const WORKSPACE_ROWS: Shape<WorkspaceEntry> = Shape {
    columns: &[
        AGENT,
        KIND,
        Column::new("USE", |one| if one.in_use { "in use".into() } else { Field::none() }),
        CHANGED,
        WORKER,
        PATH,
    ],
    name: |one| one.path.clone(),
    none: "no workspaces",
};

/// Workspaces of all live workers, by agent and path. Workers of one host may have the same ones: each is
/// told once.
///
/// # Errors
/// 75 if no worker is alive.
pub(super) async fn all_workspaces(
    store: &Store,
    of: Option<&str>,
    sizes: bool,
    context: &CommandContext,
) -> Result<Vec<WorkspaceEntry>, Failure> {
    let workers = live_workers(store).await?;
    if workers.is_empty() {
        return Err(no_worker());
    }
    let mut asking = JoinSet::new();
    for worker in workers {
        let (store, of) = (store.clone(), of.map(str::to_owned));
        asking.spawn(async move {
            let question = WorkerQuestion::Workspaces { of, sizes };
            let longest = if sizes { WORK_WITHIN } else { ANSWER_WITHIN };
            let answer = ask_worker(&store, &worker, &question, longest).await;
            (worker, answer)
        });
    }
    let (mut entries, mut seen) = (Vec::new(), BTreeSet::new());
    let mut answers = asking.join_all().await;
    answers.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    for (worker, answer) in answers {
        let list = match answer {
            Ok(WorkerAnswer::Workspaces { list, more }) => {
                if more {
                    context.printer.warn(&format!(
                        "worker `{}` has more than {} workspaces",
                        worker.name,
                        list.len()
                    ));
                }
                list
            }
            Ok(_) => return Err(misunderstood(&worker)),
            Err(failure) => {
                context.printer.warn(&format!("left out: {}", failure.one_line()));
                continue;
            }
        };
        for facts in list {
            let is_new = seen.insert((worker.about.host.clone(), facts.path.clone(), facts.of.clone()));
            if is_new {
                entries.push(WorkspaceEntry::of(facts, &worker));
            } else if facts.in_use {
                // Only the worker that runs something in it knows.
                let known =
                    entries.iter_mut().find(|one| one.path == facts.path && one.host == worker.about.host);
                if let Some(known) = known {
                    known.in_use = true;
                    known.worker.clone_from(&worker.name);
                }
            }
        }
    }
    entries.sort_by(|a, b| (&a.agent, &a.host, &a.path).cmp(&(&b.agent, &b.host, &b.path)));
    Ok(entries)
}
