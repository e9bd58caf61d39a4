//! A cluster with something to lose: shared state, an assigned folder, and a task that waits for a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Answer, ClusterSetup, TestCluster};

/// Until something that takes a moment has happened.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The cluster, and the snapshot of its first state.
pub(crate) struct Scene {
    pub(crate) cluster: TestCluster,
    pub(crate) snapshot: PathBuf,
    /// The folder of agent `smith`.
    pub(crate) folder: PathBuf,
    /// The task that runs when the snapshot is taken.
    pub(crate) task: String,
}

/// The JSON that a call printed; it has to have succeeded.
pub(crate) fn json(answer: &Answer) -> Value {
    assert_eq!(answer.code, 0, "{answer:?}");
    serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

impl Scene {
    /// State `a` is 1, the folder says `one`, and one task runs.
    pub(crate) fn set() -> Scene {
        Scene::set_with(ClusterSetup::default())
    }

    pub(crate) fn set_with(setup: ClusterSetup) -> Scene {
        let cluster = TestCluster::start(setup);
        let folder = cluster.scratch("smith");
        json(&cluster.maestro(&["state", "set", "a", "1", "--ttl", "2h"]));
        let words = [
            "agent",
            "assign",
            "probe",
            "--to-workspace",
            text(&folder),
            "--name",
            "smith",
            "--worker",
            "w0",
        ];
        json(&cluster.maestro(&words));
        fs::write(folder.join("file"), "one").expect("ours");
        let task = wait_for_go(&cluster);
        let snapshot = cluster.scratch("snapshots").join("first.tar.gz");
        let taken = cluster.maestro(&["state", "snapshot", "--output", text(&snapshot)]);
        assert_eq!(json(&taken)["running"], 1, "{taken:?}");
        Scene { cluster, snapshot, folder, task }
    }

    /// State `a` is 2, `b` is there, the folder says `two` and has a further file, and nothing runs.
    pub(crate) fn go_astray(&self) {
        json(&self.cluster.maestro(&["state", "set", "a", "2"]));
        json(&self.cluster.maestro(&["state", "set", "b", "3"]));
        fs::write(self.folder.join("file"), "two").expect("ours");
        fs::write(self.folder.join("further"), "two").expect("ours");
        let cancelled = self.cluster.maestro(&["task", "cancel", &self.task]);
        assert_eq!(cancelled.code, 0, "{cancelled:?}");
        self.cluster.maestro(&["task", "wait", &self.task]);
    }

    pub(crate) fn restore(&self, further: &[&str]) -> Answer {
        self.cluster
            .maestro(&[&["state", "restore", text(&self.snapshot), "--no-safety-copy"], further].concat())
    }

    pub(crate) fn state(&self, key: &str) -> Option<String> {
        let answer = self.cluster.maestro(&["state", "get", key, "--format", "table"]);
        (answer.code == 0).then(|| answer.out.trim().to_owned())
    }

    /// All is as it was when the snapshot was taken, and the task that ran comes to its end under a higher attempt.
    pub(crate) fn expect_restored(&mut self) {
        self.cluster.look_again();
        assert_eq!(self.state("a").as_deref(), Some("1"), "{}", self.cluster.tails());
        assert_eq!(self.state("b"), None);
        assert_eq!(fs::read_to_string(self.folder.join("file")).expect("there"), "one");
        assert!(!self.folder.join("further").exists());
        self.expect_nothing_beside();
        self.cluster.wait_until("the second attempt", SOON, |_| {
            let attempts = self.cluster.witnessed("attempts");
            if attempts.last().is_some_and(|last| last != "1") {
                Ok(())
            } else {
                Err(format!("{attempts:?}"))
            }
        });
        fs::write(self.cluster.witness().join("go"), "").expect("ours");
        let ended = self.cluster.maestro(&["task", "wait", &self.task, "--timeout", "30"]);
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    /// All is as `go_astray` has left it.
    pub(crate) fn expect_astray(&self) {
        assert_eq!(self.state("a").as_deref(), Some("2"), "{}", self.cluster.tails());
        assert_eq!(self.state("b").as_deref(), Some("3"));
        assert_eq!(fs::read_to_string(self.folder.join("file")).expect("there"), "two");
        assert!(self.folder.join("further").exists());
    }

    /// No folder of a restore is left.
    pub(crate) fn expect_nothing_beside(&self) {
        let mut open = vec![self.cluster.root(), self.folder.parent().expect("it has one").to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                assert!(!name.contains(".restore-"), "{}", entry.path().display());
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open.push(entry.path());
                }
            }
        }
    }
}

/// Dispatches a task that notes its attempt and ends once a file is there; its id, once it runs.
pub(crate) fn wait_for_go(cluster: &TestCluster) -> String {
    let witness = cluster.witness();
    let witness = text(&witness);
    let script = format!(
        "echo \"$MAESTRO_ATTEMPT\" >> {witness}/attempts; echo mine > file; \
         while [ ! -e {witness}/go ]; do sleep 0.05; done"
    );
    let dispatched = json(&cluster.maestro(&["task", "dispatch", &script, "--to", "probe"]));
    let task = dispatched["id"].as_str().expect("a dispatch has an id").to_owned();
    cluster.wait_until("the task to run", SOON, |_| {
        let attempts = cluster.witnessed("attempts");
        if attempts == ["1"] { Ok(()) } else { Err(format!("{attempts:?}")) }
    });
    task
}
