//! Which answer belongs to which question.

use std::sync::Arc;
use std::time::Duration;

use maestro_model::ids::WorkerName;
use maestro_model::mailbox::{WorkerAnswer, WorkerQuestion};
use maestro_store::relay::RelayId;
use maestro_store::{Store, StoreError};
use tokio::sync::{mpsc, watch};

use crate::beats::SharedStatus;
use crate::events::{DrainOrder, WorkerEvent};
use crate::held::HeldAttempts;
use crate::packing::{PackChoice, send_workspaces};
use crate::running::LiveAttempts;
use crate::settings::WorkerSettings;
use crate::standstill::Standstill;
use crate::step_copy::{place_of, send_folder};
use crate::workspace::{WorkspacePaths, WorkspaceRoot};

/// All that answers are made of. What it does changes folders only, and what the main loop is told.
pub struct MailDesk {
    /// How the worker is set up.
    pub settings: Arc<WorkerSettings>,
    /// Its name.
    pub name: WorkerName,
    /// Where its workspaces lie.
    pub root: WorkspaceRoot,
    /// What runs.
    pub live: LiveAttempts,
    /// What is held, before it runs as well.
    pub held: HeldAttempts,
    /// Whether all of that is to stand still.
    pub standstill: Standstill,
    /// What it last said of itself.
    pub status: SharedStatus,
    /// The present store.
    pub store: watch::Receiver<Store>,
    /// The main loop.
    pub events: mpsc::UnboundedSender<WorkerEvent>,
}

impl MailDesk {
    /// The answer to a question; takes as long as the work it asks for.
    pub async fn answer(&self, question: WorkerQuestion) -> WorkerAnswer {
        let changes_folders = matches!(
            question,
            WorkerQuestion::ResetFolder { .. }
                | WorkerQuestion::CleanWorkspaces { .. }
                | WorkerQuestion::RemoveOldWorkspaces
        );
        if changes_folders && self.standstill.is_paused() {
            let message = "the worker's folders are being read for a snapshot".to_owned();
            return WorkerAnswer::Refused { message, hint: Some("try again in a moment".to_owned()) };
        }
        let answer = match question {
            WorkerQuestion::CheckTypes { types, launch } => self.check_types(&types, launch).await,
            WorkerQuestion::PreparePath { agent, path, names } => {
                return self.prepare_path(agent, path, names).await;
            }
            WorkerQuestion::AgentHealth { agent, path, log_lines } => {
                return self.agent_health(agent, path, log_lines).await;
            }
            WorkerQuestion::ResetFolder { agent, path, template, copy, unclean, rehearsal } => {
                let order = super::reset::ResetOrder { agent, path, template, copy, unclean, rehearsal };
                return self.reset_folder(order).await;
            }
            WorkerQuestion::Workspaces { of, sizes } => self.workspaces(of, sizes).await,
            WorkerQuestion::CleanWorkspaces { of, unclean, rehearsal } => {
                self.clean_workspaces(&of, unclean, rehearsal).await
            }
            WorkerQuestion::SendFolder { task, attempt, agent, folder, transfer } => {
                let place = place_of(&folder);
                return self.send_folder(self.root.paths(&agent, &task, attempt, place), &transfer);
            }
            WorkerQuestion::PackWorkspaces { transfer, peers, include_logs } => {
                self.pack_workspaces(&transfer, peers, include_logs).await
            }
            WorkerQuestion::StageWorkspace { restore, workspace, transfer } => {
                self.stage_workspace(&restore, workspace, &transfer).await
            }
            WorkerQuestion::Staged { restore, order, folders } => {
                return self.staged(restore, order, folders).await;
            }
            WorkerQuestion::EndAgents { grace_ms } => return self.end_agents(grace_ms),
            WorkerQuestion::RemoveOldWorkspaces => self.remove_old().await,
            WorkerQuestion::Drain { deadline_ms, force } => return self.drain(deadline_ms, force),
        };
        answer.unwrap_or_else(|error| WorkerAnswer::Failed {
            message: format!("the worker cannot ask redis: {}", crate::causes::with_sources(&error)),
        })
    }

    /// The store, as it is now.
    pub(super) fn store(&self) -> Store {
        self.store.borrow().clone()
    }

    fn send_folder(&self, paths: WorkspacePaths, transfer: &str) -> WorkerAnswer {
        let is_here = std::fs::symlink_metadata(&paths.folder).is_ok_and(|found| found.is_dir());
        match RelayId::from_text(transfer) {
            Some(transfer) if is_here => {
                send_folder(self.store(), paths.folder, transfer);
                WorkerAnswer::Sending
            }
            Some(_) => WorkerAnswer::NoSuchFolder,
            None => WorkerAnswer::NotUnderstood,
        }
    }

    /// Whether what is sent belongs together is told with its end: agents may go on meanwhile.
    async fn pack_workspaces(
        &self,
        transfer: &str,
        peers: Vec<WorkerName>,
        include_logs: bool,
    ) -> MailAnswer {
        let Some(transfer) = RelayId::from_text(transfer) else { return Ok(WorkerAnswer::NotUnderstood) };
        let Some(still) = self.standstill.still_period() else { return Ok(WorkerAnswer::NotStill) };
        let choice = PackChoice {
            root: self.root.clone(),
            name: self.name.clone(),
            peers,
            assigned: self.assigned_here().await?,
            cluster: self.store().cluster_id().to_owned(),
            include_logs,
        };
        send_workspaces(self.store(), choice, still, transfer);
        Ok(WorkerAnswer::Sending)
    }

    fn end_agents(&self, grace_ms: u64) -> WorkerAnswer {
        let agents = self.live.lock().expect("no holder panics").len() as u64;
        // A worker that ends listens no more, and ends its agents itself.
        let _ = self.events.send(WorkerEvent::EndAgents(Duration::from_millis(grace_ms)));
        WorkerAnswer::Ending { agents }
    }

    fn drain(&self, deadline_ms: Option<u64>, force: bool) -> WorkerAnswer {
        let already = self.status.lock().expect("no holder panics").draining;
        let deadline = deadline_ms.map(Duration::from_millis);
        // A worker that ends listens no more, and its end is what was asked for.
        let _ = self.events.send(WorkerEvent::Drain(DrainOrder { deadline, force }));
        WorkerAnswer::Draining { already }
    }
}

/// What an answer may need the store for.
pub(super) type MailAnswer = Result<WorkerAnswer, StoreError>;

/// Runs work that waits for the disk, where that harms nobody.
pub(super) async fn off_the_loop(work: impl FnOnce() -> WorkerAnswer + Send + 'static) -> WorkerAnswer {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!("a question broke down: {error}");
        WorkerAnswer::Failed { message: "the worker broke down over the question".to_owned() }
    })
}
