//! A container's processes from outside, where this host sees them: an engine's own signals reach the init
//! alone, which passes them to one process and leaves when that one ends.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::launch::descendants_of;

/// Between two looks at processes that have been told to end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The init of a container. The descriptor means this very process, also when its number is another's.
#[derive(Debug)]
pub(super) struct ContainerInit {
    pid: Pid,
    handle: OwnedFd,
}

impl ContainerInit {
    /// None if the number is not that of the container's init here: the engine runs in another place.
    pub(super) fn find(pid: u32, container: &str) -> Option<ContainerInit> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        groups.contains(container).then_some(ContainerInit { pid, handle })
    }

    /// The agent's first process: the only one that the init itself started.
    pub(super) fn main_pid(&self) -> Option<u32> {
        descendants_of(self.pid).first().map(|pid| pid.as_raw_nonzero().get() as u32)
    }

    /// SIGTERM for all below the init, which stands still until they are gone: it would leave with the first
    /// of them, and take the others along. False if nothing was reached.
    pub(super) async fn terminate(&self) -> bool {
        let below = descendants_of(self.pid);
        if below.is_empty() || pidfd_send_signal(&self.handle, Signal::STOP).is_err() {
            return false;
        }
        for pid in below {
            // One that has ended meanwhile is not an error.
            let _ = kill_process(pid, Signal::TERM);
            let _ = kill_process(pid, Signal::CONT);
        }
        while descendants_of(self.pid).into_iter().any(is_running) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let _ = pidfd_send_signal(&self.handle, Signal::CONT);
        true
    }

    /// Whether it runs no more.
    pub(super) fn has_ended(&self) -> bool {
        !is_running(self.pid)
    }

    /// SIGKILL for the init, and by the kernel for all below it. False if it cannot be reached.
    pub(super) fn kill(&self) -> bool {
        pidfd_send_signal(&self.handle, Signal::KILL).is_ok()
    }
}

/// Whether it has not ended yet: one that its parent has not asked for is still listed.
fn is_running(pid: Pid) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let rest = stat.rsplit(')').next().unwrap_or_default();
    !matches!(rest.trim_start().chars().next(), Some('Z' | 'X') | None)
}
