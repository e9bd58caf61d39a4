//! Who this worker is: a name held by a lock file, and an incarnation in the cluster.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use maestro_model::ids::{AgentSlug, Incarnation, WorkerName};
use maestro_store::worker::{AboutProcess, IsolationRecord, ProcessRole};
use maestro_store::{Refusal, Store, StoreError};
use rustix::fs::{FlockOperation, flock};

use crate::confinement::Confinement;
use crate::settings::WorkerSettings;

/// How many names are tried: `host`, `host-2`, …
const NAMES_MAX: u32 = 100;

/// Why a worker has no name.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The name cannot be used as one.
    #[error(transparent)]
    Name(#[from] maestro_model::ids::IdError),
    /// The lock file cannot be made.
    #[error("cannot make the lock file {path}")]
    Lock {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A process on this host has the name.
    #[error("another worker on this host is named `{name}`")]
    Taken {
        /// The name.
        name: String,
    },
    /// The cluster refuses it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A name that no other process of this host can have while this value lives.
#[derive(Debug)]
pub struct HeldName {
    /// The name.
    pub name: WorkerName,
    // The lock lies on the open file and goes with it, also when the process is killed.
    _lock: File,
}

/// This host's name, as a worker name.
pub fn host_name() -> String {
    let text = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let kept: String =
        text.chars().filter(|letter| letter.is_ascii_alphanumeric() || ".-_".contains(*letter)).collect();
    let kept = kept.trim_start_matches(['.', '-']).to_owned();
    if kept.is_empty() { "worker".to_owned() } else { kept }
}

/// Takes the name asked for, or the first free one made of the host's.
///
/// # Errors
/// `Taken` if a name that was asked for is held by another process of this host.
pub fn hold_name(root: &Path, asked: Option<&str>) -> Result<HeldName, IdentityError> {
    if let Some(name) = asked {
        return try_name(root, name)?.ok_or_else(|| IdentityError::Taken { name: name.to_owned() });
    }
    let host = host_name();
    for number in 1..=NAMES_MAX {
        let name = if number == 1 { host.clone() } else { format!("{host}-{number}") };
        if let Some(held) = try_name(root, &name)? {
            return Ok(held);
        }
    }
    Err(IdentityError::Taken { name: host })
}

/// What a worker locks to hold its name.
pub(crate) fn lock_file(root: &Path, name: &str) -> PathBuf {
    root.join(format!(".worker-{name}.lock"))
}

fn try_name(root: &Path, name: &str) -> Result<Option<HeldName>, IdentityError> {
    let name: WorkerName = name.parse()?;
    let path = lock_file(root, name.as_str());
    let failed = |source| IdentityError::Lock { path: path.display().to_string(), source };
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(HeldName { name, _lock: lock })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed(error.into())),
    }
}

/// What this worker says of itself.
pub fn about_worker(settings: &WorkerSettings) -> AboutProcess {
    AboutProcess {
        role: ProcessRole::Worker,
        host: host_name(),
        pid: std::process::id(),
        slots: settings.concurrency as u32,
        version: settings.version.clone(),
        labels: settings.labels.clone(),
        confinement: settings.confinement.as_ref().map(Confinement::words).unwrap_or_default(),
        isolation: settings.confinement.as_ref().map(|confinement| IsolationRecord {
            docker: settings.engine.ask().ok().map(|engine| engine.record()),
            ..confinement.record()
        }),
    }
}

/// Attaches as a new incarnation. A predecessor of this name on this host is dead, since the lock is
/// ours: it is taken over at once.
///
/// # Errors
/// `Refusal::NameTaken` if a process on another host has the name.
pub async fn attach(
    store: &Store,
    settings: &WorkerSettings,
    name: &WorkerName,
    types: &[AgentSlug],
) -> Result<Incarnation, StoreError> {
    let types: Vec<String> = types.iter().map(AgentSlug::to_string).collect();
    let about = about_worker(settings);
    let incarnation = Incarnation::random();
    let attached = store.attach(&incarnation, name.as_str(), &types, settings.lease, false, &about).await;
    match attached {
        Ok(()) => Ok(incarnation),
        Err(StoreError::Refused(Refusal::NameTaken { .. }))
            if holder_is_here(store, name, &about.host).await? =>
        {
            store.attach(&incarnation, name.as_str(), &types, settings.lease, true, &about).await?;
            Ok(incarnation)
        }
        Err(error) => Err(error),
    }
}

async fn holder_is_here(store: &Store, name: &WorkerName, host: &str) -> Result<bool, StoreError> {
    let processes = store.processes().await?;
    let holder = processes.iter().find(|process| process.name == name.as_str() && process.alive);
    Ok(holder.is_none_or(|holder| holder.about.host == host && !is_running(holder.about.pid)))
}

/// Whether a process of that number runs on this host, other than this one, that may be a worker: numbers
/// are used again, and then by another program.
fn is_running(pid: u32) -> bool {
    let Some(other) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return false };
    if pid == std::process::id() || rustix::process::test_kill_process(other) == Err(rustix::io::Errno::SRCH)
    {
        return false;
    }
    let program = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let (theirs, ours) = (program(pid), program(std::process::id()));
    theirs.is_none() || ours.is_none() || theirs == ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_held_by_one_at_a_time() {
        let root = tempfile::tempdir().expect("a folder");
        let first = hold_name(root.path(), Some("alpha")).expect("free");
        assert!(matches!(hold_name(root.path(), Some("alpha")), Err(IdentityError::Taken { .. })));
        drop(first);
        assert!(hold_name(root.path(), Some("alpha")).is_ok());
    }

    #[test]
    fn without_a_wish_the_next_free_name_is_taken() {
        let root = tempfile::tempdir().expect("a folder");
        let first = hold_name(root.path(), None).expect("free");
        let second = hold_name(root.path(), None).expect("free");
        assert_eq!(second.name.to_string(), format!("{}-2", first.name));
    }

    #[test]
    fn a_number_that_another_program_uses_now_is_no_running_worker() {
        assert!(!is_running(std::process::id()), "this process is not another one");
        let mut other = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        // Until it has become the other program, it has our name.
        let comm = format!("/proc/{}/comm", other.id());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::read_to_string(&comm).is_ok_and(|name| name.trim() != "sleep") {
            assert!(std::time::Instant::now() < deadline, "it never became `sleep`");
            std::thread::yield_now();
        }
        assert!(!is_running(other.id()));
        other.kill().expect("it is ours");
        other.wait().expect("it is ours");
        assert!(!is_running(other.id()));
    }
}
