//! A cluster that snapshots are taken of.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{Answer, ClusterSetup, TestCluster};

/// Longest wait for anything here.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster, and where its snapshots go.
pub(super) struct SnapshotScene {
    pub(super) cluster: TestCluster,
    pub(super) folder: tempfile::TempDir,
}

impl SnapshotScene {
    pub(super) fn start(setup: ClusterSetup, env: &[(&'static str, &str)]) -> SnapshotScene {
        let folder = tempfile::Builder::new().prefix("maestro-snapshots-").tempdir().expect("a folder");
        let mut setup = setup;
        setup.env.push(("MAESTRO_SNAPSHOT_DIR", folder.path().join("all").display().to_string()));
        for (name, value) in env {
            setup.env.push((name, value.replace("{folder}", &folder.path().display().to_string())));
        }
        SnapshotScene { cluster: TestCluster::start(setup), folder }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Takes one; what the command says of it.
    pub(super) fn take(&self) -> (serde_json::Value, PathBuf) {
        let answer = self.cluster.maestro(&["state", "snapshot", "--format", "json"]);
        assert_eq!(answer.code, 0, "{answer:?}\n{}", self.cluster.tails());
        let record = json(&answer);
        let path = PathBuf::from(record["file"].as_str().expect("a file"));
        (record, path)
    }

    /// Unpacks one with plain `tar`.
    pub(super) fn unpack(&self, archive: &Path, name: &str) -> PathBuf {
        let folder = self.path(name);
        std::fs::create_dir(&folder).expect("a folder");
        let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&folder).status();
        assert!(status.expect("tar is there").success());
        folder.join("maestro")
    }
}

/// What a call printed, as JSON.
pub(super) fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}
