//! A workspace that is a git repository holds one thing that is not the agent's: the link to the log.
//!
//! Git is told to look past it, so that the tree is clean until the agent changes something, and stays clean once
//! the agent has committed all there is. Whether a tree is clean is asked in `git_tree`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// What a workspace's own tree holds of ours, as git's list of what to leave out has it: the link to the log.
pub(crate) const LOG_EXCLUDED: &str = "\n/agent.log\n";

/// Tells the repository that a fresh workspace is made of to leave the link to the log alone: an agent that adds
/// all there is would commit it. A folder that is no repository is left as it is.
///
/// # Errors
/// If the list cannot be written.
pub(super) fn leave_log_out(workspace: &Path) -> io::Result<()> {
    let git = workspace.join(".git");
    let info = git.join("info");
    let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    if !is_folder(&git) {
        return Ok(());
    }
    if !is_folder(&info) {
        fs::create_dir(&info)?;
    }
    let no_link = OFlags::NOFOLLOW.bits() as i32;
    let mut list = fs::File::options();
    let mut list = list.append(true).create(true).custom_flags(no_link).open(info.join("exclude"))?;
    list.write_all(LOG_EXCLUDED.as_bytes())
}
