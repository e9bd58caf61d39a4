//! What incident playbooks rely on: every command with Redis down, a wrong id, twice in a row.

use serde_json::Value;

use crate::support::{ClusterSetup, TestCluster};

/// Commands that ask the cluster, complete as they are.
const ASKING: &[&[&str]] = &[
    &["agent", "list"],
    &["agent", "types"],
    &["agent", "health", "shell"],
    &["task", "dispatch", "true", "--to", "probe"],
    &["task", "list"],
    &["task", "status", "last"],
    &["task", "logs", "last"],
    &["task", "explain", "last"],
    &["task", "wait", "last"],
    &["task", "cancel", "last"],
    &["task", "retry", "last"],
    &["workflow", "list"],
    &["workflow", "runs"],
    &["workflow", "status", "last"],
    &["workflow", "trace", "0abcabcabcab"],
    &["workflow", "stop", "last"],
    &["workflow", "run", "hello"],
    &["workflow", "run", "hello", "--resume-from", "greet"],
    &["events"],
    &["state", "list"],
    &["state", "get", "key"],
    &["queue", "status"],
    &["queue", "pause"],
    &["queue", "resume"],
    &["worker", "list"],
    &["worker", "drain", "w0"],
    &["workspace", "list"],
    &["redis", "flush", "--yes"],
];

fn error_of(err: &str) -> Value {
    let line = err.lines().rfind(|line| line.starts_with("{\"error\"")).unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {err}"))
}

#[test]
fn with_redis_down_every_command_says_where_it_looked_and_ends_with_69() {
    let cluster = TestCluster::start(ClusterSetup { workers: 0, coordinators: 0, ..ClusterSetup::default() });
    let nowhere = cluster.scratch("nowhere").join("redis.sock");
    let url = format!("unix://{}", nowhere.display());
    // Each waits for a Redis that may come up, so they wait together.
    let quoted = |words: &[&str]| words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let calls: String = ASKING
        .iter()
        .enumerate()
        .map(|(number, words)| {
            let words = quoted(words);
            format!("(maestro {words} --redis-url '{url}' --format json 2> err.{number}; echo $? > code.{number}) &\n")
        })
        .collect();
    let answer = cluster.shell(&format!("{calls}wait"));
    assert_eq!(answer.code, 0, "{answer:?}");
    let work = cluster.root().parent().expect("the cluster's folder").join("work");
    for (number, words) in ASKING.iter().enumerate() {
        let read =
            |name: &str| std::fs::read_to_string(work.join(format!("{name}.{number}"))).expect("written");
        let (code, err) = (read("code"), read("err"));
        assert_eq!(code.trim(), "69", "{words:?}: {err}");
        let error = &error_of(&err)["error"];
        let message = error["message"].as_str().expect("a message");
        assert!(
            message.contains("cannot reach redis") && message.contains("redis.sock"),
            "{words:?}: {error}"
        );
        assert!(error["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{words:?}: {error}");
    }
}

#[test]
fn a_wrong_id_is_66_with_a_way_on_whichever_command_it_is_given_to() {
    let cluster = TestCluster::start(ClusterSetup { workers: 0, ..ClusterSetup::default() });
    let table: &[&[&str]] = &[
        &["task", "status", "0zzzzzzzzzzz"],
        &["task", "status", "--last", "nobody"],
        &["task", "logs", "0zzz.1"],
        &["task", "explain", "0zzz/step"],
        &["task", "wait", "0zzz"],
        &["task", "cancel", "0zzz"],
        &["task", "retry", "0zzz"],
        &["task", "dispatch", "go", "--to", "shell", "--depends-on", "0zzz"],
        &["workflow", "status", "0zzz"],
        &["workflow", "logs", "0zzz"],
        &["workflow", "trace", "0zzz"],
        &["workflow", "stop", "0zzz"],
        &["workflow", "run", "no-such-workflow"],
        &["workflow", "show", "no-such-workflow"],
        &["events", "--run", "0zzz"],
        &["state", "get", "no-such-key"],
        &["agent", "show", "nobody"],
        &["agent", "stop", "nobody"],
        &["agent", "health", "nobody"],
        &["worker", "drain", "nobody"],
    ];
    for words in table {
        let answer = cluster.maestro(&[words, &["--format", "json"][..]].concat());
        assert_eq!(answer.code, 66, "{words:?}: {answer:?}");
        let error = &error_of(&answer.err)["error"];
        assert_eq!(error["kind"], "not_found", "{words:?}: {error}");
    }
}

#[test]
fn whatever_is_done_twice_is_well_the_second_time_too() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let answer = cluster.maestro(&["task", "dispatch", "sleep 30", "--to", "probe", "--format", "name"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let id = answer.out.trim();
    let table: &[&[&str]] = &[
        &["queue", "pause"],
        &["queue", "resume"],
        &["task", "cancel", id],
        &["workflow", "stop", id.split('.').next().expect("a run")],
        &["state", "set", "k", "v"],
    ];
    for words in table {
        for time in ["once", "twice"] {
            let answer = cluster.maestro(words);
            assert_eq!(answer.code, 0, "{words:?} {time}: {answer:?}");
        }
    }
}

/// Commands that print lists.
const LISTS: &[&[&str]] = &[
    &["agent", "list"],
    &["agent", "types"],
    &["task", "list"],
    &["workflow", "runs"],
    &["events"],
    &["state", "list"],
    &["queue", "status"],
    &["worker", "list"],
    &["doctor"],
    &["config", "show"],
];

/// With something to list.
fn with_work() -> TestCluster {
    let cluster = TestCluster::start(ClusterSetup::default());
    let answer = cluster.maestro(&["task", "dispatch", "echo hello", "--to", "probe", "--sync"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(cluster.maestro(&["state", "set", "k", "v"]).code, 0);
    cluster
}

#[test]
fn every_list_in_a_pipe_is_json_with_a_record_a_line() {
    let cluster = with_work();
    for words in LISTS {
        let piped = cluster.maestro(words);
        let list: Value =
            serde_json::from_str(&piped.out).unwrap_or_else(|error| panic!("{words:?}: {error}: {piped:?}"));
        let list = list.as_array().unwrap_or_else(|| panic!("{words:?}: no list")).clone();
        assert!(!list.is_empty(), "{words:?}");
        assert_eq!(piped.out.lines().count(), list.len() + 2, "{words:?}: a record a line");
        let yaml = cluster.maestro(&[words, &["--format", "yaml"][..]].concat());
        assert!(yaml.out.starts_with("- "), "{words:?}: {yaml:?}");
    }
}

#[test]
fn every_list_for_people_is_plain_text_and_its_names_are_names() {
    let cluster = with_work();
    for words in LISTS {
        let table = cluster.maestro(&[words, &["--format", "table"][..]].concat());
        assert!(!table.out.is_empty() && !table.out.contains(['\u{1b}', '{']), "{words:?}: {table:?}");
        let names = cluster.maestro(&[words, &["--format", "name"][..]].concat());
        assert!(!names.out.is_empty(), "{words:?}: {names:?}");
        assert!(names.out.lines().all(|line| !line.contains('{')), "{words:?}: {names:?}");
    }
}
