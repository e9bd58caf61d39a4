//! What is said of agents: who works, what is wrong, what they use; and stopping and starting them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::calls::{PATIENCE, done, let_go, refused, set_to_work, wait_for_status};
use crate::support::{ClusterSetup, TestCluster};

/// A cluster with the agents `smith` and `jones`.
fn cluster() -> TestCluster {
    let cluster = TestCluster::start(ClusterSetup::default());
    for name in ["smith", "jones"] {
        done(&cluster, &["agent", "assign", "probe", "--to-workspace", name, "--name", name]);
    }
    cluster
}

/// Lines with the word, as `grep -c` counts them.
fn counted(cluster: &TestCluster, format: &str) -> usize {
    let answer = cluster.maestro(&["agent", "list", "--format", format]);
    answer.out.lines().filter(|line| line.contains("active")).count()
}

#[test]
fn the_word_active_counts_the_agents_that_work() {
    let cluster = cluster();
    for format in ["json", "table", "jsonl", "auto"] {
        assert_eq!(counted(&cluster, format), 0, "{format}");
    }
    let tasks = ["smith", "jones"].map(|name| set_to_work(&cluster, name, "sleep 60 & sleep 60"));
    for format in ["json", "table", "jsonl", "auto"] {
        assert_eq!(counted(&cluster, format), 2, "{format}");
    }
    let smith = cluster.wait_until("a heartbeat to say what it uses", PATIENCE, |_| {
        let list = done(&cluster, &["agent", "list", "--status", "active"]);
        let smith = list.as_array().and_then(|list| list.iter().find(|one| one["id"] == "smith")).cloned();
        let smith = smith.ok_or_else(|| list.to_string())?;
        if smith["processes"] == 3 { Ok(smith) } else { Err(smith.to_string()) }
    });
    assert!(smith["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{smith}");
    assert!(smith["cpu"].is_number() && smith["task"] == tasks[0].as_str(), "{smith}");
    let other = set_to_work(&cluster, "probe", "sleep 60");
    assert_eq!(counted(&cluster, "json"), 3, "a type that works beside its agents is one more");
    for task in tasks.iter().chain([&other]) {
        let_go(&cluster, task);
    }
    assert_eq!(counted(&cluster, "json"), 0);
}

#[test]
fn health_says_what_is_wrong_and_ends_with_it() {
    let mut cluster = cluster();
    let health = |cluster: &TestCluster, id: &str| {
        let answer = cluster.maestro(&["agent", "health", id]);
        (answer.code, answer.out)
    };
    assert_eq!(health(&cluster, "smith"), (0, "status: healthy\n".to_owned()));
    assert_eq!(health(&cluster, "probe"), (0, "status: healthy\n".to_owned()), "a type whose binary answers");
    let folder =
        done(&cluster, &["agent", "show", "smith"])["assignment"].as_str().expect("a path").to_owned();

    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("ours");
    let (code, said) = health(&cluster, "smith");
    assert!(code == 1 && said.contains("reason: workspace is writable by others"), "{said}");
    fs::remove_dir_all(&folder).expect("ours");
    let (code, said) = health(&cluster, "smith");
    assert_eq!((code, said), (1, format!("status: failed\nreason: workspace missing: `{folder}`\n")));
    cluster.wait_until("the list to say so too", PATIENCE, |_| {
        let list = done(&cluster, &["agent", "list", "--status", "failed"]);
        if list[0]["id"] == "smith" { Ok(()) } else { Err(list.to_string()) }
    });
    let again = ["agent", "assign", "probe", "--to-workspace", "fresh", "--name", "smith"];
    assert_eq!(done(&cluster, &again)["change"], "moved");
    assert_eq!(health(&cluster, "smith").0, 0);

    let task = set_to_work(&cluster, "jones", "echo first; echo second; sleep 60");
    let answer = cluster.maestro(&["agent", "health", "jones", "--detail", "--log-lines", "1"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    for line in ["status: healthy", &format!("task: {task}"), "last line: second", "worker: w0"] {
        assert!(answer.out.lines().any(|said| said == line), "{line}: {answer:?}");
    }
    assert_eq!(answer.out.lines().last(), Some("second"), "{answer:?}");
    let record = done(&cluster, &["agent", "health", "jones", "--format", "json"]);
    assert_eq!((record["status"].as_str(), record["kind"].as_str()), (Some("healthy"), Some("agent")));

    cluster.member("w0").kill();
    let said = cluster.wait_until("its worker to be missed", PATIENCE, |_| match health(&cluster, "jones") {
        (1, said) => Ok(said),
        (_, said) => Err(said),
    });
    assert!(said.contains("worker `w0`"), "{said}");
    let (code, said) = health(&cluster, "probe");
    assert!(code == 1 && said.contains("no worker is alive"), "{said}");
    let_go(&cluster, &task);
}

#[test]
fn a_stopped_agent_waits_until_it_is_started_again() {
    let cluster = cluster();
    let order = |verb: &str| {
        let said = done(&cluster, &["agent", verb, "smith"]);
        (said["change"].as_str().expect("a word").to_owned(), said["task"].as_str().map(str::to_owned))
    };
    let first = set_to_work(&cluster, "smith", "sleep 60");
    let waits = done(&cluster, &["task", "dispatch", "sleep 60", "--to", "smith"]);
    let waits = waits["id"].as_str().expect("an id").to_owned();
    assert_eq!(order("stop"), ("stopped".to_owned(), Some(first.clone())));
    wait_for_status(&cluster, &first, "cancelled");
    assert_eq!(order("stop"), ("unchanged".to_owned(), None));
    let said = refused(&cluster, &["task", "dispatch", "true", "--to", "smith"], 75);
    assert!(said.contains("maestro agent restart smith"), "{said}");
    let entry = done(&cluster, &["agent", "show", "smith"]);
    assert_eq!((entry["status"].as_str(), entry["stopped"].as_bool()), (Some("idle"), Some(true)));
    assert_eq!(done(&cluster, &["task", "status", &waits])["status"], "queued");

    assert_eq!(order("restart"), ("restarted".to_owned(), None));
    wait_for_status(&cluster, &waits, "running");
    assert_eq!(order("restart"), ("restarted".to_owned(), Some(waits.clone())));
    wait_for_status(&cluster, &waits, "running");
    let task = done(&cluster, &["task", "status", &waits]);
    assert_eq!(
        (task["failures"].as_u64(), task["losses"].as_u64()),
        (Some(0), Some(0)),
        "nothing is counted"
    );
    done(&cluster, &["agent", "stop", "smith", "--force"]);
    wait_for_status(&cluster, &waits, "cancelled");
    assert_eq!(order("restart").0, "restarted");
    assert_eq!(order("restart").0, "unchanged");
}
