//! An agent's own way into its walls, between clone and exec: system calls only.
//!
//! Everything that needs memory or a decision was made before, in `view` and by the worker; what happens here
//! is the same for each agent. No allocation, no lock, no panic: the memory is the supervisor's.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::thread::CapabilitySet;

use super::sys_walls::{self, MountDepth, set_mount_read_only, set_tree_read_only};
use super::view::{ROOT, SCRATCH_OPTIONS, SETTINGS};

/// What reading means to Landlock: executing, reading files, listing folders.
const RULES_READ: u64 = 0b1101;
/// What using devices means beside: writing, making files longer or shorter, their own controls.
const RULES_DEVICES: u64 = 1 << 1 | 1 << 14 | 1 << 15;

/// What a child does to itself before it executes its program.
pub(super) struct ChildWalls {
    /// The steps to its view of the host; none where it sees what its supervisor sees.
    pub(super) view: Option<Vec<(EntryNumber, ViewStep)>>,
    /// Its Landlock ruleset.
    pub(super) rules: Option<OwnedFd>,
    /// The rights that the ruleset governs.
    pub(super) handled: u64,
}

/// Which path of its order a step is for; none = it is every agent's.
pub(super) type EntryNumber = Option<u32>;

/// A place in the future root, to be found there and nowhere else: links that an agent left on the way lead
/// around in its own view at most.
pub(super) struct Spot {
    /// Relative to the root.
    pub(super) folder: CString,
    /// In the folder; `.` for the root itself.
    pub(super) name: CString,
}

/// One step to a view.
pub(super) enum ViewStep {
    /// Show what the host has at a path, on the way to which there is no link, or nothing is shown.
    Bind { source: CString, target: CString, writable: bool },
    /// An empty folder that can be filled and is gone with the agent.
    Scratch { target: CString },
    /// An empty folder that can be filled only here, before the agent is.
    Cover { target: CString },
    /// A folder to show something at.
    Folder { target: Spot },
    /// A file to show something at.
    File { target: Spot },
    /// A link.
    Link { text: CString, target: Spot },
}

impl ChildWalls {
    /// Takes the process into its view. Its working directory is then the view's root.
    pub(super) fn enter_view(&self) -> Result<(), (EntryNumber, Errno)> {
        let Some(steps) = &self.view else { return Ok(()) };
        let of_all = |errno| (None, errno);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, ROOT, flags, Mode::empty()).map_err(of_all)?;
        set_mount_read_only(SETTINGS, MountDepth::Alone).map_err(of_all)?;
        for (entry, step) in steps {
            step.carry_out(&root).map_err(|errno| (*entry, errno))?;
        }
        self.enter_root().map_err(of_all)
    }

    /// Closes what was open for building, and leaves all else behind.
    fn enter_root(&self) -> Result<(), Errno> {
        for (_, step) in self.view.iter().flatten() {
            // Filled by now with all that is to be seen there.
            if let ViewStep::Cover { target } = step {
                set_mount_read_only(target, MountDepth::Alone)?;
            }
        }
        set_mount_read_only(ROOT, MountDepth::Alone)?;
        rustix::process::chdir(ROOT)?;
        // The old root ends up on top of the new one, and goes.
        rustix::process::pivot_root(c".", c".")?;
        rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
        rustix::process::chdir(c"/")
    }

    /// Gives up what an agent may not have: capabilities, gaining rights by executing, keyrings, foreign paths.
    pub(super) fn restrict(&self) -> Result<(), Errno> {
        rustix::thread::set_no_new_privs(true)?;
        sys_walls::empty_bounding_set();
        let _ = rustix::thread::clear_ambient_capability_set();
        let none = rustix::thread::CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, none)?;
        sys_walls::refuse_keyrings()?;
        let Some(rules) = &self.rules else { return Ok(()) };
        if self.view.is_some() {
            self.allow(rules, c"/etc", RULES_READ)?;
            self.allow(rules, c"/proc", RULES_READ)?;
            self.allow(rules, c"/dev", RULES_READ | RULES_DEVICES)?;
            self.allow(rules, c"/dev/shm", u64::MAX)?;
            self.allow(rules, c"/tmp", u64::MAX)?;
        }
        sys_walls::restrict_by_rules(rules)
    }

    /// Adds what only exists in this view to the ruleset, which is this agent's alone.
    fn allow(&self, rules: &OwnedFd, path: &CStr, rights: u64) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let place = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        sys_walls::add_path_rule(rules, &place, rights & self.handled)
    }
}

impl ViewStep {
    fn carry_out(&self, root: &OwnedFd) -> Result<(), Errno> {
        match self {
            ViewStep::Bind { source, target, writable } => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let source = rustix::fs::openat2(
                    CWD,
                    source.as_c_str(),
                    flags,
                    Mode::empty(),
                    ResolveFlags::NO_SYMLINKS,
                )?;
                let flags = OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_EMPTY_PATH
                    | OpenTreeFlags::AT_RECURSIVE;
                let shown = rustix::mount::open_tree(&source, c"", flags)?;
                if !*writable {
                    set_tree_read_only(&shown)?;
                }
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                rustix::mount::move_mount(&shown, c"", found_below(root, target)?, c"", flags)
            }
            ViewStep::Scratch { target } => {
                let flags = MountFlags::NOSUID | MountFlags::NODEV;
                rustix::mount::mount(c"maestro", target.as_c_str(), c"tmpfs", flags, SCRATCH_OPTIONS)
            }
            ViewStep::Cover { target } => {
                let flags = MountFlags::NOSUID | MountFlags::NODEV;
                rustix::mount::mount(c"maestro", target.as_c_str(), c"tmpfs", flags, c"mode=755,size=1m")
            }
            ViewStep::Folder { target: Spot { folder, name } } => {
                let folder = found_below(root, folder)?;
                unless_there(rustix::fs::mkdirat(folder, name.as_c_str(), Mode::from_raw_mode(0o755)))
            }
            ViewStep::File { target: Spot { folder, name } } => {
                let folder = found_below(root, folder)?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(0o600);
                unless_there(rustix::fs::openat(folder, name.as_c_str(), flags, mode).map(drop))
            }
            ViewStep::Link { text, target: Spot { folder, name } } => {
                let folder = found_below(root, folder)?;
                unless_there(rustix::fs::symlinkat(text.as_c_str(), folder, name.as_c_str()))
            }
        }
    }
}

/// Takes the future root for the root, whatever links say.
fn found_below(root: &OwnedFd, path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let links = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), links)
}

/// What lies in a folder that is shown is there already. Where that may not be written to, the kernel may
/// say so first.
fn unless_there(made: Result<(), Errno>) -> Result<(), Errno> {
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}
