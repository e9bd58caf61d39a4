//! Starting over: an assigned folder is emptied after a copy, and only if somebody means it.

use std::fs;
use std::process::Command;

use super::calls::{done, refused, set_to_work, wait_for_status};
use crate::support::{ClusterSetup, TestCluster};

#[test]
fn a_reset_asks_copies_and_sets_up_anew() {
    let snapshots = tempfile::tempdir().expect("a folder");
    let env = vec![("MAESTRO_SNAPSHOT_DIR", snapshots.path().display().to_string())];
    let mut cluster = TestCluster::start(ClusterSetup { workers: 0, env, ..ClusterSetup::default() });
    let template = cluster.scratch("template");
    fs::write(template.join("README"), "start here").expect("written");
    let template = template.display();
    cluster.write_agent(
        "writer",
        &format!("command: [sh, -e, \"<< prompt >>\"]\nprompt_via: file\nworkspace_template: {template}\n"),
    );
    cluster.start_worker("w0");
    cluster.wait_for_worker("w0");
    let assigned = done(&cluster, &["agent", "assign", "writer", "--to-workspace", "site"]);
    let folder = assigned["workspace"].as_str().expect("a path").to_owned();
    let task = set_to_work(&cluster, "writer", "echo draft > draft; sleep 60");

    let said = refused(&cluster, &["agent", "reset", "writer"], 77);
    assert!(said.contains("--yes"), "{said}");
    let rehearsed = done(&cluster, &["agent", "stop", "writer"]);
    assert_eq!(rehearsed["task"], task.as_str());
    let rehearsed = done(&cluster, &["agent", "reset", "writer", "--dry-run"]);
    assert_eq!((rehearsed["change"].as_str(), rehearsed["removed"].as_u64()), (Some("rehearsed"), Some(2)));
    assert!(fs::exists(format!("{folder}/draft")).expect("readable"), "a rehearsal removes nothing");
    done(&cluster, &["agent", "restart", "writer"]);

    let second = set_to_work(&cluster, "writer", "sleep 60");
    let reset = done(&cluster, &["agent", "reset", "writer", "--yes"]);
    assert_eq!((reset["change"].as_str(), reset["task"].as_str()), (Some("reset"), Some(second.as_str())));
    let left: Vec<String> = fs::read_dir(&folder)
        .expect("there")
        .map(|entry| entry.expect("one").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(left, ["README"]);
    let copy = reset["safety_copy"].as_str().expect("a copy");
    assert!(
        copy.starts_with(&snapshots.path().join("auto/pre-reset-writer-").display().to_string()),
        "{copy}"
    );
    let listed = Command::new("tar").args(["-tzf", copy]).output().expect("tar is there");
    assert!(String::from_utf8_lossy(&listed.stdout).lines().any(|name| name == "draft"));

    let third = done(&cluster, &["task", "dispatch", "test -f README", "--to", "writer"]);
    wait_for_status(&cluster, third["id"].as_str().expect("an id"), "completed");
    let again = done(&cluster, &["agent", "reset", "writer", "--yes", "--no-safety-copy"]);
    assert_eq!(again["safety_copy"], serde_json::Value::Null);
}
