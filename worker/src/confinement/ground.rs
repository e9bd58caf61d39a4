//! Finding the paths that a type names, without being led astray by an agent.
//!
//! Links that the host's people made are followed. On ground where an agent may write (the workspaces, whatever a
//! `paths.write` names) a link is an agent's word about the host, and a later agent would be shown what it points
//! to: there none is followed. What is found is a path without links, so that whoever opens it later can refuse any.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, RawMode, Stat};

/// Most links on the way to a place, as the kernel has it.
const LINKS_MAX: usize = 40;
/// Deepest place.
const DEPTH_MAX: usize = 128;

/// A folder of this host, whatever its path.
type FolderId = (u64, u64);

/// Folders in which agents may write, and so all below them.
#[derive(Debug, Clone, Default)]
pub(super) struct Ground {
    folders: HashSet<FolderId>,
}

/// A place of the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its path without links.
    pub(super) real: PathBuf,
    /// Whether an agent may have put there what is there.
    pub(super) is_agents: bool,
}

/// Why a path leads to no place.
#[derive(Debug, thiserror::Error)]
pub(super) enum Astray {
    /// A link, or a step back, where an agent may have made it.
    #[error("`{}` is a link in a folder that agents may write to", .0.display())]
    AgentsLink(PathBuf),
    /// What the host says.
    #[error("{0}")]
    Host(#[from] io::Error),
}

impl Ground {
    /// Agents may write in this folder. One that does not exist is passed over.
    pub(super) fn add(&mut self, folder: &Path) {
        if let Ok(found) = rustix::fs::stat(folder) {
            self.folders.insert(id(&found));
        }
    }

    /// Goes the way of an absolute path, step by step.
    ///
    /// # Errors
    /// [`Astray`] says where it ends.
    pub(super) fn find(&self, path: &Path) -> Result<Place, Astray> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = rustix::fs::openat(CWD, c"/", flags, Mode::empty()).map_err(io::Error::from)?;
        let mut way = Way { steps: vec![(top, false)], real: PathBuf::from("/") };
        let (mut ahead, mut links) = (Vec::new(), 0);
        put_ahead(&mut ahead, path);
        while let Some(name) = ahead.pop() {
            let (folder, is_agents) = way.steps.last().expect("the root stays");
            if name == ".." {
                if *is_agents {
                    return Err(Astray::AgentsLink(way.real.join(name)));
                }
                way.back();
                continue;
            }
            let step = rustix::fs::openat(folder, &name, flags, Mode::empty()).map_err(io::Error::from)?;
            let found = rustix::fs::fstat(&step).map_err(io::Error::from)?;
            if FileType::from_raw_mode(found.st_mode as RawMode) != FileType::Symlink {
                let is_agents = *is_agents || self.folders.contains(&id(&found));
                way.go(step, &name, is_agents)?;
                continue;
            }
            if *is_agents {
                return Err(Astray::AgentsLink(way.real.join(name)));
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(io::Error::from_raw_os_error(libc::ELOOP).into());
            }
            let text = rustix::fs::readlinkat(&step, c"", Vec::new()).map_err(io::Error::from)?;
            let text = PathBuf::from(OsString::from_vec(text.into_bytes()));
            if text.is_absolute() {
                way.restart();
            }
            put_ahead(&mut ahead, &text);
        }
        let is_agents = way.steps.last().is_some_and(|(_, is_agents)| *is_agents);
        Ok(Place { real: way.real, is_agents })
    }
}

/// As far as one has come.
struct Way {
    steps: Vec<(OwnedFd, bool)>,
    real: PathBuf,
}

impl Way {
    fn go(&mut self, step: OwnedFd, name: &OsStr, is_agents: bool) -> io::Result<()> {
        if self.steps.len() >= DEPTH_MAX {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        self.steps.push((step, is_agents));
        self.real.push(name);
        Ok(())
    }

    fn back(&mut self) {
        if self.steps.len() > 1 {
            self.steps.pop();
            self.real.pop();
        }
    }

    fn restart(&mut self) {
        self.steps.truncate(1);
        self.real = PathBuf::from("/");
    }
}

fn id(found: &Stat) -> FolderId {
    (found.st_dev, found.st_ino)
}

/// The first part last, where it is taken from.
fn put_ahead(ahead: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::from_bytes(b"..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    ahead.extend(parts);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_of_the_host_are_followed_and_those_of_agents_are_not() {
        let place = tempfile::tempdir().expect("a folder");
        let root = fs::canonicalize(place.path()).expect("it is there");
        fs::create_dir_all(root.join("real/agents/deep")).expect("ours");
        symlink("real/./x/..", root.join("dangling")).expect("ours");
        symlink("../linked/real", root.join("real/back")).expect("ours");
        symlink(&root, root.join("linked")).expect("ours");
        symlink(root.join("real"), root.join("real/agents/out")).expect("ours");
        symlink("round", root.join("round")).expect("ours");
        let mut ground = Ground::default();
        ground.add(&root.join("linked/real/agents"));
        let find = |path: &str| ground.find(&root.join(path));
        let plain = find("linked/real/back/agents").expect("links of the host");
        assert_eq!(plain, Place { real: root.join("real/agents"), is_agents: true });
        let above = find("real/back/../real").expect("a step back on the host's ground");
        assert_eq!(above, Place { real: root.join("real"), is_agents: false });
        for path in ["real/agents/out", "linked/real/agents/out/x", "real/agents/deep/.."] {
            assert!(matches!(find(path), Err(Astray::AgentsLink(_))), "{path}: {:?}", find(path));
        }
        for path in ["dangling", "round", "missing"] {
            assert!(matches!(find(path), Err(Astray::Host(_))), "{path}: {:?}", find(path));
        }
    }
}
