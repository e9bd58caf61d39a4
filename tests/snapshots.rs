//! Taking snapshots with real processes: what is in them, what they agree with, and who goes on when somebody dies.
//!
//! - `plain`: plain tools read them, and a plain Redis holds the same keys
//! - `load`: agents at work on several hosts' folders, seen at one instant
//! - `kills`: the command and a worker are killed at every step

#[path = "snapshots/kills.rs"]
mod kills;
#[path = "snapshots/load.rs"]
mod load;
#[path = "snapshots/plain.rs"]
mod plain;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::{Answer, ClusterSetup, TestCluster};

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster, and where its snapshots go.
struct SnapshotScene {
    cluster: TestCluster,
    folder: tempfile::TempDir,
}

impl SnapshotScene {
    fn start(setup: ClusterSetup, env: &[(&'static str, &str)]) -> SnapshotScene {
        let folder = tempfile::Builder::new().prefix("maestro-snapshots-").tempdir().expect("a folder");
        let mut setup = setup;
        setup.env.push(("MAESTRO_SNAPSHOT_DIR", folder.path().join("all").display().to_string()));
        for (name, value) in env {
            setup.env.push((name, value.replace("{folder}", &folder.path().display().to_string())));
        }
        SnapshotScene { cluster: TestCluster::start(setup), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Takes one; what the command says of it.
    fn take(&self) -> (serde_json::Value, PathBuf) {
        let answer = self.cluster.maestro(&["state", "snapshot", "--format", "json"]);
        assert_eq!(answer.code, 0, "{answer:?}\n{}", self.cluster.tails());
        let record = json(&answer);
        let path = PathBuf::from(record["file"].as_str().expect("a file"));
        (record, path)
    }

    /// Unpacks one with plain `tar`.
    fn unpack(&self, archive: &Path, name: &str) -> PathBuf {
        let folder = self.path(name);
        std::fs::create_dir(&folder).expect("a folder");
        let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&folder).status();
        assert!(status.expect("tar is there").success());
        folder.join("maestro")
    }
}

/// What a call printed, as JSON.
fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}
