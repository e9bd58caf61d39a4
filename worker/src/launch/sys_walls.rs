//! System calls for mounts, capabilities and Landlock that neither Rust nor its crates have safe words for.
//!
//! All of them may be made between clone and exec: no allocation, no lock. What is decided with them is in
//! `walls` and `view`.

use std::ffi::{CStr, c_int};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;

/// How much of what is mounted at a place a call concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MountDepth {
    /// One mount.
    Alone,
    /// It and those in it.
    Whole,
}

/// The kernel's `mount_attr`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Lets nothing be written through a mount, nor gain rights by executing what is there.
pub(super) fn set_mount_read_only(place: &CStr, depth: MountDepth) -> Result<(), Errno> {
    let flags = if depth == MountDepth::Whole { libc::AT_RECURSIVE } else { 0 };
    set_read_only(libc::AT_FDCWD, place, flags)
}

/// The same for mounts that are at no place yet.
pub(super) fn set_tree_read_only(tree: &OwnedFd) -> Result<(), Errno> {
    set_read_only(tree.as_raw_fd(), c"", libc::AT_RECURSIVE | libc::AT_EMPTY_PATH)
}

fn set_read_only(folder: c_int, place: &CStr, flags: c_int) -> Result<(), Errno> {
    const READ_ONLY_WITHOUT_SET_USER: u64 = 1 | 2;
    let attributes =
        MountAttributes { set: READ_ONLY_WITHOUT_SET_USER, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: the path ends with NUL, the attributes are readable and of the size that is given.
    let result = unsafe {
        let size = size_of::<MountAttributes>();
        let attributes = &raw const attributes;
        libc::syscall(libc::SYS_mount_setattr, folder, place.as_ptr(), flags, attributes, size)
    };
    done(result)
}

/// Takes every capability from the set that executing could give. Who has no right to do so cannot gain any
/// either, since no new rights come by executing.
pub(super) fn empty_bounding_set() {
    /// More than any kernel knows.
    const CAPABILITIES_MAX: libc::c_ulong = 64;
    for capability in 0..CAPABILITIES_MAX {
        // SAFETY: the call takes numbers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } == -1 {
            return;
        }
    }
}

/// The kernel's `landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    place: c_int,
}

/// Adds a path to a Landlock ruleset.
pub(super) fn add_path_rule(rules: &OwnedFd, place: &OwnedFd, rights: u64) -> Result<(), Errno> {
    const PATH_BENEATH: c_int = 1;
    let rule = PathBeneath { allowed: rights, place: place.as_raw_fd() };
    // SAFETY: the rule is readable and of the type that its number names; the descriptors are open.
    let result =
        unsafe { libc::syscall(SYS_LANDLOCK_ADD_RULE, rules.as_raw_fd(), PATH_BENEATH, &raw const rule, 0) };
    done(result)
}

/// Puts this process under a Landlock ruleset, for good.
pub(super) fn restrict_by_rules(rules: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: the call takes numbers, one of them an open descriptor.
    done(unsafe { libc::syscall(SYS_LANDLOCK_RESTRICT_SELF, rules.as_raw_fd(), 0) })
}

/// The version of Landlock that this kernel has; 0 = none, or it is not switched on.
pub(crate) fn landlock_version() -> u32 {
    const ASK_VERSION: c_int = 1;
    // SAFETY: with this flag the call reads no attributes, and says so by taking null.
    let version = unsafe { libc::syscall(SYS_LANDLOCK_CREATE_RULESET, ptr::null::<u8>(), 0, ASK_VERSION) };
    u32::try_from(version).unwrap_or(0)
}

// The same numbers on every architecture, as for all newer system calls.
const SYS_LANDLOCK_CREATE_RULESET: libc::c_long = 444;
const SYS_LANDLOCK_ADD_RULE: libc::c_long = 445;
const SYS_LANDLOCK_RESTRICT_SELF: libc::c_long = 446;

/// Also in a child that shares its parent's memory: the place of `errno` is then the parent's, which waits.
fn done(result: libc::c_long) -> Result<(), Errno> {
    if result != -1 {
        return Ok(());
    }
    // SAFETY: the location belongs to the calling thread, as long as it lives.
    Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }))
}
