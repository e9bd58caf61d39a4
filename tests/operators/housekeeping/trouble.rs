//! Each command where nothing can be done: what it says, and the code it ends with.

use super::calls::{done, refused};
use crate::support::{ClusterSetup, TestCluster};

#[test]
fn without_redis_every_command_says_where_it_looked() {
    let cluster = TestCluster::start(ClusterSetup { workers: 0, coordinators: 0, ..ClusterSetup::default() });
    let file = cluster.write_workflow("one", "command: [\"true\"]\n");
    let file = file.to_str().expect("a plain path");
    let commands: [&[&str]; 14] = [
        &["agent", "register", file],
        &["agent", "types"],
        &["agent", "show", "x"],
        &["agent", "assign", "probe", "--to-workspace", "x"],
        &["agent", "list"],
        &["agent", "health", "x"],
        &["agent", "stop", "x"],
        &["agent", "restart", "x"],
        &["agent", "reset", "x", "--yes"],
        &["worker", "list"],
        &["worker", "drain", "x"],
        &["workspace", "list"],
        &["workspace", "du"],
        &["workspace", "clean", "x", "--yes"],
    ];
    // Each tries for a few seconds, so all of them do at one time.
    std::thread::scope(|scope| {
        for words in commands {
            let cluster = &cluster;
            scope.spawn(move || {
                let nowhere = ["--redis-url", "unix:///nowhere/redis.sock", "--format", "json"];
                let answer = cluster.maestro(&[words, &nowhere].concat());
                assert_eq!(answer.code, 69, "{words:?}: {answer:?}");
                let last = answer.err.lines().last().expect("an error");
                let said: serde_json::Value = serde_json::from_str(last).expect("errors are JSON too");
                let error = &said["error"];
                assert_eq!(error["kind"], "unavailable", "{words:?}: {said}");
                let message = error["message"].as_str().expect("a message");
                assert!(message.contains("`unix:///nowhere/redis.sock`"), "{words:?}: {said}");
                assert!(error["hint"].is_string(), "{words:?}: {said}");
            });
        }
    });
}

#[test]
fn what_is_not_there_is_66_and_what_cannot_be_now_is_75_or_77() {
    let cluster = TestCluster::start(ClusterSetup { workers: 0, ..ClusterSetup::default() });
    for words in [
        &["agent", "show", "nobody-at-all"][..],
        &["agent", "health", "nobody-at-all"],
        &["agent", "stop", "nobody-at-all"],
        &["agent", "restart", "nobody-at-all"],
        &["agent", "reset", "nobody-at-all", "--yes"],
        &["worker", "drain", "nobody-at-all"],
        &["workspace", "clean", "nobody-at-all", "--yes"],
        &["agent", "register", "nobody-at-all.yaml"],
    ] {
        assert!(refused(&cluster, words, 66).contains("`nobody-at-all"), "{words:?}");
    }
    // On first use the type registers itself.
    assert_eq!(done(&cluster, &["agent", "show", "probe"])["definition"]["slug"], "probe");
    for words in [&["workspace", "list"][..], &["workspace", "clean", "probe"]] {
        assert!(refused(&cluster, words, 75).contains("maestro up"), "{words:?}");
    }
    for verb in ["stop", "restart", "reset"] {
        let said = refused(&cluster, &["agent", verb, "probe"], 77);
        assert!(said.contains("is an agent type"), "{said}");
    }
    let answer = cluster.maestro(&["agent", "health", "probe"]);
    assert_eq!((answer.code, answer.out.as_str()), (1, "status: failed\nreason: no worker is alive\n"));
    let wrong = cluster.write_workflow("wrong", "comand: [x]\n");
    let wrong = wrong.to_str().expect("a plain path");
    let answer = cluster.maestro(&["agent", "register", wrong]);
    assert!(answer.code == 65 && answer.err.contains("did you mean `command`?"), "{answer:?}");
    assert!(
        done(&cluster, &["agent", "types"]).to_string().find("\"wrong\"").is_none(),
        "nothing was stored"
    );
}
