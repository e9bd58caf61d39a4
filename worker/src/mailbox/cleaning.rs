//! Removing workspaces of attempts that nothing needs any more, before their retention time is over.
//!
//! Other workers of this host share the root, so the cluster is asked about each: what belongs to a run that
//! goes on stays, and what is another cluster's stays too.

use std::collections::HashMap;
use std::path::PathBuf;

use maestro_model::ids::RunId;
use maestro_model::mailbox::{UncleanTrees, WORKSPACES_TOLD_MAX, WorkerAnswer, WorkspaceFacts};
use maestro_store::{Store, StoreError};

use super::answering::{MailAnswer, MailDesk};
use super::listing::{facts_of, owner};
use crate::git_tree::unclean_tree;
use crate::janitor::{Janitor, JanitorSettings, Leftover, for_each_leftover, is_marked_by};

/// Workspaces looked at for one question; the asker asks again if there are more.
const LOOKED_AT_MAX: usize = WORKSPACES_TOLD_MAX;

/// Looks of the janitor for one question; each removes some hundreds of folders.
const OLD_LOOKS_MAX: usize = 1_000;

/// Whether a run's folders may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunNeed {
    GoesOn,
    Ended,
    /// It was collected, or is another cluster's.
    Unknown,
}

impl MailDesk {
    pub(super) async fn clean_workspaces(
        &self,
        of: &str,
        unclean: UncleanTrees,
        rehearsal: bool,
    ) -> MailAnswer {
        let store = self.store();
        let running = self.running_folders();
        let (found, more) = self.find_of(of).await;
        let mut needs = HashMap::new();
        let (mut removed, mut kept) = (Vec::new(), Vec::new());
        for leftover in found {
            let mut facts = facts_of(&leftover, &running);
            let why = match self.reason_to_stay(&store, &leftover, &facts, &mut needs).await? {
                Some(why) => Some(why),
                None if unclean == UncleanTrees::Keep => self.unclean_note(&leftover).await,
                None => None,
            };
            let why = match why {
                None if !rehearsal => self.remove(leftover).await,
                other => other,
            };
            if why.is_some() {
                facts.note = why;
                kept.push(facts);
            } else {
                removed.push(facts);
            }
        }
        Ok(WorkerAnswer::Cleaned { removed, kept, more })
    }

    /// What the janitor would remove by and by, at once.
    pub(super) async fn remove_old(&self) -> MailAnswer {
        let store = self.store();
        let settings = JanitorSettings { retention: self.settings.workspace_retention };
        let mut janitor = Janitor::new(settings, self.root.clone(), self.held.clone());
        let (mut removed, mut kept) = (0, 0);
        for _ in 0..OLD_LOOKS_MAX {
            let tick = janitor.tick(&store).await?;
            removed += tick.removed as u64;
            kept += tick.kept as u64;
            if tick.removed == 0 {
                break;
            }
        }
        Ok(WorkerAnswer::RemovedOld { removed, kept })
    }

    /// Attempts of a type or agent; whether there are more than are looked at.
    async fn find_of(&self, of: &str) -> (Vec<Leftover>, bool) {
        let (root, of) = (self.root.path().to_owned(), of.to_owned());
        let look = move || {
            let (mut found, mut more) = (Vec::new(), false);
            for_each_leftover(&root, &mut |leftover| {
                if leftover.attempt.is_none() || owner(&leftover.folder) != of {
                    return;
                }
                if found.len() < LOOKED_AT_MAX {
                    found.push(leftover);
                } else {
                    more = true;
                }
            });
            found.sort();
            (found, more)
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    async fn reason_to_stay(
        &self,
        store: &Store,
        leftover: &Leftover,
        facts: &WorkspaceFacts,
        needs: &mut HashMap<RunId, RunNeed>,
    ) -> Result<Option<String>, StoreError> {
        if facts.in_use {
            return Ok(Some("an agent works in it".to_owned()));
        }
        let run = &leftover.run;
        let need = match needs.get(run) {
            Some(known) => *known,
            None => {
                let need = need_of(store, run).await?;
                needs.insert(run.clone(), need);
                need
            }
        };
        Ok(match need {
            RunNeed::GoesOn => Some(format!("its run `{run}` goes on")),
            RunNeed::Unknown if !is_marked_by(leftover, store.cluster_id()) => {
                Some("it is not known to be this cluster's".to_owned())
            }
            RunNeed::Ended | RunNeed::Unknown => None,
        })
    }

    async fn unclean_note(&self, leftover: &Leftover) -> Option<String> {
        let tree = unclean_tree(&self.root, &leftover.folder).await?;
        Some(format!("its git tree is unclean: `{}`", tree.display()))
    }

    /// Moves both folders aside; the janitor removes what lies there. What went wrong, if anything did.
    async fn remove(&self, leftover: Leftover) -> Option<String> {
        let root = self.root.clone();
        let work = move || {
            let Leftover { folder, own, .. } = leftover;
            let folders: Vec<PathBuf> = [Some(folder), own].into_iter().flatten().collect();
            folders.iter().try_for_each(|folder| root.discard_path(folder))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

async fn need_of(store: &Store, run: &RunId) -> Result<RunNeed, StoreError> {
    Ok(match store.run(run).await? {
        None => RunNeed::Unknown,
        Some(record) if record.status.is_final() => RunNeed::Ended,
        Some(_) => RunNeed::GoesOn,
    })
}
