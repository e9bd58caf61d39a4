//! What may be written for a run or a task, and what is said when there is none of it.

use std::process::Stdio;

use super::cluster::{COMPLETED, Cluster, picture};
use crate::support::PlanSketch;

/// Two runs whose ids begin alike, and one task more than one can mean.
fn cluster() -> Cluster {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::new(1));
    cluster.submit_sketch("0aaaaaaaaaa2", PlanSketch::chain(3));
    cluster.submit_sketch("0bbbbbbbbbb1", PlanSketch::chain(3));
    cluster
}

#[test]
fn a_task_can_be_named_in_every_way() {
    let cluster = cluster();
    let table = [
        ("0aaaaaaaaaa2.1", "0aaaaaaaaaa2.1"),
        ("0aaaaaaaaaa2/step2", "0aaaaaaaaaa2.2"),
        ("0b.1", "0bbbbbbbbbb1.1"),
        ("0bbb/step0", "0bbbbbbbbbb1.0"),
        ("last.2", "0bbbbbbbbbb1.2"),
        ("@latest/step1", "0bbbbbbbbbb1.1"),
        ("0aaaaaaaaaa1", "0aaaaaaaaaa1.0"),
    ];
    for (text, id) in table {
        assert_eq!(cluster.ask_json(&["task", "status", text])["id"], id, "{text}");
    }
}

#[test]
fn the_last_task_is_the_one_that_started_last_in_the_newest_run() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::chain(3));
    assert_eq!(cluster.ask_json(&["task", "status", "last"])["id"], "0aaaaaaaaaa1.0");
    let worker = cluster.worker("alpha", &["noop"], 4);
    cluster.work(&worker, COMPLETED, "");
    // Times have a millisecond: the second task has to start in another one.
    std::thread::sleep(std::time::Duration::from_millis(2));
    cluster.claim(&worker, 1);
    let last = cluster.ask_json(&["task", "status", "--last"]);
    assert_eq!(last["id"], "0aaaaaaaaaa1.1");
    let listed = cluster.ask_json(&["task", "list", "--last"]);
    assert_eq!(listed["id"], "0aaaaaaaaaa1.1", "one record, not a list of one: {listed}");
}

#[test]
fn an_item_can_be_named_by_its_step() {
    let cluster = Cluster::new();
    let mut sketch = PlanSketch::new(2);
    sketch.tasks[1].items = Some((3, None));
    cluster.submit_sketch("0aaaaaaaaaa1", sketch);
    let item = cluster.ask_json(&["task", "status", "last/step1[2]"]);
    assert_eq!((item["id"].as_str(), item["step"].as_str()), (Some("0aaaaaaaaaa1.4"), Some("step1[2]")));
    let wrong = |words: &str| picture(&cluster.ask(&["task", "status", words]));
    insta::assert_snapshot!(wrong("last/step1[3]"), @r"
    exit 66
    --- stderr
    error: step `step1` has no item 3

    hint: its items are numbered from 0 to 2
    ");
    insta::assert_snapshot!(wrong("last/step0[0]"), @r"
    exit 66
    --- stderr
    error: step `step0` has no items: it is not a `foreach`

    hint: write `0aaaaaaaaaa1/step0`
    ");
    insta::assert_snapshot!(wrong("last/step1[x]"), @r"
    exit 2
    --- stderr
    error: `step1[x]` is not a step: a number between `[` and `]` is expected

    hint: an item of a `foreach` is written `sweep[3]`, the first one `sweep[0]`
    ");
}

#[test]
fn what_is_not_there_is_said_with_what_there_is() {
    let cluster = cluster();
    let wrong = |id: &str| picture(&cluster.ask(&["task", "explain", id]));
    insta::assert_snapshot!(wrong("0zz"), @r"
    exit 66
    --- stderr
    error: there is no run `0zz`

    hint: `maestro workflow runs` lists those there are
    ");
    insta::assert_snapshot!(wrong("0zzzzzzzzzzz.1"), @r"
    exit 66
    --- stderr
    error: there is no run `0zzzzzzzzzzz`

    hint: `maestro workflow runs` lists those there are
    ");
    insta::assert_snapshot!(wrong("0bb.3"), @r"
    exit 66
    --- stderr
    error: run `0bbbbbbbbbb1` has no task 3

    hint: its tasks are numbered from 0 to 2
    ");
    insta::assert_snapshot!(wrong("0bb.x"), @r"
    exit 2
    --- stderr
    error: `0bb.x` is not a task: after the dot a number is expected, found `x`

    hint: a task is `<run>.<index>`, `<run>/<step>` or `<run>/<step>[<item>]`
    ");
    insta::assert_snapshot!(wrong("0bb/stepp1"), @r"
    exit 66
    --- stderr
    error: run `0bbbbbbbbbb1` has no step `stepp1`

    hint: did you mean `step1`?
    ");
    insta::assert_snapshot!(wrong("0bb"), @r"
    exit 2
    --- stderr
    error: `0bb` is a run of 3 tasks: which one is meant?

    hint: write `0bbbbbbbbbb1.<index>` or `0bbbbbbbbbb1/<step>`; `maestro workflow status 0bbbbbbbbbb1` lists them
    ");
    insta::assert_snapshot!(wrong("sketch"), @r"
    exit 66
    --- stderr
    error: there is no run `sketch`

    hint: `sketch` is a workflow; its newest run is `0bbbbbbbbbb1`, and `maestro workflow runs sketch` lists all
    ");
}

#[test]
fn a_prefix_of_several_runs_is_refused_with_all_of_them() {
    let cluster = cluster();
    insta::assert_snapshot!(picture(&cluster.ask(&["workflow", "status", "0aaaa"])), @r"
    exit 2
    --- stderr
    error: `0aaaa` begins the ids of 2 runs

    hint: write more of the one you mean:
      0aaaaaaaaaa2  sketch, running, [TOOK] ago
      0aaaaaaaaaa1  sketch, running, [TOOK] ago
    ");
    let answer = cluster.ask(&["workflow", "status", "0aaaa", "--format", "json"]);
    let error: serde_json::Value = serde_json::from_str(&answer.err).expect("JSON");
    assert_eq!(error["error"]["kind"], "usage");
    assert_eq!(error["error"]["details"]["matches"].as_array().map(Vec::len), Some(2));
}

#[test]
fn nothing_to_ask_about_is_no_error_except_for_the_last_of_it() {
    let cluster = Cluster::new();
    for words in [
        ["workflow", "runs"],
        ["workflow", "list"],
        ["task", "list"],
        ["queue", "status"],
        ["worker", "list"],
        ["state", "list"],
    ] {
        assert_eq!(picture(&cluster.ask(&words)), "exit 0\n--- stdout\n[]\n", "{words:?}");
        let table = cluster.ask_table(&words);
        assert_eq!((table.code, table.out.as_str()), (0, ""), "{words:?}");
        assert!(table.err.starts_with("no "), "{words:?}: {}", table.err);
    }
    insta::assert_snapshot!(picture(&cluster.ask(&["workflow", "status", "last"])), @r"
    exit 66
    --- stderr
    error: there is no run yet

    hint: start one with `maestro workflow run <FILE>` or `maestro task dispatch <PROMPT> --to <AGENT>`
    ");
}

#[test]
fn a_redis_that_is_not_there_is_exit_69_for_all() {
    let cluster = Cluster::new();
    let nowhere = format!("unix://{}", cluster.sandbox.path("nowhere.sock").display());
    let calls: [&[&str]; 9] = [
        &["task", "list"],
        &["task", "status", "last"],
        &["task", "logs", "last"],
        &["task", "explain", "last"],
        &["workflow", "runs"],
        &["workflow", "status", "last"],
        &["state", "get", "x"],
        &["queue", "status"],
        &["worker", "list"],
    ];
    let started: Vec<_> = calls
        .iter()
        .map(|words| {
            let mut command = cluster.sandbox.command(&[*words, &["--redis-url", &nowhere]].concat());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
        })
        .collect();
    for (child, words) in started.into_iter().zip(calls) {
        let answer = cluster.sandbox.answer(child.wait_with_output().expect("it ends"));
        assert_eq!((answer.code, answer.out.as_str()), (69, ""), "{words:?}: {}", answer.err);
        assert!(answer.err.starts_with("error: cannot reach redis at `unix://[FOLDER]/nowhere.sock`"));
        assert!(answer.err.contains("hint: start a cluster here with `maestro up`"), "{}", answer.err);
    }
}
