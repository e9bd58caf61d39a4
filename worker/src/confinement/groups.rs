//! Control groups: limits on memory, processes and processors that hold for all of an attempt together.
//!
//! Version 2 where the worker may divide its own group, else the old controllers, each where the worker may make
//! a group below its own. Every worker has one folder of groups, named after it: what an earlier life of it left
//! there is removed when it starts, and so are those of workers that were killed and never came back: a worker
//! that lives holds a lock on its folders. An attempt whose type asks for no limit has no group.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use maestro_model::agent_type::Resources;
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};

use super::group_mounts::{GroupVersion, controller_folders};

/// Length of the span in which processors are shared out, µs.
const CPU_SPAN_US: u64 = 100_000;
/// How often removing a group is tried: a process that was killed may keep it for a moment.
const REMOVE_TRIES_MAX: u32 = 50;
/// Between two tries.
const REMOVE_WAIT: Duration = Duration::from_millis(20);

/// What the name of a worker's folder begins with; sixteen digits follow.
const NAME_PREFIX: &str = "maestro-";
/// Most folders of lost workers that one start removes from one place.
const LOST_WORKERS_MAX: usize = 1024;

/// What a control group can limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limited {
    /// Bytes of memory, swap included where the kernel counts it.
    Memory,
    /// Processes and threads.
    Pids,
    /// Processors.
    Cpus,
}

impl Limited {
    /// All of them.
    pub const ALL: [Limited; 3] = [Limited::Memory, Limited::Pids, Limited::Cpus];

    /// The key in a type's `resources`.
    pub fn key(self) -> &'static str {
        match self {
            Limited::Memory => "memory",
            Limited::Pids => "pids",
            Limited::Cpus => "cpus",
        }
    }

    pub(super) fn controller(self) -> &'static str {
        match self {
            Limited::Memory => "memory",
            Limited::Pids => "pids",
            Limited::Cpus => "cpu",
        }
    }

    /// Whether resources ask for it.
    pub(crate) fn is_wanted(self, resources: &Resources) -> bool {
        match self {
            Limited::Memory => resources.memory_bytes.is_some(),
            Limited::Pids => resources.pids.is_some(),
            Limited::Cpus => resources.cpus.is_some(),
        }
    }
}

/// The folders in which a worker makes groups for its attempts; they go with the last clone.
#[derive(Debug, Clone, Default)]
pub struct ControlGroups {
    inner: Option<Arc<WorkerGroups>>,
}

#[derive(Debug)]
struct WorkerGroups {
    version: GroupVersion,
    /// The worker's own folder for each controller; the same for all of version 2.
    folders: Vec<(Limited, PathBuf)>,
    /// Say that the worker lives, until they are closed.
    _locks: Vec<OwnedFd>,
}

impl ControlGroups {
    /// Makes the folders of a worker. `owner` is what only one worker of this host is at a time.
    pub fn open(owner: &str) -> ControlGroups {
        let digest = Sha256::digest(owner);
        let name = digest[..8].iter().fold(NAME_PREFIX.to_owned(), |name, byte| format!("{name}{byte:02x}"));
        let (version, parents) = controller_folders();
        let (mut folders, mut locks) = (Vec::new(), Vec::new());
        for (limited, parent) in parents {
            let folder = parent.join(&name);
            clear(&folder);
            remove_lost_workers(&parent);
            match make(&folder, version) {
                Ok(()) => {
                    locks.extend(lock(&folder, FlockOperation::NonBlockingLockShared));
                    folders.push((limited, folder));
                }
                Err(error) => tracing::debug!(folder = %folder.display(), "no groups here: {error}"),
            }
        }
        if folders.is_empty() {
            return ControlGroups::default();
        }
        ControlGroups { inner: Some(Arc::new(WorkerGroups { version, folders, _locks: locks })) }
    }

    /// Whether something can be limited here.
    pub fn can_limit(&self, limited: Limited) -> bool {
        self.inner.as_ref().is_some_and(|groups| groups.folder(limited).is_some())
    }

    /// `cgroup v2` or `cgroup v1`; none without groups.
    pub fn name(&self) -> Option<&'static str> {
        self.inner.as_ref().map(|groups| match groups.version {
            GroupVersion::One => "cgroup v1",
            GroupVersion::Two => "cgroup v2",
        })
    }

    /// Groups for one attempt; none if it asks for nothing that can be limited here.
    ///
    /// # Errors
    /// If the kernel refuses a group or a limit.
    pub(crate) fn group(&self, name: &str, resources: &Resources) -> io::Result<Option<AttemptGroup>> {
        let Some(groups) = &self.inner else { return Ok(None) };
        let mut group = AttemptGroup { groups: groups.clone(), folders: Vec::new() };
        for limited in Limited::ALL.into_iter().filter(|limited| limited.is_wanted(resources)) {
            let Some(parent) = groups.folder(limited) else { continue };
            let folder = parent.join(name);
            if !group.folders.contains(&folder) {
                clear(&folder);
                match fs::create_dir(&folder) {
                    // Another worker took this one for lost, in the moment before it had its lock.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        make(parent, groups.version)?;
                        fs::create_dir(&folder)?;
                    }
                    made => made?,
                }
                group.folders.push(folder.clone());
            }
            groups.limit(&folder, limited, resources)?;
        }
        Ok(Some(group).filter(|group| !group.folders.is_empty()))
    }
}

impl WorkerGroups {
    fn folder(&self, limited: Limited) -> Option<&Path> {
        self.folders.iter().find(|(one, _)| *one == limited).map(|(_, folder)| folder.as_path())
    }

    fn limit(&self, folder: &Path, limited: Limited, resources: &Resources) -> io::Result<()> {
        let write = |name: &str, text: String| fs::write(folder.join(name), text);
        let quota = |cpus: f64| ((cpus * CPU_SPAN_US as f64) as u64).max(1_000);
        match (limited, self.version) {
            (Limited::Memory, GroupVersion::One) => {
                let bytes = resources.memory_bytes.unwrap_or(u64::MAX).to_string();
                write("memory.limit_in_bytes", bytes.clone())?;
                // Not every kernel counts swap.
                let _ = write("memory.memsw.limit_in_bytes", bytes);
                Ok(())
            }
            (Limited::Memory, GroupVersion::Two) => {
                write("memory.max", resources.memory_bytes.unwrap_or(u64::MAX).to_string())?;
                let _ = write("memory.swap.max", "0".to_owned());
                // An agent that lost one of its processes for want of memory is not to go on in halves.
                let _ = write("memory.oom.group", "1".to_owned());
                Ok(())
            }
            (Limited::Pids, _) => write("pids.max", resources.pids.unwrap_or(u32::MAX).to_string()),
            (Limited::Cpus, GroupVersion::One) => {
                write("cpu.cfs_period_us", CPU_SPAN_US.to_string())?;
                write("cpu.cfs_quota_us", quota(resources.cpus.unwrap_or(1.0)).to_string())
            }
            (Limited::Cpus, GroupVersion::Two) => {
                write("cpu.max", format!("{} {CPU_SPAN_US}", quota(resources.cpus.unwrap_or(1.0))))
            }
        }
    }
}

impl Drop for WorkerGroups {
    fn drop(&mut self) {
        for (_, folder) in &self.folders {
            clear(folder);
        }
    }
}

/// The groups of one attempt. They go with the value, by when nothing may run in them.
#[derive(Debug)]
pub(crate) struct AttemptGroup {
    groups: Arc<WorkerGroups>,
    folders: Vec<PathBuf>,
}

impl AttemptGroup {
    /// The lists of processes that an agent writes itself into.
    ///
    /// # Errors
    /// If one cannot be opened.
    pub(crate) fn entrances(&self) -> io::Result<Vec<OwnedFd>> {
        let open = |folder: &PathBuf| OpenOptions::new().write(true).open(folder.join("cgroup.procs"));
        self.folders.iter().map(|folder| open(folder).map(OwnedFd::from)).collect()
    }

    /// Whether the kernel killed something in it for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let name = match self.groups.version {
            GroupVersion::One => "memory.oom_control",
            GroupVersion::Two => "memory.events",
        };
        let texts = self.folders.iter().filter_map(|folder| fs::read_to_string(folder.join(name)).ok());
        texts.into_iter().any(|text| oom_kills(&text) > 0)
    }
}

/// The number in the line `oom_kill N`.
fn oom_kills(text: &str) -> u64 {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

impl Drop for AttemptGroup {
    /// Off the attempt's way: the kernel lets go of a group a moment after its last process.
    fn drop(&mut self) {
        let folders: Vec<PathBuf> =
            self.folders.drain(..).filter(|folder| fs::remove_dir(folder).is_err()).collect();
        if folders.is_empty() {
            return;
        }
        thread::spawn(move || {
            for folder in &folders {
                clear(folder);
            }
        });
    }
}

/// Makes a worker's folder, and of version 2 lets those in it be limited.
fn make(folder: &Path, version: GroupVersion) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if version == GroupVersion::Two {
        let all = Limited::ALL.map(|limited| format!("+{}", limited.controller())).join(" ");
        fs::write(folder.join("cgroup.subtree_control"), all)?;
    }
    // A folder that nothing can be moved into would fail every launch.
    File::options().write(true).open(folder.join("cgroup.procs")).map(drop)
}

/// Removes the folders of workers that are gone, as far as nothing runs in them.
fn remove_lost_workers(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let is_workers = |name: &str| {
        let digits = name.strip_prefix(NAME_PREFIX);
        digits.is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|digit| digit.is_ascii_hexdigit()))
    };
    let workers = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_workers));
    for folder in workers.take(LOST_WORKERS_MAX).map(|entry| entry.path()) {
        let Ok(_alone) = lock(&folder, FlockOperation::NonBlockingLockExclusive) else { continue };
        for attempt in fs::read_dir(&folder).into_iter().flatten().flatten() {
            // Not if something runs there, or if it is no group.
            let _ = fs::remove_dir(attempt.path());
        }
        if fs::remove_dir(&folder).is_ok() {
            tracing::debug!(folder = %folder.display(), "removed the control group of a worker that is gone");
        }
    }
}

fn lock(folder: &Path, operation: FlockOperation) -> io::Result<OwnedFd> {
    let file = File::open(folder)?;
    rustix::fs::flock(&file, operation)?;
    Ok(file.into())
}

/// Removes a group and those in it, ending what still runs there.
fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            clear(&entry.path());
        }
    }
    for _ in 0..REMOVE_TRIES_MAX {
        match fs::remove_dir(folder) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => kill_all(folder),
            _ => return,
        }
        thread::sleep(REMOVE_WAIT);
    }
    tracing::warn!(folder = %folder.display(), "a control group cannot be removed");
}

fn kill_all(folder: &Path) {
    if fs::write(folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let list = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in list.lines().filter_map(|line| line.parse().ok()).filter_map(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_for_want_of_memory_are_read_from_both_versions() {
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 31\noom 4\noom_kill 1\noom_group_kill 1\n"), 1);
        assert_eq!(oom_kills("low 0\n"), 0);
    }

    #[test]
    fn folders_of_workers_that_are_gone_are_removed_and_of_others_kept() {
        let place = tempfile::tempdir().expect("a folder");
        let make = |name: &str| {
            let folder = place.path().join(name);
            fs::create_dir_all(&folder).expect("ours");
            folder
        };
        let lost = make("maestro-0123456789abcdef");
        make("maestro-0123456789abcdef/t.1");
        let kept = [
            make("maestro-1123456789abcdef"),
            make("maestro-2123456789abcdef"),
            make("maestro-itself"),
            make("maestro-0123456789abcdefg"),
            make("system.slice"),
        ];
        let _lives = lock(&kept[0], FlockOperation::NonBlockingLockShared).expect("nobody else");
        // As a group refuses to go in which something runs.
        fs::write(kept[1].join("cgroup.procs"), "1").expect("ours");
        remove_lost_workers(place.path());
        assert!(!lost.exists());
        assert!(kept.iter().all(|folder| folder.is_dir()), "{kept:?}");
    }

    #[test]
    fn limits_of_version_two_are_written_as_the_kernel_reads_them() {
        let place = tempfile::tempdir().expect("a folder");
        let folders = Limited::ALL.map(|limited| (limited, place.path().to_owned())).to_vec();
        let inner = Some(Arc::new(WorkerGroups { version: GroupVersion::Two, folders, _locks: Vec::new() }));
        let resources =
            Resources { memory_bytes: Some(1 << 20), cpus: Some(1.5), pids: Some(9), required: true };
        let groups = ControlGroups { inner };
        let group = groups.group("t.1", &resources).expect("it is a folder").expect("limits are asked for");
        let folder = group.folders[0].clone();
        assert_eq!(group.folders.len(), 1, "one group for all");
        let text = |name: &str| fs::read_to_string(folder.join(name)).expect("written");
        assert_eq!((text("memory.max"), text("memory.swap.max")), ("1048576".into(), "0".into()));
        assert_eq!((text("cpu.max"), text("pids.max")), ("150000 100000".into(), "9".into()));
        fs::write(folder.join("memory.events"), "oom_kill 1\n").expect("ours");
        assert!(group.ran_out_of_memory());
        fs::remove_dir_all(&folder).expect("a folder of files is no group");
        assert!(groups.group("t.2", &Resources::default()).expect("nothing to do").is_none());
    }
}
