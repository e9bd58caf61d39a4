//! Whose a container is: the labels it carries, and whether their owner is dead.
//!
//! A worker is alive as long as it holds the lock of its name below its workspace root. Only what another
//! life of a worker of one's own cluster, on this very kernel, has left is anyone's to remove.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The label of the task.
pub(super) const TASK: &str = "maestro.task";
/// The label of the attempt.
pub(super) const ATTEMPT: &str = "maestro.attempt";
/// The label of the folder the agent works in.
pub(super) const WORKSPACE: &str = "maestro.workspace";
const WORKER: &str = "maestro.worker";
const NAMESPACE: &str = "maestro.namespace";
const CLUSTER: &str = "maestro.cluster";
const EPOCH: &str = "maestro.epoch";
const INCARNATION: &str = "maestro.incarnation";
const ROOT: &str = "maestro.root";
const HOST: &str = "maestro.host";

/// Labels that say whose a container or network is.
pub const OWNER_LABELS: [&str; 7] = [WORKER, NAMESPACE, CLUSTER, EPOCH, INCARNATION, ROOT, HOST];

/// The life of a worker that makes containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerOwner {
    /// The worker's name.
    pub worker: String,
    /// The namespace of its keys.
    pub namespace: String,
    /// The cluster's id.
    pub cluster: String,
    /// The epoch it attached in.
    pub epoch: String,
    /// Its incarnation when the process attached first.
    pub incarnation: String,
    /// Its workspace root, where the lock of its name lies.
    pub root: PathBuf,
}

impl ContainerOwner {
    pub(super) fn labels(&self) -> HashMap<String, String> {
        let labels = [
            (WORKER, self.worker.clone()),
            (NAMESPACE, self.namespace.clone()),
            (CLUSTER, self.cluster.clone()),
            (EPOCH, self.epoch.clone()),
            (INCARNATION, self.incarnation.clone()),
            (ROOT, self.root.display().to_string()),
            (HOST, host()),
        ];
        labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The filter of a listing: what workers of this cluster and namespace have made.
    pub(super) fn filter(&self) -> HashMap<String, Vec<String>> {
        let labels = [format!("{CLUSTER}={}", self.cluster), format!("{NAMESPACE}={}", self.namespace)];
        HashMap::from([("label".to_owned(), labels.into())])
    }

    /// Whether these are the labels of this very life.
    pub(super) fn is_own(&self, labels: &HashMap<String, String>) -> bool {
        self.is_of_this_worker(labels) && labels.get(INCARNATION) == Some(&self.incarnation)
    }

    fn is_of_this_worker(&self, labels: &HashMap<String, String>) -> bool {
        let is = |label: &str, value: &str| labels.get(label).is_some_and(|found| found == value);
        is(CLUSTER, &self.cluster)
            && is(NAMESPACE, &self.namespace)
            && is(HOST, &host())
            && is(WORKER, &self.worker)
            && is(ROOT, &self.root.display().to_string())
    }

    /// Whether whoever has these labels is dead for certain. Opens a lock file.
    pub(super) fn is_dead(&self, labels: &HashMap<String, String>) -> bool {
        // The name is held by this process: every other life of it is over.
        if self.is_of_this_worker(labels) {
            return labels.get(INCARNATION) != Some(&self.incarnation);
        }
        let is_ours = labels.get(CLUSTER) == Some(&self.cluster)
            && labels.get(NAMESPACE) == Some(&self.namespace)
            && labels.get(HOST) == Some(&host());
        let (Some(root), Some(worker)) = (labels.get(ROOT), labels.get(WORKER)) else { return false };
        is_ours && lock_is_free(&lock_of(Path::new(root), worker))
    }
}

/// The lock of a worker's name, as `identity` makes it.
fn lock_of(root: &Path, worker: &str) -> PathBuf {
    root.join(format!(".worker-{worker}.lock"))
}

/// One that is not there says nothing: the root may be another's that is not mounted here.
fn lock_is_free(path: &Path) -> bool {
    let Ok(file) = OpenOptions::new().write(true).open(path) else { return false };
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// What tells this kernel from every other, and from itself before a restart.
fn host() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.map(|text| text.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::hold_name;

    fn owner(root: &Path, worker: &str, incarnation: &str) -> ContainerOwner {
        ContainerOwner {
            worker: worker.to_owned(),
            namespace: "maestro".to_owned(),
            cluster: "c1".to_owned(),
            epoch: "1".to_owned(),
            incarnation: incarnation.to_owned(),
            root: root.to_owned(),
        }
    }

    #[test]
    fn only_the_dead_of_the_own_cluster_are_dead() {
        let root = tempfile::tempdir().expect("a folder");
        let elsewhere = tempfile::tempdir().expect("a folder");
        let own = owner(root.path(), "w1", "new");
        let _own_name = hold_name(root.path(), Some("w1")).expect("free");
        assert!(own.is_dead(&owner(root.path(), "w1", "old").labels()), "an earlier life of the name");
        assert!(!own.is_dead(&own.labels()) && own.is_own(&own.labels()));

        let other = owner(elsewhere.path(), "w2", "x").labels();
        assert!(!own.is_dead(&other), "there is no lock to ask");
        let alive = hold_name(elsewhere.path(), Some("w2")).expect("free");
        assert!(!own.is_dead(&other), "it lives");
        drop(alive);
        assert!(own.is_dead(&other), "its lock is free");

        for (label, value) in [(CLUSTER, "c2"), (NAMESPACE, "other"), (HOST, "another kernel")] {
            let mut foreign = other.clone();
            foreign.insert(label.to_owned(), value.to_owned());
            assert!(!own.is_dead(&foreign), "{label}");
        }
        assert!(!own.is_dead(&HashMap::new()), "what carries no labels is nobody's");
    }
}
