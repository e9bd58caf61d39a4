//! Whether a process belongs to an attempt.
//!
//! The supervisor of an attempt is a child subreaper, so each of the attempt's processes has it above itself,
//! whatever sessions and daemons they made. The way up is walked when a connection comes, once. A connected
//! socket that one process hands to another is not the door's business: it was given away on purpose.

use rustix::process::Pid;
use tokio::net::UnixStream;

use crate::launch::parent_of;

/// Most processes between an agent's and its supervisor.
const ANCESTORS_MAX: usize = 1024;
/// How often the way is walked: while it is, a parent may end, and its children move up.
const WALKS_MAX: u32 = 3;

/// Whether who is at the other end is a process of this worker's user below `supervisor`.
pub(super) fn is_of_attempt(stream: &UnixStream, supervisor: u32) -> bool {
    let Ok(credentials) = stream.peer_cred() else { return false };
    let (Some(pid), Some(supervisor)) =
        (credentials.pid().and_then(Pid::from_raw), i32::try_from(supervisor).ok().and_then(Pid::from_raw))
    else {
        return false;
    };
    credentials.uid() == rustix::process::geteuid().as_raw()
        && (0..WALKS_MAX).any(|_| is_below(pid, supervisor))
}

fn is_below(pid: Pid, above: Pid) -> bool {
    let mut at = pid;
    for _ in 0..ANCESTORS_MAX {
        match parent_of(at) {
            Some(parent) if parent == above => return true,
            Some(parent) => at = parent,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_below_its_parents_and_nobody_elses() {
        let script = "sleep 60 & echo $!; wait";
        let mut shell =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("a shell exists");
        let mut other = Command::new("sleep").arg("60").spawn().expect("sleep exists");
        let mut line = String::new();
        let output = shell.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("readable");
        let sleeper = line.trim().parse().ok().and_then(Pid::from_raw).expect("a process id");
        let (own, shell_pid) = (rustix::process::getpid(), Pid::from_child(&shell));

        assert!(is_below(sleeper, shell_pid) && is_below(sleeper, own) && is_below(shell_pid, own));
        assert!(!is_below(sleeper, Pid::from_child(&other)) && !is_below(shell_pid, sleeper));
        assert!(!is_below(own, own), "nobody is below itself");

        rustix::process::kill_process(sleeper, rustix::process::Signal::KILL).expect("it is ours");
        other.kill().expect("it is ours");
        shell.wait().expect("it is ours");
        other.wait().expect("it is ours");
        assert!(!is_below(sleeper, shell_pid), "who is gone belongs to nobody");
    }
}
