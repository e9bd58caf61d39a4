//! What running attempts use: memory, processor time and processes, read from /proc.
//!
//! One pass over all processes serves all attempts, whatever the kernel was built with. Processes are found
//! from an attempt's supervisor, below which everything of it lies; the supervisor itself is not counted.
//! Limits are not here: nothing is ended for what it uses.

use std::collections::HashMap;
use std::fs;

use maestro_store::worker::ProcessCondition;

/// Most processes of one attempt that are counted.
const PROCESSES_MAX: usize = 4096;

/// What a tree of processes uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeUsage {
    /// Resident memory, bytes; what processes share counts for each.
    pub memory_bytes: u64,
    /// Processor time, ms.
    pub cpu_ms: u64,
    /// Processes.
    pub processes: u32,
}

/// All processes of this host at one moment.
#[derive(Debug, Default)]
pub struct ProcessTable {
    lines: HashMap<u32, ProcessLine>,
    children: HashMap<u32, Vec<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProcessLine {
    parent: u32,
    /// A letter: `R` runs, `S` sleeps, `T` is stopped, `Z` is dead and not waited for.
    state: u8,
    /// Its own, and that of children it has waited for.
    ticks: u64,
    pages: u64,
}

impl ProcessTable {
    /// Reads /proc; blocks for some microseconds per process. Without /proc it is empty.
    pub fn read() -> ProcessTable {
        let mut table = ProcessTable::default();
        let Ok(entries) = fs::read_dir("/proc") else { return table };
        for entry in entries.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let stat = fs::read(entry.path().join("stat")).ok();
            if let Some(line) = stat.as_deref().and_then(read_stat) {
                table.children.entry(line.parent).or_default().push(pid);
                table.lines.insert(pid, line);
            }
        }
        table
    }

    /// Whether a process is there and takes signals, by its state at this moment.
    pub fn condition_of(&self, pid: u32) -> ProcessCondition {
        match self.lines.get(&pid).map(|line| line.state) {
            None | Some(b'Z' | b'X') => ProcessCondition::Gone,
            Some(b'T' | b't') => ProcessCondition::Stopped,
            Some(_) => ProcessCondition::Runs,
        }
    }

    /// What an attempt uses, by its first process; none if that is gone.
    pub fn usage_of(&self, first: u32) -> Option<TreeUsage> {
        let supervisor = self.lines.get(&first)?.parent;
        let mut waiting = self.children.get(&supervisor)?.clone();
        let mut sum = TreeUsage::default();
        let (mut pages, mut ticks) = (0, 0);
        while let Some(pid) = waiting.pop() {
            let Some(line) = self.lines.get(&pid) else { continue };
            if sum.processes as usize >= PROCESSES_MAX {
                break;
            }
            sum.processes += 1;
            pages += line.pages;
            ticks += line.ticks;
            waiting.extend(self.children.get(&pid).into_iter().flatten());
        }
        sum.memory_bytes = pages * rustix::param::page_size() as u64;
        sum.cpu_ms = ticks * 1000 / rustix::param::clock_ticks_per_second().max(1);
        Some(sum)
    }
}

/// Parent, times and pages. The name in brackets may hold spaces and brackets, so it is passed over from
/// the right.
fn read_stat(stat: &[u8]) -> Option<ProcessLine> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = str::from_utf8(&stat[name_end + 1..]).ok()?;
    // The third field of the file is the first here.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |place: usize| fields.get(place - 3)?.parse::<i64>().ok().map(|number| number.max(0) as u64);
    let state = *fields.first()?.as_bytes().first()?;
    let ticks = number(14)? + number(15)? + number(16)? + number(17)?;
    Some(ProcessLine { parent: number(4)? as u32, state, ticks, pages: number(24)? })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let line = b"77 (a) b (c) S 12 77 77 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 99 4096 5 18446744073709551615";
        assert_eq!(read_stat(line), Some(ProcessLine { parent: 12, state: b'S', ticks: 100, pages: 5 }));
        assert_eq!(read_stat(b"77 (a"), None);
    }

    #[test]
    fn all_below_the_parent_of_the_first_process_is_counted() {
        // The shell stands for a supervisor: what is below it is one sleeper.
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 60 & sleep 60 & wait"]).stdin(Stdio::null());
        let mut shell = shell.spawn().expect("sh exists");
        let deadline = Instant::now() + Duration::from_secs(10);
        let (first, usage) = loop {
            let table = ProcessTable::read();
            let below = table.children.get(&shell.id()).cloned().unwrap_or_default();
            if let [first, _] = below[..] {
                break (first, table.usage_of(first).expect("it runs"));
            }
            assert!(Instant::now() < deadline, "the shell started {below:?}");
            std::thread::yield_now();
        };
        assert_eq!(usage.processes, 2);
        assert!(usage.memory_bytes > 0, "{usage:?}");
        for pid in ProcessTable::read().children.get(&shell.id()).cloned().unwrap_or_default() {
            let pid = rustix::process::Pid::from_raw(pid as i32).expect("a number");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is ours");
        }
        shell.wait().expect("it is ours");
        assert_eq!(ProcessTable::read().usage_of(first), None);
    }
}
