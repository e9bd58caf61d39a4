//! What lies on disk: listing it, measuring it, and removing what nothing needs.

use std::fs;
use std::process::Command;

use super::calls::{done, let_go, refused, set_to_work, wait_for_status};
use crate::support::{ClusterSetup, TestCluster};

fn finished(cluster: &TestCluster, target: &str, script: &str) -> String {
    let task = done(cluster, &["task", "dispatch", script, "--to", target]);
    let id = task["id"].as_str().expect("an id").to_owned();
    wait_for_status(cluster, &id, "completed");
    id
}

/// Fields of the records whose `change` is a word.
fn paths(list: &serde_json::Value, change: &str) -> Vec<String> {
    let matching = list.as_array().expect("a list").iter().filter(|one| one["change"] == change);
    matching.map(|one| one["path"].as_str().expect("a path").to_owned()).collect()
}

#[test]
fn folders_are_listed_measured_and_removed_once_nothing_needs_them() {
    // Two workers share the root: each folder is told and removed once.
    let cluster = TestCluster::start(ClusterSetup { workers: 2, ..ClusterSetup::default() });
    let old = finished(&cluster, "probe", "head -c 300000 /dev/zero > big");
    let dirty = finished(&cluster, "probe", "git init -q . && echo x > draft");
    let busy = set_to_work(&cluster, "probe", "sleep 60");
    let folder = |task: &str| cluster.root().join("probe").join(task).display().to_string();

    let list = done(&cluster, &["workspace", "list", "--agent", "probe"]);
    let found: Vec<&str> =
        list.as_array().expect("a list").iter().filter_map(|one| one["path"].as_str()).collect();
    let mut expected = [folder(&old), folder(&dirty), folder(&busy)];
    expected.sort();
    assert_eq!(found, expected);
    let in_use: Vec<bool> =
        list.as_array().expect("a list").iter().map(|one| one["in_use"] == true).collect();
    assert_eq!(in_use.iter().filter(|used| **used).count(), 1, "{list}");
    let sums = done(&cluster, &["workspace", "du"]);
    assert_eq!((sums[0]["agent"].as_str(), sums[0]["workspaces"].as_u64()), (Some("probe"), Some(3)));
    assert!(sums[0]["bytes"].as_u64().is_some_and(|bytes| bytes > 300_000), "{sums}");

    let rehearsed = done(&cluster, &["workspace", "clean", "probe", "--dry-run"]);
    assert_eq!(paths(&rehearsed, "would be removed"), [folder(&old)]);
    assert!(fs::exists(folder(&old)).expect("readable"));
    let cleaned = done(&cluster, &["workspace", "clean", "probe"]);
    assert_eq!(paths(&cleaned, "removed"), [folder(&old)]);
    let mut kept = paths(&cleaned, "kept");
    kept.sort();
    let mut expected = [folder(&dirty), folder(&busy)];
    expected.sort();
    assert_eq!(kept, expected, "{cleaned}");
    let forced = done(&cluster, &["workspace", "clean", "probe", "--force"]);
    assert_eq!(paths(&forced, "removed"), [folder(&dirty)]);
    assert_eq!(paths(&done(&cluster, &["workspace", "clean", "probe"]), "removed"), [] as [&str; 0]);
    assert_eq!(done(&cluster, &["task", "status", &busy])["status"], "running", "nobody was disturbed");
    let_go(&cluster, &busy);
}

#[test]
fn an_agents_folder_is_emptied_only_if_somebody_means_it() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let assigned = done(&cluster, &["agent", "assign", "probe", "--to-workspace", "site", "--name", "smith"]);
    let folder = assigned["workspace"].as_str().expect("a path").to_owned();
    finished(&cluster, "smith", "echo x > draft");
    let git = Command::new("git").args(["init", "-q"]).arg(format!("{folder}/clone")).status();
    assert!(git.expect("git is there").success());
    fs::write(format!("{folder}/clone/work"), "not committed").expect("written");
    let busy = set_to_work(&cluster, "smith", "sleep 60");

    refused(&cluster, &["workspace", "clean", "smith"], 77);
    let cleaned = done(&cluster, &["workspace", "clean", "smith", "--yes"]);
    wait_for_status(&cluster, &busy, "cancelled");
    assert_eq!(paths(&cleaned, "emptied"), std::slice::from_ref(&folder));
    assert!(cleaned.to_string().contains("git trees with uncommitted work stay"), "{cleaned}");
    assert!(!fs::exists(format!("{folder}/draft")).expect("readable"));
    assert!(fs::exists(format!("{folder}/clone/work")).expect("readable"));
    assert_eq!(paths(&cleaned, "removed").len(), 2, "Maestro's own files of two tasks: {cleaned}");
    done(&cluster, &["workspace", "clean", "smith", "--yes", "--force"]);
    assert_eq!(fs::read_dir(&folder).expect("there").count(), 0);
    finished(&cluster, "smith", "true");
}
