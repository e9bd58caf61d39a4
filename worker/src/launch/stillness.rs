//! Whether a tree of processes stands still, by the kernel's own account.
//!
//! A signal to stop is obeyed a little later than it is sent; files may be read only once it has been.

use std::fs;
use std::path::Path;

use rustix::process::Pid;

use super::tree::{children_of, walk};

/// SIGSTOP in a mask of signals.
const STOP_BIT: u64 = 1 << (libc::SIGSTOP - 1);

/// Whether every process below a supervisor has stopped. A look costs a few files of `/proc` for each.
pub(crate) fn is_tree_still(supervisor: u32) -> bool {
    let Some(supervisor) = i32::try_from(supervisor).ok().and_then(Pid::from_raw) else { return true };
    // One that cannot be read is gone, and its tree with it.
    let Ok(roots) = children_of(supervisor) else { return true };
    walk(&roots, |_| ()).into_iter().all(is_still)
}

/// Stopped, traced, or ended, and each of its threads.
fn is_still(pid: Pid) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.flatten().all(|task| match fs::read(task.path().join("stat")) {
        Ok(stat) => match state_of(&stat) {
            Some(b'T' | b't' | b'Z' | b'X') => true,
            Some(b'D') => waits_for_stopped_child(&task.path()),
            _ => false,
        },
        Err(_) => true,
    })
}

/// A thread that has just forked the quick way sleeps, beyond the reach of signals, until its child has executed a
/// program. With that child stopped before, it sleeps on; the signal to stop waits for it.
fn waits_for_stopped_child(thread: &Path) -> bool {
    let status = fs::read_to_string(thread.join("status")).unwrap_or_default();
    let pending = |name: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0)
    };
    let is_to_stop = (pending("SigPnd:") | pending("ShdPnd:")) & STOP_BIT != 0;
    let children = fs::read_to_string(thread.join("children")).unwrap_or_default();
    let is_stopped = |child: &str| {
        let stat = fs::read(format!("/proc/{child}/stat")).unwrap_or_default();
        matches!(state_of(&stat), Some(b'T' | b't'))
    };
    is_to_stop && children.split_ascii_whitespace().any(is_stopped)
}

/// The third field; the second, the name, may hold spaces and brackets.
fn state_of(stat: &[u8]) -> Option<u8> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(name_end + 2).copied()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use rustix::process::{Signal, kill_process};

    use super::*;

    fn send_all(root: Pid, signal: Signal) {
        walk(&[root], |pid| {
            // One that has just ended needs none.
            let _ = kill_process(pid, signal);
        });
    }

    #[test]
    fn a_shell_that_starts_programs_all_the_time_can_be_stilled() {
        let script = "while :; do /bin/true; done";
        for _ in 0..20 {
            let mut child =
                Command::new("sh").args(["-c", script]).stdin(Stdio::null()).spawn().expect("sh exists");
            let pid = Pid::from_child(&child);
            let begun = Instant::now();
            loop {
                send_all(pid, Signal::STOP);
                if walk(&[pid], |_| ()).into_iter().all(is_still) {
                    break;
                }
                assert!(begun.elapsed() < Duration::from_secs(10), "it never stands still");
                std::thread::yield_now();
            }
            send_all(pid, Signal::KILL);
            child.wait().expect("ours");
        }
    }

    #[test]
    fn a_tree_is_still_once_all_of_it_has_stopped() {
        let mut child = Command::new("sh")
            .args(["-c", "while :; do :; done & while :; do :; done"])
            .stdin(Stdio::null())
            .spawn()
            .expect("sh exists");
        let pid = Pid::from_child(&child);
        let until = |wanted: bool| {
            let begun = Instant::now();
            while walk(&[pid], |_| ()).into_iter().all(is_still) != wanted {
                assert!(begun.elapsed() < Duration::from_secs(10), "never became {wanted}");
                std::thread::yield_now();
            }
        };
        let below = || children_of(pid).expect("it runs");
        let begun = Instant::now();
        while below().is_empty() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        kill_process(pid, Signal::STOP).expect("ours");
        assert!(!walk(&[pid], |_| ()).into_iter().all(is_still), "the one below goes on");
        let grandchildren = below();
        grandchildren.iter().for_each(|pid| kill_process(*pid, Signal::STOP).expect("ours"));
        until(true);
        grandchildren.iter().for_each(|pid| kill_process(*pid, Signal::KILL).expect("ours"));
        child.kill().expect("ours");
        child.wait().expect("ours");
    }
}
