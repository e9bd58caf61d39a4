//! Emptying the folder of an assigned agent, after a copy, and setting it up from its template again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use maestro_model::ids::AgentId;
use maestro_model::mailbox::{SafetyCopy, UncleanTrees, WorkerAnswer};
use maestro_model::template::is_plain_text;

use super::answering::{MailDesk, off_the_loop};
use super::archive::archive_folder;
use super::folder::judge_path;
use crate::git_tree::unclean_tree;
use crate::launch_order::find_template;

/// Entries of a folder that are looked at one by one for unclean trees.
const ENTRIES_MAX: usize = 100_000;

/// What is to be done with a folder.
#[derive(Debug, Clone)]
pub(super) struct ResetOrder {
    pub(super) agent: AgentId,
    pub(super) path: String,
    pub(super) template: Option<String>,
    pub(super) copy: SafetyCopy,
    pub(super) unclean: UncleanTrees,
    pub(super) rehearsal: bool,
}

impl MailDesk {
    pub(super) async fn reset_folder(&self, order: ResetOrder) -> WorkerAnswer {
        let folder = PathBuf::from(&order.path);
        if let Some(answer) = self.reset_obstacle(&order, &folder) {
            return answer;
        }
        let template = match self.template_of(&order) {
            Ok(template) => template,
            Err(message) => return WorkerAnswer::Failed { message },
        };
        let (going, kept) = match self.choose(&folder, order.unclean).await {
            Ok(chosen) => chosen,
            Err(error) => return failed(&folder, "read", &error),
        };
        let snapshots = self.settings.snapshot_folder.clone();
        off_the_loop(move || {
            let kept: Vec<String> = kept.iter().map(|path| path.display().to_string()).collect();
            let removed = going.len() as u64;
            if order.rehearsal {
                return WorkerAnswer::Emptied {
                    removed,
                    kept,
                    copy: None,
                    from_template: template.is_some(),
                };
            }
            let wants_copy = order.copy == SafetyCopy::Archive && !going.is_empty();
            let copy =
                match wants_copy.then(|| archive_folder(&folder, &snapshots, &archive_name(&order.agent))) {
                    Some(Ok(copy)) => Some(copy.display().to_string()),
                    Some(Err(error)) => {
                        let message = format!(
                            "nothing was removed: the safety copy failed: {}",
                            crate::causes::with_sources(&error)
                        );
                        return WorkerAnswer::Failed { message };
                    }
                    None => None,
                };
            if let Err(error) = going.iter().try_for_each(|path| remove(path)) {
                return failed(&folder, "empty", &error);
            }
            let mut from_template = false;
            // Into what was kept nothing is mixed.
            if let Some(template) = template.filter(|_| kept.is_empty()) {
                if let Err(error) = crate::workspace::copy_template(&template, &folder) {
                    return WorkerAnswer::Failed { message: error.to_string() };
                }
                from_template = true;
            }
            tracing::info!(agent = %order.agent, removed, folder = %folder.display(), "emptied");
            WorkerAnswer::Emptied { removed, kept, copy, from_template }
        })
        .await
    }

    /// Whether the folder may be touched at all.
    fn reset_obstacle(&self, order: &ResetOrder, folder: &Path) -> Option<WorkerAnswer> {
        if let Some(((task, _), _)) = self.running_of(&order.agent) {
            return Some(WorkerAnswer::Refused {
                message: format!("agent `{}` works on task `{task}` in it", order.agent),
                hint: Some(format!("stop it first: `maestro agent stop {}`", order.agent)),
            });
        }
        match judge_path(self.root.path(), folder, &[]) {
            Ok(_) if folder.is_dir() => None,
            Ok(_) => Some(WorkerAnswer::Failed { message: format!("workspace missing: `{}`", order.path) }),
            Err(refusal) => {
                Some(WorkerAnswer::Refused { message: refusal.message, hint: Some(refusal.hint) })
            }
        }
    }

    /// The template's folder. One that only a task can name is left to the next task.
    fn template_of(&self, order: &ResetOrder) -> Result<Option<PathBuf>, String> {
        let Some(text) = order.template.as_deref().filter(|text| is_plain_text(text)) else {
            return Ok(None);
        };
        let found = find_template(&self.settings, Path::new(text));
        found.map(Some).ok_or_else(|| format!("nothing was removed: template not found: no folder `{text}`"))
    }

    /// Entries that go, and unclean trees that stay with the entry they are in.
    async fn choose(&self, folder: &Path, unclean: UncleanTrees) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        let look = folder.to_owned();
        let entries = tokio::task::spawn_blocking(move || -> io::Result<Vec<PathBuf>> {
            fs::read_dir(&look)?.map(|entry| entry.map(|entry| entry.path())).collect()
        });
        let mut entries = entries.await.map_err(io::Error::other)??;
        entries.sort();
        if unclean == UncleanTrees::Remove || entries.is_empty() {
            return Ok((entries, Vec::new()));
        }
        // The folder itself may be a tree: then all of it stays or goes.
        let is_tree = fs::symlink_metadata(folder.join(".git")).is_ok();
        if is_tree || entries.len() > ENTRIES_MAX {
            return Ok(match unclean_tree(&self.root, folder).await {
                Some(tree) => (Vec::new(), vec![tree]),
                None => (entries, Vec::new()),
            });
        }
        let (mut going, mut kept) = (Vec::new(), Vec::new());
        for entry in entries {
            let is_folder = fs::symlink_metadata(&entry).is_ok_and(|found| found.is_dir());
            let tree = if is_folder { unclean_tree(&self.root, &entry).await } else { None };
            match tree {
                Some(tree) => kept.push(tree),
                None => going.push(entry),
            }
        }
        Ok((going, kept))
    }
}

/// `pre-reset-smith-20260102T030405Z`, and with thousandths, so that two in a second are two.
fn archive_name(agent: &AgentId) -> String {
    let now = Timestamp::now();
    format!("pre-reset-{agent}-{}{:03}Z", now.strftime("%Y%m%dT%H%M%S"), now.subsec_millisecond())
}

fn remove(path: &Path) -> io::Result<()> {
    let is_folder = fs::symlink_metadata(path)?.is_dir();
    if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn failed(folder: &Path, what: &str, error: &io::Error) -> WorkerAnswer {
    WorkerAnswer::Failed { message: format!("cannot {what} `{}`: {error}", folder.display()) }
}
