//! Where the paths that an agent type names really lie on the host, and that no agent has bent the way there.
//!
//! What agents write to holds whatever links they like. From the first folder of that kind on, a link on the way
//! is refused; before it, links are the host's own and followed. The engine is given the way without any link.
//! It looks at that way once more by itself: whoever can write there at that very moment, because another agent
//! works in the same folder, may still be quicker.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::error::ContainerError;
use super::plan::ContainerOrder;

/// Most links on the way to one path, as for the kernel.
const LINKS_MAX: u32 = 40;

/// Follows the paths of one type.
#[derive(Debug)]
pub(super) struct SourceWalk<'a> {
    order: &'a ContainerOrder,
    /// Folders that agents write to, without links in their paths.
    written: Vec<PathBuf>,
}

impl<'a> SourceWalk<'a> {
    /// Of an order, for which whatever its type may write to is looked up.
    pub(super) fn of(order: &'a ContainerOrder) -> SourceWalk<'a> {
        let known = [&order.root, &order.folder];
        let written = known.iter().filter_map(|path| path.canonicalize().ok()).collect();
        let mut walk = SourceWalk { order, written };
        let writable = order.binds.iter().filter(|bind| bind.is_named && !bind.read_only);
        // One that cannot be followed is refused when it is asked for itself.
        let further: Vec<PathBuf> =
            writable.filter_map(|bind| walk.find(&bind.source).ok().flatten()).collect();
        walk.written.extend(further);
        walk
    }

    /// The same place without any link; none if nothing is there, or the path is relative.
    ///
    /// # Errors
    /// `Order` if a link stands where agents write.
    pub(super) fn find(&self, path: &Path) -> Result<Option<PathBuf>, ContainerError> {
        if !path.is_absolute() {
            return Ok(None);
        }
        let mut ahead: VecDeque<Part> = parts(path).collect();
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = ahead.pop_front() {
            let name = match part {
                Part::Root => {
                    real = PathBuf::from("/");
                    continue;
                }
                Part::Above => {
                    real.pop();
                    continue;
                }
                Part::Below(name) => name,
            };
            let next = real.join(name);
            let Ok(metadata) = next.symlink_metadata() else { return Ok(None) };
            if !metadata.is_symlink() {
                real = next;
                continue;
            }
            links += 1;
            if self.is_written(&real) || links > LINKS_MAX {
                return Err(self.bent(path, &next));
            }
            let Ok(target) = std::fs::read_link(&next) else { return Ok(None) };
            for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                ahead.push_front(part);
            }
        }
        // All of it at once, since what was looked at one by one may have changed behind.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match openat2(CWD, &real, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            // The call may be unknown to the kernel, or forbidden by what the worker itself runs in.
            Ok(_) | Err(Errno::NOSYS | Errno::PERM) => Ok(Some(real)),
            Err(Errno::LOOP) => Err(self.bent(path, &real)),
            Err(_) => Ok(None),
        }
    }

    fn is_written(&self, folder: &Path) -> bool {
        self.written.iter().any(|written| folder.starts_with(written))
    }

    fn bent(&self, path: &Path, link: &Path) -> ContainerError {
        ContainerError::Order(format!(
            "agent `{}` may not reach `{}`: expected a path without links from where agents write on, \
             found the link `{}`; hint: remove it, or name in `paths` the place it leads to",
            self.order.agent.slug,
            path.display(),
            link.display(),
        ))
    }
}

/// One step on the way.
#[derive(Debug)]
enum Part {
    Root,
    Above,
    Below(OsString),
}

fn parts(path: &Path) -> impl Iterator<Item = Part> {
    path.components().filter_map(|component| match component {
        Component::RootDir => Some(Part::Root),
        Component::ParentDir => Some(Part::Above),
        Component::Normal(name) => Some(Part::Below(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    })
}
