//! Whether a workspace holds a git tree with changes that were never committed.
//!
//! The agent has written everything here, the tree's own configuration included, and that may name
//! programs for git to start. So git is never run on the tree as it is: it gets an empty configuration of
//! our own, the tree's index and its objects. Where this comes to no clear answer the tree counts as unclean.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::attempt::HostEnvironment;
use crate::workspace::{LOG_EXCLUDED, WorkspaceRoot, make_folder, read_own_file};

/// How deep below the workspace trees are looked for; an agent clones into its folder, or into one in it.
const DEPTH_MAX: usize = 3;
/// Folders looked at.
const FOLDERS_MAX: usize = 5_000;
/// Longest time git may take for one tree.
const GIT_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest index that is read.
const INDEX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest HEAD, reference and list of packed references that are read.
const REFERENCE_BYTES_MAX: usize = 1024 * 1024;

/// The first unclean tree in a folder, if there is one.
pub async fn unclean_tree(root: &WorkspaceRoot, folder: &Path) -> Option<PathBuf> {
    let look = folder.to_owned();
    let trees = tokio::task::spawn_blocking(move || find_trees(&look)).await.unwrap_or_default();
    for tree in trees {
        let is_clean = is_clean(root, &tree).await.unwrap_or(false);
        if !is_clean {
            return Some(tree);
        }
    }
    None
}

/// Folders that have a `.git`, nearest first. What lies within such a folder is not looked at.
fn find_trees(folder: &Path) -> Vec<PathBuf> {
    let mut trees = Vec::new();
    let mut waiting = VecDeque::from([(folder.to_owned(), 0)]);
    let mut looked = 0;
    while let Some((folder, depth)) = waiting.pop_front() {
        looked += 1;
        if fs::symlink_metadata(folder.join(".git")).is_ok() {
            trees.push(folder);
            continue;
        }
        if depth >= DEPTH_MAX || looked >= FOLDERS_MAX {
            continue;
        }
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        waiting.extend(below.map(|entry| (entry.path(), depth + 1)));
    }
    trees
}

async fn is_clean(root: &WorkspaceRoot, tree: &Path) -> io::Result<bool> {
    let stand_in = root.path().join(format!(".git-{:016x}", rand::random::<u64>()));
    let (git, place) = (tree.join(".git"), stand_in.clone());
    let prepared =
        tokio::task::spawn_blocking(move || prepare(&git, &place)).await.map_err(io::Error::other)?;
    let answer = match prepared {
        Ok(true) => ask_git(&stand_in, tree).await,
        Ok(false) => Ok(false),
        Err(error) => Err(error),
    };
    // It lies in the trash until the janitor empties it.
    let _ = root.discard_path(&stand_in);
    answer
}

/// Makes a repository of our own that stands for another; false if that one is not understood.
fn prepare(git: &Path, stand_in: &Path) -> io::Result<bool> {
    let Some(head) = resolve_head(git)? else { return Ok(false) };
    let Some(index) = read(&git.join("index"), INDEX_BYTES_MAX)? else { return Ok(false) };
    for folder in
        [stand_in.to_owned(), stand_in.join("refs"), stand_in.join("objects"), stand_in.join("objects/info")]
    {
        make_folder(&folder).map_err(io::Error::other)?;
    }
    fs::write(stand_in.join("HEAD"), head + "\n")?;
    if git.parent().is_some_and(has_log_link) {
        let info = stand_in.join("info");
        make_folder(&info).map_err(io::Error::other)?;
        fs::write(info.join("exclude"), LOG_EXCLUDED)?;
    }
    fs::write(stand_in.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = false\n")?;
    fs::write(stand_in.join("index"), index)?;
    // Git looks into a file whose time is not before that of the index; the copy must not look younger.
    let written = fs::symlink_metadata(git.join("index"))?.modified()?;
    fs::File::options().write(true).open(stand_in.join("index"))?.set_modified(written)?;
    let objects = git.join("objects");
    // A path with a line break would be two.
    let Some(objects) = objects.to_str().filter(|path| !path.contains('\n')) else { return Ok(false) };
    fs::write(stand_in.join("objects/info/alternates"), format!("{objects}\n"))?;
    Ok(true)
}

/// The commit that HEAD names; none if there is none yet, or it cannot be found.
fn resolve_head(git: &Path) -> io::Result<Option<String>> {
    let Some(head) = read_text(&git.join("HEAD"))? else { return Ok(None) };
    let head = head.trim();
    let Some(name) = head.strip_prefix("ref: ") else { return Ok(commit(head)) };
    if !name.starts_with("refs/") || name.split('/').any(|part| part.is_empty() || part == "..") {
        return Ok(None);
    }
    if let Some(loose) = read_text(&git.join(name))? {
        return Ok(commit(loose.trim()));
    }
    let packed = read_text(&git.join("packed-refs"))?.unwrap_or_default();
    let line = packed.lines().find_map(|line| line.split_once(' ').filter(|(_, packed)| *packed == name));
    Ok(line.and_then(|(id, _)| commit(id)))
}

/// An id of git's first hash; trees of another one are not understood here.
fn commit(text: &str) -> Option<String> {
    (text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_owned())
}

fn read_text(path: &Path) -> io::Result<Option<String>> {
    Ok(read(path, REFERENCE_BYTES_MAX)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn read(path: &Path, max: usize) -> io::Result<Option<Vec<u8>>> {
    read_own_file(path, max).map_err(io::Error::other)
}

/// Whether a tree is a workspace itself, with the link that was made in it.
fn has_log_link(tree: &Path) -> bool {
    fs::read_link(tree.join("agent.log"))
        .is_ok_and(|target| target.starts_with("..") && target.ends_with("agent.log"))
}

async fn ask_git(stand_in: &Path, tree: &Path) -> io::Result<bool> {
    let host = HostEnvironment::of_this_process();
    let option = |name: &str, path: &Path| {
        let mut word = std::ffi::OsString::from(name);
        word.push(path);
        word
    };
    let mut git = tokio::process::Command::new("git");
    git.arg(option("--git-dir=", stand_in)).arg(option("--work-tree=", tree));
    git.args(["status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=all"]);
    git.env_clear().env("PATH", host.path()).env("HOME", stand_in).env("LC_ALL", "C");
    git.env("GIT_CONFIG_NOSYSTEM", OsStr::new("1")).env("GIT_CONFIG_GLOBAL", "/dev/null");
    git.current_dir(tree).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(GIT_TIMEOUT, git.output()).await.map_err(io::Error::other)??;
    Ok(output.status.success() && output.stdout.is_empty())
}
