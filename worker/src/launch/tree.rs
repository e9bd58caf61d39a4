//! Finding, signalling and ending everything below this process.
//!
//! The process must be a child subreaper: then no descendant can leave, and once the kernel says that there
//! is no child, there is no descendant. Freezing goes before killing: a stopped process can neither start
//! another nor reap one, so a walk over stopped processes finds all of them and no number is used twice.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::sys::{self, Reaped};

/// Longest a tree may take to die after SIGKILL; what is left then is in the kernel's hands.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(5);
/// First wait for killed processes to be gone; it doubles up to the longest.
const REAP_WAIT_FIRST: Duration = Duration::from_micros(50);
/// Longest wait between two looks.
const REAP_WAIT_LONGEST: Duration = Duration::from_millis(5);
/// Most processes one walk visits, so that a fork bomb is killed in portions and not first counted whole.
const WALK_MAX: usize = 4096;

/// Kills everything below this process and waits until it is gone, or for as long as `limit`.
///
/// Children in `kept` are spared, with what is below them. `on_end` hears of each reaped child.
/// Returns how many children are left when the limit is over, 0 if none.
pub(super) fn kill_below(kept: &[Pid], limit: Duration, mut on_end: impl FnMut(&Reaped)) -> u32 {
    let deadline = Instant::now() + limit;
    let mut wait = REAP_WAIT_FIRST;
    let mut killed = HashSet::new();
    loop {
        if let Reaped::NoChildren = reap_ended(&mut on_end) {
            return 0;
        }
        let left = children_except(kept);
        // With nothing to spare the kernel's word counts alone: a listing may miss a child for a moment.
        if left.is_empty() && !kept.is_empty() {
            return 0;
        }
        for pid in walk(&left, |pid| signal(pid, Signal::STOP)) {
            signal(pid, Signal::KILL);
            // Something is still being started, and is best met soon.
            if killed.insert(pid) {
                wait = REAP_WAIT_FIRST;
            }
        }
        if Instant::now() >= deadline {
            return left.len().max(1) as u32;
        }
        thread::sleep(wait);
        wait = (wait * 2).min(REAP_WAIT_LONGEST);
    }
}

/// The same for the first process of a process namespace: every other is below it, and none can miss the signal.
pub(super) fn kill_namespace(limit: Duration, mut on_end: impl FnMut(&Reaped)) -> u32 {
    let deadline = Instant::now() + limit;
    let mut wait = REAP_WAIT_FIRST;
    loop {
        sys::signal_namespace(Signal::KILL);
        if let Reaped::NoChildren = reap_ended(&mut on_end) {
            return 0;
        }
        if Instant::now() >= deadline {
            return 1;
        }
        thread::sleep(wait);
        wait = (wait * 2).min(REAP_WAIT_LONGEST);
    }
}

/// Reaps all children that have ended; the answer is never `Child`.
pub(super) fn reap_ended(on_end: &mut impl FnMut(&Reaped)) -> Reaped {
    loop {
        match sys::reap_any() {
            Ok(reaped @ Reaped::Child { .. }) => on_end(&reaped),
            Ok(other) => return other,
            // Only an interrupted call can fail so; there is nothing to reap just now.
            Err(_) => return Reaped::NoneYet,
        }
    }
}

/// Sends a signal to everything below this process. What is started meanwhile may be missed, except by
/// SIGSTOP, which keeps what it has reached from starting anything.
pub(super) fn signal_below(number: Signal) {
    let roots = children_except(&[]);
    if number == Signal::STOP {
        walk(&roots, |pid| signal(pid, Signal::STOP));
    } else {
        for pid in walk(&roots, |_| ()) {
            signal(pid, number);
        }
    }
}

/// A process that is gone, or another user's, is not an error here: the next look tells.
fn signal(pid: Pid, number: Signal) {
    let _ = kill_process(pid, number);
}

/// Everything below a process at this moment, the process itself left out.
pub(crate) fn descendants_of(pid: Pid) -> Vec<Pid> {
    walk(&[pid], |_| ()).into_iter().skip(1).collect()
}

/// Visits these processes and everything below them, each before its children are read.
pub(super) fn walk(roots: &[Pid], mut visit: impl FnMut(Pid)) -> Vec<Pid> {
    let mut seen = HashSet::new();
    let mut order = Vec::new();
    let mut waiting: Vec<Pid> = roots.to_vec();
    while let Some(pid) = waiting.pop() {
        if order.len() >= WALK_MAX || !seen.insert(pid) {
            continue;
        }
        visit(pid);
        order.push(pid);
        waiting.extend(children_of(pid).unwrap_or_default());
    }
    order
}

fn children_except(kept: &[Pid]) -> Vec<Pid> {
    let mut children = children_of(rustix::process::getpid()).unwrap_or_default();
    children.retain(|pid| !kept.contains(pid));
    children
}

/// The children of all threads of a process.
pub(super) fn children_of(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{parent}/task"))? {
        match fs::read_to_string(thread?.path().join("children")) {
            Ok(list) => children.extend(list.split_ascii_whitespace().filter_map(parse_pid)),
            // The thread has ended.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            // The thread has ended, or this kernel has no such list.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return children_by_parent(parent);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(children)
}

/// The same by looking at every process: for kernels built without lists of children.
fn children_by_parent(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(parse_pid) else { continue };
        if parent_of(pid) == Some(parent) {
            children.push(pid);
        }
    }
    Ok(children)
}

/// The fourth field of `stat`; the second, the name, may hold spaces and brackets, so it is passed over
/// from the right.
pub(crate) fn parent_of(pid: Pid) -> Option<Pid> {
    parent_in(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The same in the text of such a file.
pub(super) fn parent_in(stat: &[u8]) -> Option<Pid> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = str::from_utf8(&stat[name_end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(1).and_then(parse_pid)
}

fn parse_pid(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn both_ways_of_listing_children_agree() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep exists");
        let own = rustix::process::getpid();
        let pid = Pid::from_child(&child);
        assert_eq!(parent_of(pid), Some(own));
        assert!(children_of(own).expect("a listing").contains(&pid));
        assert!(children_by_parent(own).expect("a listing").contains(&pid));
        child.kill().expect("it still runs");
        child.wait().expect("it is ours");
        assert!(!children_by_parent(own).expect("a listing").contains(&pid));
    }

    #[test]
    fn a_process_that_is_gone_has_no_children() {
        let mut child = Command::new("true").spawn().expect("true exists");
        let pid = Pid::from_child(&child);
        child.wait().expect("it is ours");
        assert!(children_of(pid).is_err(), "its folder is gone");
        assert_eq!(walk(&[pid], |_| ()), [pid]);
    }
}
