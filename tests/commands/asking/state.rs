//! `maestro state`: set, get, list, delete, watch.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use super::cluster::{COMPLETED, Cluster, picture};
use crate::sandbox::Answer;
use crate::support::PlanSketch;

fn state(cluster: &Cluster, words: &[&str]) -> Answer {
    cluster.ask(&[&["state"], words].concat())
}

/// `state set K -` with something on standard input.
fn set_from_input(cluster: &Cluster, key: &str, input: &[u8]) -> Answer {
    let mut command = cluster.command(&["state", "set", key, "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    child.stdin.take().expect("piped").write_all(input).expect("it reads");
    cluster.sandbox.answer(child.wait_with_output().expect("it ends"))
}

#[test]
fn a_value_comes_back_as_it_was_set() {
    let cluster = Cluster::new();
    assert_eq!(state(&cluster, &["set", "branch", "main"]).json()["version"], 1);
    assert_eq!(state(&cluster, &["get", "branch"]).out, "main\n");
    assert_eq!(state(&cluster, &["set", "n", "42", "--json", "--ttl", "0"]).json()["version"], 2);
    assert_eq!(state(&cluster, &["get", "n"]).out, "42\n");
    assert_eq!(
        state(&cluster, &["get", "n", "--format", "json"]).json(),
        serde_json::json!({"key": "n", "value": 42, "version": 2, "ttl": null})
    );
    assert_eq!(state(&cluster, &["set", "minus", "-5"]).code, 0);
    assert_eq!(state(&cluster, &["get", "minus"]).out, "-5\n");
    assert_eq!(set_from_input(&cluster, "text", b"two\nlines\n").code, 0);
    assert_eq!(state(&cluster, &["get", "text"]).out, "two\nlines\n");
    let ttl =
        state(&cluster, &["get", "branch", "--format", "json"]).json()["ttl"].as_f64().expect("seconds");
    assert!((86_000.0..=86_400.0).contains(&ttl), "a day unless it is said: {ttl}");
    insta::assert_snapshot!(picture(&cluster.ask_table(&["state", "set", "branch", "dev"])), @r"
    exit 0
    --- stdout
    `branch` is set (version 5)
    ");
}

#[test]
fn a_version_that_has_changed_is_refused() {
    let cluster = Cluster::new();
    assert_eq!(state(&cluster, &["set", "k", "one", "--if-version", "0"]).code, 0);
    insta::assert_snapshot!(picture(&state(&cluster, &["set", "k", "two", "--if-version", "0"])), @r"
    exit 77
    --- stderr
    error: `k` has a value already: version 1

    hint: read it with `maestro state get k`
    ");
    insta::assert_snapshot!(picture(&state(&cluster, &["set", "k", "two", "--if-version", "7"])), @r"
    exit 77
    --- stderr
    error: `k` has version 1, not 7: somebody wrote it meanwhile

    hint: read it again with `maestro state get k --format json`
    ");
    insta::assert_snapshot!(picture(&state(&cluster, &["set", "none", "two", "--if-version", "7"])), @r"
    exit 77
    --- stderr
    error: `none` has no value now, so none of the version asked for

    hint: `--if-version 0` writes only if there is none
    ");
    assert_eq!(state(&cluster, &["set", "k", "two", "--if-version", "1"]).json()["version"], 2);
}

#[test]
fn what_cannot_be_stored_is_refused_with_its_limit() {
    let cluster = Cluster::new();
    insta::assert_snapshot!(picture(&set_from_input(&cluster, "big", &vec![b'x'; 65_537])), @r"
    exit 2
    --- stderr
    error: the value of `big` has 65537 bytes; the limit is 65536

    hint: put what is large into a file of the workspace, and its name into the state
    ");
    insta::assert_snapshot!(picture(&state(&cluster, &["set", &"k".repeat(513), "x"])), @r"
    exit 2
    --- stderr
    error: the key has 513 bytes; the limit is 512
    ");
    insta::assert_snapshot!(picture(&set_from_input(&cluster, "bytes", b"ab\xff")), @r"
    exit 2
    --- stderr
    error: standard input is not UTF-8: byte 3 does not belong there

    hint: a value is text or JSON of up to 65536 bytes; encode it first
    ");
    insta::assert_snapshot!(picture(&state(&cluster, &["set", "k", "{a: 1}", "--json"])), @r#"
    exit 2
    --- stderr
    error: the value of `k` is not JSON
      caused by: key must be a string at line 1 column 2

    hint: leave `--json` out to store it as text; JSON text stands in quotes: `'"text"'`
    "#);
    insta::assert_snapshot!(picture(&state(&cluster, &["set", "k", "x", "--ttl", "soon"])), @r"
    exit 2
    --- stderr
    error: invalid value 'soon' for '--ttl <TIME>': a number and a unit are expected; write `90s`, `1h30m`, `250ms`, or bare seconds

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(picture(&state(&cluster, &["set", "", "x"])), @r"
    exit 2
    --- stderr
    error: the key is empty

    hint: name it, as in `maestro state get branch`
    ");
    insta::assert_snapshot!(picture(&state(&cluster, &["set", "task:0aaaaaaaaaa1.0:result", "x"])), @r"
    exit 2
    --- stderr
    error: `task:0aaaaaaaaaa1.0:result` is the name of a task's result and cannot be set

    hint: choose a key of another form
    ");
    assert_eq!(state(&cluster, &["list"]).json(), serde_json::json!([]));
}

#[test]
fn what_is_not_there_is_exit_66() {
    let cluster = Cluster::new();
    insta::assert_snapshot!(picture(&state(&cluster, &["get", "nope"])), @r"
    exit 66
    --- stderr
    error: there is no state `nope`

    hint: `maestro state list` lists what there is; values go when their time to live has passed
    ");
    insta::assert_snapshot!(picture(&state(&cluster, &["delete", "nope"])), @r"
    exit 66
    --- stderr
    error: there is no state `nope`

    hint: `maestro state list` lists what there is; values go when their time to live has passed
    ");
}

#[test]
fn a_result_is_read_under_its_name() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::chain(2));
    let output = "{\"result\":\"all is well\",\"outputs\":{}}";
    cluster.work(&cluster.worker("alpha", &["noop"], 4), COMPLETED, output);
    assert_eq!(state(&cluster, &["get", "task:0aaaaaaaaaa1.0:result"]).out, "all is well\n");
    assert_eq!(state(&cluster, &["get", "task:last/step0:result"]).out, "all is well\n");
    insta::assert_snapshot!(picture(&state(&cluster, &["get", "task:last/step1:result"])), @r"
    exit 66
    --- stderr
    error: task `0aaaaaaaaaa1.1` has no result: it is queued

    hint: only a task that completed has one
    ");
    insta::assert_snapshot!(picture(&state(&cluster, &["delete", "task:0aaaaaaaaaa1.0:result"])), @r"
    exit 66
    --- stderr
    error: there is no state `task:0aaaaaaaaaa1.0:result`

    hint: a task's result is a part of its run and goes with it
    ");
}

#[test]
fn a_list_takes_a_glob() {
    let cluster = Cluster::new();
    for key in ["build:1:id", "build:2:id", "other", "a*b"] {
        state(&cluster, &["set", key, "\u{1b}[31mred", "--ttl", "0"]);
    }
    let names = |words: &[&str]| state(&cluster, &[&["list", "--format", "name"], words].concat()).out;
    assert_eq!(names(&[]), "a*b\nbuild:1:id\nbuild:2:id\nother\n");
    assert_eq!(names(&["build:*"]), "build:1:id\nbuild:2:id\n");
    assert_eq!(names(&["*:2:*"]), "build:2:id\n");
    assert_eq!(names(&[r"a\*b"]), "a*b\n");
    assert_eq!(names(&["{other,none}"]), "other\n");
    insta::assert_snapshot!(picture(&cluster.ask_table(&["state", "list", "other"])), @r"
    exit 0
    --- stdout
    KEY     VALUE   VERSION   TTL
    other   red           3   –
    ");
    insta::assert_snapshot!(picture(&state(&cluster, &["list", "[a"])), @r"
    exit 2
    --- stderr
    error: `[a` is not a glob: unclosed character class; missing ']'

    hint: write `build*`, `task:*:result`, `[ab]*` or `{one,two}`, in quotes for the shell
    ");
    insta::assert_snapshot!(picture(&cluster.ask_table(&["state", "delete", "other"])), @r"
    exit 0
    --- stdout
    `other` is deleted
    ");
}

#[test]
fn changes_are_shown_as_they_happen() {
    let cluster = Cluster::new();
    let mut child = cluster.start(&["state", "watch", "b*", "--format", "jsonl", "-v"]);
    // It says on standard error that it watches: what happens after that is seen.
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = String::new();
    errors.read_line(&mut said).expect("text");
    assert_eq!(said, "watching; Ctrl-C ends it\n");
    state(&cluster, &["set", "other", "x"]);
    state(&cluster, &["set", "branch", "main"]);
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut change = || {
        let mut line = String::new();
        lines.read_line(&mut line).expect("text");
        let mut change: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        change["at"].take();
        change
    };
    let set = serde_json::json!({
        "at": null, "event": "set", "key": "branch", "version": 2, "value": "main", "by": "cli"
    });
    assert_eq!(change(), set);
    state(&cluster, &["delete", "branch"]);
    let deleted = serde_json::json!({
        "at": null, "event": "deleted", "key": "branch", "version": null, "value": null, "by": "cli"
    });
    assert_eq!(change(), deleted);
    child.kill().expect("it runs");
    child.wait().expect("reaped");
}
