//! The system calls that Rust has no safe words for: fork, clone and exec, wait with usage, signal masks.
//!
//! This and `sys_walls` are the only files of the crate with unsafe code. Each block says why it is sound. What is
//! decided with these calls is in `launcher`, `supervisor` and `tree`.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::walls::{ChildWalls, EntryNumber};
use super::wire::{MainEnd, StartStep};

/// Stack of the child between clone and exec: a few frames and the system calls' own.
const CHILD_STACK_BYTES: usize = 64 * 1024;

/// Stands for no path of an order.
const NO_ENTRY: u32 = u32::MAX;

/// Sent by the kernel to the children of a launcher that died, and by a launcher that is about to end.
pub(super) const PARENT_DIED: rustix::process::Signal = rustix::process::Signal::USR2;

/// What waiting for any child found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaped {
    /// This child has ended.
    Child { pid: Pid, end: MainEnd, usage: ChildUsage },
    /// There are children, none of them has ended.
    NoneYet,
    /// There are no children at all: everything below has ended.
    NoChildren,
}

/// What a child used, its own reaped children included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ChildUsage {
    pub(super) max_rss_kib: u64,
    pub(super) user_us: u64,
    pub(super) system_us: u64,
}

/// Forks; the child runs `body` and exits with its answer, without anything of the parent's being dropped.
///
/// Only for a process with one thread: the child may then allocate like any other.
pub(super) fn fork(body: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the caller has one thread, so no lock can be held by a thread that the child lacks.
    // The child never returns into the caller's frames: it ends in `_exit` below.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = body();
            // SAFETY: `_exit` takes a number and does not return; no destructor of the parent is to run here.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(Pid::from_raw(pid).expect("fork gives a positive number to the parent")),
    }
}

/// The same into new namespaces: `flags` are those of `clone`. The child is the first process of a new
/// process namespace if they say so.
pub(super) fn fork_into(flags: c_int, body: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: all zeroes is a lawful `clone_args`: numbers, of which zero says none.
    let mut args: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
    args.flags = flags as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without a stack and without CLONE_VM this is a fork: the child goes on with a copy of this
    // memory. The rest as in `fork`. What the C library does at a fork (locks for other threads) has no
    // object in a process with one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = body();
            // SAFETY: as in `fork`.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(Pid::from_raw(pid as i32).expect("clone3 gives a positive number to the parent")),
    }
}

/// Has the kernel send a signal when the parent dies.
pub(super) fn die_with_parent(signal: Signal) -> Result<(), Errno> {
    rustix::process::set_parent_process_death_signal(Some(signal))
}

/// Sends a signal to every process of this process namespace but its first, which must be this one: in any
/// other it would reach the whole host, and nothing is sent.
pub(super) fn signal_namespace(signal: Signal) {
    if rustix::process::getpid() == Pid::INIT {
        // SAFETY: the call takes two numbers.
        unsafe { libc::kill(-1, signal.as_raw()) };
    }
}

/// A program ready to be executed: all memory that the child needs, made before it exists.
pub(super) struct SpawnPlan {
    cwd: CString,
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    /// What the child does to itself.
    pub(super) walls: Option<ChildWalls>,
    /// Control groups that it joins, by their open lists of processes.
    pub(super) groups: Vec<OwnedFd>,
    /// Most bytes of data.
    pub(super) data_bytes_max: Option<u64>,
}

/// A child that executes its program.
pub(super) struct Spawned {
    /// Its number here.
    pub(super) pid: Pid,
    /// What names it elsewhere, too; only of a child with a view.
    pub(super) name: Option<OwnedFd>,
}

/// Why there is no child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpawnFailure {
    pub(super) step: StartStep,
    pub(super) errno: i32,
    /// Which path of the order could not be shown, if it is one.
    pub(super) entry: EntryNumber,
}

/// Memory for the stack of a child that has not yet executed its program.
pub(super) struct ChildStack(Vec<u128>);

impl ChildStack {
    pub(super) fn new() -> ChildStack {
        ChildStack(vec![0; CHILD_STACK_BYTES / size_of::<u128>()])
    }
}

impl SpawnPlan {
    /// Takes over texts; one that holds a NUL is refused.
    pub(super) fn new(
        cwd: Vec<u8>,
        candidates: Vec<Vec<u8>>,
        argv: Vec<Vec<u8>>,
        env: Vec<Vec<u8>>,
    ) -> Result<SpawnPlan, std::ffi::NulError> {
        let texts = |list: Vec<Vec<u8>>| list.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
        Ok(SpawnPlan {
            cwd: CString::new(cwd)?,
            candidates: texts(candidates)?,
            argv: texts(argv)?,
            env: texts(env)?,
            walls: None,
            groups: Vec::new(),
            data_bytes_max: None,
        })
    }

    /// Starts the program in a session of its own with these three descriptors and no other.
    ///
    /// The child has no blocked signals and the dispositions of this process, which must be the defaults.
    /// It dies with this process. Returns when the program is executing, or could not be executed.
    /// The descriptors must be 3 or higher.
    pub(super) fn spawn(
        &self,
        stack: &mut ChildStack,
        fds: [BorrowedFd<'_>; 3],
    ) -> Result<Spawned, SpawnFailure> {
        let candidates = pointers(&self.candidates);
        let argv = pointers(&self.argv);
        let env = pointers(&self.env);
        let orders = ChildOrders {
            cwd: self.cwd.as_ptr(),
            candidates: candidates.as_ptr(),
            argv: argv.as_ptr(),
            env: env.as_ptr(),
            fds: fds.map(|fd| fd.as_raw_fd()),
            plan: self,
            parent: rustix::process::getpid().as_raw_nonzero().get(),
            failed_step: AtomicI32::new(0),
            failed_errno: AtomicI32::new(0),
            failed_entry: AtomicU32::new(NO_ENTRY),
        };
        let top = stack.0.as_mut_ptr_range().end;
        let has_view = self.walls.as_ref().is_some_and(|walls| walls.view.is_some());
        let view = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_PIDFD;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | if has_view { view } else { 0 };
        let mut name: c_int = -1;
        // SAFETY: the child runs `run_child` on a stack of its own, whose upper end is aligned to 16 bytes
        // and which nothing else uses, as `&mut` proves. It shares this memory, but CLONE_VFORK holds this
        // thread, the only one, until the child has executed its program or exited: `orders` and all that it
        // points to live until then. The child makes only system calls and stores two atomics. With
        // CLONE_PIDFD the kernel stores a descriptor in `name`, otherwise it leaves it alone.
        let pid = unsafe {
            let orders = ptr::from_ref(&orders).cast_mut().cast::<c_void>();
            libc::clone(run_child, top.cast(), flags, orders, &raw mut name)
        };
        if pid == -1 {
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
            return Err(SpawnFailure { step: StartStep::Clone, errno, entry: None });
        }
        let pid = Pid::from_raw(pid).expect("clone gives a positive number to the parent");
        // SAFETY: the descriptor is new, and nobody else has it.
        let name = (name != -1).then(|| unsafe { OwnedFd::from_raw_fd(name) });
        let errno = orders.failed_errno.load(Ordering::Acquire);
        if errno == 0 {
            return Ok(Spawned { pid, name });
        }
        let step = StartStep::from_number(orders.failed_step.load(Ordering::Acquire) as u32)
            .expect("the child stores a step");
        // The child has exited; it must not be counted as a process of the agent.
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        let entry = orders.failed_entry.load(Ordering::Acquire);
        Err(SpawnFailure { step, errno, entry: Some(entry).filter(|entry| *entry != NO_ENTRY) })
    }
}

/// A list for exec: one pointer for each text, and a null at the end.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// What the child reads between clone and exec, and where it leaves word of a failure.
struct ChildOrders {
    cwd: *const c_char,
    candidates: *const *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    fds: [RawFd; 3],
    plan: *const SpawnPlan,
    parent: i32,
    failed_step: AtomicI32,
    failed_errno: AtomicI32,
    failed_entry: AtomicU32,
}

/// Runs in the child: system calls only, no allocation, no lock, no panic.
extern "C" fn run_child(orders: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes a pointer to its own `orders`, which outlives the child's use of this memory, as
    // does the plan that it borrows.
    let (orders, plan) = unsafe {
        let orders = &*orders.cast::<ChildOrders>();
        (orders, &*orders.plan)
    };
    // SAFETY: all calls take numbers, or pointers to NUL-terminated texts and null-terminated lists that
    // `spawn` made and keeps. Closing every descriptor from 3 up concerns the child's own table only,
    // since CLONE_FILES is not given. The signal set is initialised by `sigemptyset` before its use.
    unsafe {
        libc::setsid();
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
            return fail(orders, StartStep::Prepare);
        }
        // The parent may have died before it could be watched.
        if libc::getppid() != orders.parent {
            return 127;
        }
        if let Err(errno) = limit_self(plan) {
            return fail_with(orders, StartStep::Limit, errno.raw_os_error());
        }
        for (place, fd) in orders.fds.iter().enumerate() {
            if libc::dup2(*fd, place as c_int) == -1 {
                return fail(orders, StartStep::Prepare);
            }
        }
        if let Some(Err((entry, errno))) = plan.walls.as_ref().map(ChildWalls::enter_view) {
            orders.failed_entry.store(entry.unwrap_or(NO_ENTRY), Ordering::Release);
            return fail_with(orders, StartStep::Confine, errno.raw_os_error());
        }
        if libc::chdir(orders.cwd) == -1 {
            return fail(orders, StartStep::Chdir);
        }
        if let Some(Err(errno)) = plan.walls.as_ref().map(ChildWalls::restrict) {
            return fail_with(orders, StartStep::Confine, errno.raw_os_error());
        }
        if libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, 0 as libc::c_uint) == -1
        {
            return fail(orders, StartStep::Prepare);
        }
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        execute(orders)
    }
}

/// Joins control groups and lowers limits: system calls only.
fn limit_self(plan: &SpawnPlan) -> Result<(), Errno> {
    for group in &plan.groups {
        // Whoever writes this means itself.
        rustix::io::write(group, b"0")?;
    }
    if let Some(bytes) = plan.data_bytes_max {
        let limit = rustix::process::Rlimit { current: Some(bytes), maximum: Some(bytes) };
        rustix::process::setrlimit(rustix::process::Resource::Data, limit)?;
    }
    Ok(())
}

/// Tries one path after the other, as `execvp` does: a missing one is passed over, a forbidden one is
/// remembered, any other failure is final.
///
/// # Safety
/// The lists of `orders` must be null-terminated and alive.
unsafe fn execute(orders: &ChildOrders) -> c_int {
    let mut worst = libc::ENOENT;
    let mut next = orders.candidates;
    // SAFETY: the caller vouches for the lists; the walk stops at the null that ends one.
    unsafe {
        while !(*next).is_null() {
            libc::execve(*next, orders.argv, orders.env);
            match *libc::__errno_location() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => worst = libc::EACCES,
                _ => return fail(orders, StartStep::Exec),
            }
            next = next.add(1);
        }
        *libc::__errno_location() = worst;
    }
    fail(orders, StartStep::Exec)
}

fn fail(orders: &ChildOrders, step: StartStep) -> c_int {
    // SAFETY: the location belongs to the calling thread, as long as it lives.
    let errno = unsafe { *libc::__errno_location() };
    fail_with(orders, step, errno)
}

fn fail_with(orders: &ChildOrders, step: StartStep, errno: i32) -> c_int {
    orders.failed_step.store(step as i32, Ordering::Release);
    orders.failed_errno.store(errno, Ordering::Release);
    127
}

/// Takes the end of any child, without waiting for one.
pub(super) fn reap_any() -> io::Result<Reaped> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers lead to writable places of the right type; all zeroes is a lawful `rusage`.
    let (pid, usage) = unsafe {
        let pid = libc::wait4(-1, &raw mut status, libc::WNOHANG, usage.as_mut_ptr());
        (pid, usage.assume_init())
    };
    match pid {
        0 => Ok(Reaped::NoneYet),
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(Reaped::NoChildren),
            error => Err(error),
        },
        pid => {
            let end = if libc::WIFSIGNALED(status) {
                MainEnd::Signaled(libc::WTERMSIG(status))
            } else {
                MainEnd::Exited(libc::WEXITSTATUS(status))
            };
            let pid = Pid::from_raw(pid).expect("wait4 gives a positive number for a child");
            Ok(Reaped::Child { pid, end, usage: ChildUsage::from_rusage(&usage) })
        }
    }
}

impl ChildUsage {
    fn from_rusage(usage: &libc::rusage) -> ChildUsage {
        let us = |time: libc::timeval| (time.tv_sec as u64) * 1_000_000 + time.tv_usec as u64;
        ChildUsage {
            max_rss_kib: usage.ru_maxrss as u64,
            user_us: us(usage.ru_utime),
            system_us: us(usage.ru_stime),
        }
    }
}

/// Blocks every signal that can be blocked: launcher and supervisors learn of signals by descriptor.
pub(super) fn block_signals() -> io::Result<()> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises the set; the mask of this thread, the only one, is replaced.
    let result = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives every signal its default effect, so that an agent inherits neither Rust's ignored SIGPIPE nor
/// the ignored SIGHUP of a worker started with `nohup`.
///
/// Straight to the kernel: the C library refuses to touch the two numbers that it keeps for itself, which
/// may have been inherited as ignored like any other.
pub(super) fn reset_dispositions() {
    /// The kernel's `sigaction` with every field zero, at least as large as any architecture's.
    const DEFAULT_ACTION: [u64; 8] = [0; 8];
    /// Bytes in the kernel's signal set: one bit for each of 64 signals.
    const SIGNAL_SET_BYTES: usize = 8;
    for signal in 1..=64 as c_int {
        // SAFETY: the action is readable and says SIG_DFL, without flags, mask or restorer; the null says
        // that the old one is not wanted. The call fails harmlessly for SIGKILL and SIGSTOP.
        unsafe {
            let none = ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT_ACTION.as_ptr(), none, SIGNAL_SET_BYTES);
        }
    }
}

/// A descriptor that becomes readable when a child ends or the parent dies. Both must be blocked.
pub(super) fn signal_descriptor() -> io::Result<OwnedFd> {
    let mut watched = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set; the descriptor is new and belongs to nobody else.
    unsafe {
        libc::sigemptyset(watched.as_mut_ptr());
        libc::sigaddset(watched.as_mut_ptr(), libc::SIGCHLD);
        libc::sigaddset(watched.as_mut_ptr(), PARENT_DIED.as_raw());
        let fd = libc::signalfd(-1, watched.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd == -1 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// What a signal descriptor had to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drained {
    /// Nothing, or that children have ended.
    Children,
    /// The parent has died or is about to.
    ParentDied,
}

/// Empties a signal descriptor.
pub(super) fn drain_signals(descriptor: &OwnedFd) -> Drained {
    /// Two records: each signal can be pending only once.
    const RECORDS_BYTES: usize = 2 * size_of::<libc::signalfd_siginfo>();
    let mut records = [0; RECORDS_BYTES];
    let length = rustix::io::read(descriptor, &mut records).unwrap_or(0);
    // A record begins with the signal's number.
    let numbers =
        records[..length].chunks(size_of::<libc::signalfd_siginfo>()).filter_map(<[u8]>::first_chunk);
    let died = numbers.map(|number| i32::from_ne_bytes(*number)).any(|number| number == PARENT_DIED.as_raw());
    if died { Drained::ParentDied } else { Drained::Children }
}

/// Closes every descriptor from 3 up but one.
///
/// Only for the very start of a process that has opened nothing else itself, or of a forked child that
/// will use nothing else of its parent's.
pub(super) fn close_inherited_except(kept: &OwnedFd) {
    let kept = kept.as_raw_fd() as libc::c_uint;
    let ranges = [(3, kept.saturating_sub(1)), (kept + 1, libc::c_uint::MAX)];
    for (first, last) in ranges.into_iter().filter(|(first, last)| first <= last) {
        // SAFETY: the caller vouches that nothing in this process will use, or close, another descriptor.
        // On a kernel without the call nothing is closed, which costs open files and no more.
        unsafe {
            libc::syscall(libc::SYS_close_range, first, last, 0 as libc::c_uint);
        }
    }
}
