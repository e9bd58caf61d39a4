//! System calls for mounts, capabilities, Landlock and filters of system calls that neither Rust nor its crates have safe words for.
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

/// What a processor calls the kernel's keyrings by: its name in the audit, and `add_key` to `keyctl` in a row.
struct KeyringCalls {
    architecture: u32,
    first: u32,
    last: u32,
}

/// Of this kind of processor, and of the older kind whose programs it runs as well.
#[cfg(target_arch = "x86_64")]
const KEYRING_CALLS: [KeyringCalls; 2] = [
    KeyringCalls { architecture: 0xC000_003E, first: 248, last: 250 },
    KeyringCalls { architecture: 0x4000_0003, first: 286, last: 288 },
];
#[cfg(target_arch = "aarch64")]
const KEYRING_CALLS: [KeyringCalls; 2] = [
    KeyringCalls { architecture: 0xC000_00B7, first: 217, last: 219 },
    KeyringCalls { architecture: 0x4000_0028, first: 309, last: 311 },
];

/// Refuses the calls of keyrings, which belong to users and not to namespaces, and every call of a processor
/// that is not known. Made at compile time: nothing is put together between clone and exec.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static KEYRING_FILTER: [libc::sock_filter; 12] = {
    /// Where the call's number and its architecture lie in what a filter is given.
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    /// Says of a number that it is of the variant with short pointers: the same calls.
    const SHORT_POINTERS: u32 = 0x4000_0000;
    const fn load(place: u32) -> libc::sock_filter {
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, place, 0, 0)
    }
    const fn jump(test: u32, value: u32, then: u8, otherwise: u8) -> libc::sock_filter {
        step(libc::BPF_JMP | test | libc::BPF_K, value, then, otherwise)
    }
    const fn answer(action: u32) -> libc::sock_filter {
        step(libc::BPF_RET | libc::BPF_K, action, 0, 0)
    }
    const fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
        libc::sock_filter { code: code as u16, jt, jf, k }
    }
    let [native, older] = KEYRING_CALLS;
    [
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, native.architecture, 1, 0),
        jump(libc::BPF_JEQ, older.architecture, 4, 8),
        load(NUMBER),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, !SHORT_POINTERS, 0, 0),
        jump(libc::BPF_JGE, native.first, 0, 4),
        jump(libc::BPF_JGT, native.last, 3, 4),
        load(NUMBER),
        jump(libc::BPF_JGE, older.first, 0, 1),
        jump(libc::BPF_JGT, older.last, 0, 1),
        answer(libc::SECCOMP_RET_ALLOW),
        answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ]
};

/// Keeps this process from the kernel's keyrings, for good. It must have given up gaining rights.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn refuse_keyrings() -> Result<(), Errno> {
    if !can_refuse_keyrings() {
        return Ok(());
    }
    let program = libc::sock_fprog {
        len: KEYRING_FILTER.len() as u16,
        // The kernel only reads it.
        filter: KEYRING_FILTER.as_ptr().cast_mut(),
    };
    // SAFETY: the program and its steps are readable, as many as it says.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) };
    done(result.into())
}

/// Nothing is known of this kind of processor.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn refuse_keyrings() -> Result<(), Errno> {
    Ok(())
}

/// Whether this kernel filters system calls, and their numbers are known.
pub(crate) fn can_refuse_keyrings() -> bool {
    /// Asks whether an answer of filters is known.
    const GET_ACTION_AVAIL: c_int = 2;
    let refusal: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the call reads one number.
    let known = unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const refusal) };
    known == 0 && cfg!(any(target_arch = "x86_64", target_arch = "aarch64"))
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
