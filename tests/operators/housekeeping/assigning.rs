//! Making an agent: idempotent, refused where it must be, and pinned to the worker that has the folder.

use std::os::unix::fs::PermissionsExt;

use super::calls::{done, let_go, refused, set_to_work, wait_for_status};
use crate::support::{ClusterSetup, TestCluster};

#[test]
fn an_agent_is_made_once_and_moves_only_while_it_does_nothing() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let assign = |path: &str, further: &[&str]| {
        let words = ["agent", "assign", "probe", "--to-workspace", path, "--name", "smith"];
        done(&cluster, &[&words, further].concat())
    };
    let first = assign("app/../site", &["--role", "review", "--priority", "2"]);
    assert_eq!((first["change"].as_str(), first["worker"].as_str()), (Some("assigned"), Some("w0")));
    let path = first["workspace"].as_str().expect("a path").to_owned();
    assert!(path.starts_with('/') && path.ends_with("/site"), "{path}");
    let mode = std::fs::metadata(&path).expect("it was made").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let again = assign("site", &[]);
    assert_eq!((again["change"].as_str(), again["role"].as_str()), (Some("unchanged"), Some("review")));
    let other = assign("site", &["--role", "tests"]);
    assert_eq!((other["change"].as_str(), other["priority"].as_u64()), (Some("changed"), Some(2)));

    let task = set_to_work(&cluster, "smith", "echo \"$MAESTRO_ROLE\" > role; sleep 60");
    let role = std::fs::read_to_string(format!("{path}/role")).expect("it works there");
    assert_eq!(role, "tests\n");
    let words = ["agent", "assign", "probe", "--to-workspace", "elsewhere", "--name", "smith"];
    assert!(refused(&cluster, &words, 77).contains(&format!("it works on task `{task}`")));
    let_go(&cluster, &task);
    assert_eq!(assign("elsewhere", &[])["change"], "moved");
}

#[test]
fn folders_that_are_maestros_own_are_refused() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let task = set_to_work(&cluster, "probe", "sleep 60");
    let root = cluster.root();
    let above = root.parent().expect("it lies somewhere").to_owned();
    let in_task = root.join("other").join(&task).join("deep");
    for path in [&root, &above, &root.join("probe/x"), &root.join("smith"), &root.join(".runs/x"), &in_task] {
        let path = path.to_str().expect("a plain path");
        let said =
            refused(&cluster, &["agent", "assign", "probe", "--to-workspace", path, "--name", "smith"], 77);
        assert!(said.contains(path), "{said}");
    }
    assert_eq!(done(&cluster, &["agent", "list", "--status", "failed"]), serde_json::json!([]));
    let below = root.join("sites/one");
    let below = below.to_str().expect("a plain path");
    let answer = cluster.maestro(&["agent", "assign", "probe", "--to-workspace", below, "--name", "smith"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.err.contains("lies below the workspace root"), "{answer:?}");
    let twin = cluster.maestro(&["agent", "assign", "probe", "--to-workspace", below, "--name", "jones"]);
    assert!(twin.err.contains("agent `smith` works in"), "{twin:?}");
    let_go(&cluster, &task);
}

#[test]
fn of_several_workers_one_has_to_be_named() {
    let cluster = TestCluster::start(ClusterSetup { workers: 2, ..ClusterSetup::default() });
    let assign = ["agent", "assign", "probe", "--to-workspace", "app"];
    let said = refused(&cluster, &assign, 2);
    assert!(said.contains("`w0` on") && said.contains("`w1` on"), "{said}");
    let named = |worker| [&assign[..], &["--worker", worker]].concat();
    assert!(refused(&cluster, &named("w9"), 66).contains("there is no worker `w9`"));
    let first = done(&cluster, &named("w1"));
    assert_eq!((first["id"].as_str(), first["worker"].as_str()), (Some("probe"), Some("w1")));
    assert_eq!(done(&cluster, &assign)["change"], "unchanged", "it is where it was");
    let task = done(&cluster, &["task", "dispatch", "true", "--to", "probe"]);
    wait_for_status(&cluster, task["id"].as_str().expect("an id"), "completed");
    let task = done(&cluster, &["task", "status", "--last", "probe"]);
    assert_eq!(task["worker"], "w1");
    assert_eq!(done(&cluster, &named("w0"))["change"], "moved");
}

#[test]
fn with_no_worker_alive_there_is_nobody_to_have_the_folder() {
    let cluster = TestCluster::start(ClusterSetup { workers: 0, ..ClusterSetup::default() });
    let said = refused(&cluster, &["agent", "assign", "probe", "--to-workspace", "app"], 75);
    assert!(said.contains("maestro up"), "{said}");
    assert!(refused(&cluster, &["agent", "assign", "prob", "--to-workspace", "app"], 66).contains("`probe`"));
}

#[test]
fn a_program_that_lies_in_the_assigned_folder_is_served_and_found_there() {
    let mut cluster = TestCluster::start(ClusterSetup { workers: 0, ..ClusterSetup::default() });
    cluster.write_agent("tool", "command: [./tool.sh, \"<< prompt >>\"]\n");
    cluster.start_worker("w0");
    cluster.wait_for_worker("w0");
    let folder = cluster.scratch("tools");
    let program = folder.join("tool.sh");
    std::fs::write(&program, "#!/bin/sh\necho \"the tool was told $1\"\n").expect("ours");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("ours");
    let path = folder.to_str().expect("a plain path");
    done(&cluster, &["agent", "assign", "tool", "--to-workspace", path, "--name", "smith"]);
    let words = ["task", "dispatch", "this", "--to", "smith", "--sync", "--timeout", "50"];
    let answer = cluster.maestro(&words);
    assert!(answer.code == 0 && answer.out.contains("the tool was told this"), "{answer:?}");
}
