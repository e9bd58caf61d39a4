//! Folders of a snapshot: received beside their places, looked at, put into their places, dropped.

use std::path::Path;

use maestro_model::mailbox::{
    STAGED_TOLD_MAX, StagedFact, StagedFolder, StagedOrder, StagedWorkspace, WorkerAnswer,
};
use maestro_model::snapshot::WorkspaceRole;
use maestro_store::relay::RelayId;

use super::answering::{MailAnswer, MailDesk, off_the_loop};
use super::folder::judge_path;
use crate::placing::{Holder, StagingOrder, StagingState, drop_staged, place_staged, receive_staged};
use crate::tree::UnpackLimits;
use crate::workspace::WorkspaceRoot;

impl MailDesk {
    /// Listens before it answers: what is sent to nobody is gone.
    pub(super) async fn stage_workspace(
        &self,
        restore: &str,
        workspace: StagedWorkspace,
        transfer: &str,
    ) -> MailAnswer {
        let holder = match holder_of(&self.root, restore, &workspace.folder) {
            Ok(holder) => holder,
            Err(message) => return Ok(WorkerAnswer::Refused { message, hint: None }),
        };
        let Some(transfer) = RelayId::from_text(transfer) else { return Ok(WorkerAnswer::NotUnderstood) };
        let receiver = self.store().relay_receiver(&transfer).await?;
        let order = StagingOrder {
            key: workspace.folder.key,
            limits: UnpackLimits { bytes: workspace.bytes, entries: workspace.entries },
            tree: workspace.tree,
        };
        receive_staged(receiver, holder, order);
        Ok(WorkerAnswer::Receiving)
    }

    pub(super) async fn staged(
        &self,
        restore: String,
        order: StagedOrder,
        folders: Vec<StagedFolder>,
    ) -> WorkerAnswer {
        if folders.len() > STAGED_TOLD_MAX {
            return WorkerAnswer::NotUnderstood;
        }
        let root = self.root.clone();
        off_the_loop(move || {
            let fact = |folder: &StagedFolder| match holder_of(&root, &restore, folder) {
                Ok(holder) => carry_out(&holder, order),
                Err(why) => StagedFact::Failed { why },
            };
            WorkerAnswer::StagedFacts { facts: folders.iter().map(fact).collect() }
        })
        .await
    }
}

fn carry_out(holder: &Holder, order: StagedOrder) -> StagedFact {
    let done = match order {
        StagedOrder::Look => Ok(()),
        StagedOrder::Place => place_staged(holder),
        StagedOrder::Drop => drop_staged(holder),
    };
    match (done, holder.state()) {
        (Err(why), _) | (Ok(()), StagingState::Failed(why)) => StagedFact::Failed { why },
        (Ok(()), StagingState::Absent) => StagedFact::Absent,
        (Ok(()), StagingState::Receiving) => StagedFact::Receiving,
        (Ok(()), StagingState::Staged) => StagedFact::Staged,
        (Ok(()), StagingState::Placed) => StagedFact::Placed,
    }
}

/// The folder beside a place; an assigned one must be where agents may work.
fn holder_of(root: &WorkspaceRoot, restore: &str, folder: &StagedFolder) -> Result<Holder, String> {
    if let WorkspaceRole::Assigned { path } = &folder.role {
        let names = [folder.key.owner().to_owned()];
        judge_path(root.path(), Path::new(path), &names).map_err(|refusal| refusal.message)?;
    }
    Holder::of(root, restore, &folder.key, &folder.role)
        .ok_or_else(|| format!("workspace `{}` cannot have a place here", folder.key))
}
