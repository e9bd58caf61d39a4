//! `maestro workflow create`, `list`, `show`, `delete`, `runs`, `status` and `stop`.

use std::io::{BufRead, BufReader};

use super::cluster::{COMPLETED, Cluster, failed, message, picture, repository, without_json_times};
use crate::support::PlanSketch;

const HELLO: &str = "name: hello\nvars: {who: world}\nsteps:\n  - id: greet\n    agent: shell\n    prompt: echo << vars.who >>\n";

fn cluster() -> Cluster {
    let cluster = Cluster::new();
    cluster.sandbox.write("here/hello.yaml", HELLO);
    cluster
}

#[test]
fn a_changed_definition_is_a_new_version_and_old_ones_stay() {
    let cluster = cluster();
    let create =
        || picture(&cluster.ask_table(&["workflow", "create", "hello", "--definition", "hello.yaml"]));
    insta::assert_snapshot!(create(), @r"
    exit 0
    --- stdout
    workflow `hello` version 1: stored
    ");
    insta::assert_snapshot!(create(), @r"
    exit 0
    --- stdout
    workflow `hello` version 1: unchanged
    ");
    cluster.sandbox.write("here/hello.yaml", HELLO.replace("world", "moon"));
    insta::assert_snapshot!(create(), @r"
    exit 0
    --- stdout
    workflow `hello` version 2: stored
    ");
    let show = |words: &[&str]| cluster.ask_table(&[&["workflow", "show", "hello"], words].concat()).out;
    assert_eq!(show(&["--version", "1"]), HELLO);
    assert_eq!(show(&[]), HELLO.replace("world", "moon"));
    let mut list = cluster.ask_json(&["workflow", "list"]);
    without_json_times(&mut list);
    insta::assert_snapshot!(list, @r#"[{"name":"hello","version":2,"stored_at":"[TIME]","bytes":100}]"#);
}

#[test]
fn variables_beside_a_definition_are_a_part_of_it() {
    let cluster = cluster();
    cluster.sandbox.write("here/vars.json", "{\"who\": \"sun\", \"n\": 2}");
    let create = |file: &str| {
        cluster.ask(&["workflow", "create", "hello", "--definition", "hello.yaml", "--vars", file])
    };
    assert_eq!(create("vars.json").json()["version"], 1);
    assert_eq!(
        cluster.ask_json(&["workflow", "show", "hello"])["vars"],
        serde_json::json!({"who": "sun", "n": 2})
    );
    cluster.sandbox.write("here/broken.json", "{\"who\": }").write("here/list.json", "[1]");
    insta::assert_snapshot!(picture(&create("broken.json")), @r#"
    exit 65
    --- stderr
    error: `broken.json` is not JSON
      caused by: expected value at line 1 column 9

    hint: write an object: `{"branch": "main"}`
    "#);
    insta::assert_snapshot!(picture(&create("list.json")), @r#"
    exit 65
    --- stderr
    error: `list.json` holds a list, where an object of variables is expected

    hint: write `{"branch": "main"}`
    "#);
    insta::assert_snapshot!(picture(&create("missing.json")), @r"
    exit 66
    --- stderr
    error: there is no file `missing.json`
    ");
}

#[test]
fn a_wrong_definition_is_not_stored() {
    let cluster = cluster();
    cluster.sandbox.write("here/wrong.yaml", HELLO.replace("agent: shell", "agent: shel"));
    let words = ["workflow", "create", "hello", "--definition", "wrong.yaml"];
    insta::assert_snapshot!(picture(&cluster.ask(&words)), @r"
    exit 65
    --- stderr
    error: unknown agent type `shel`
     --> wrong.yaml:5:12
      |
    5 |     agent: shel
      |            ^^^^
      |
      = hint: did you mean `shell`?
    ");
    assert_eq!(cluster.ask_json(&["workflow", "list"]), serde_json::json!([]));
    insta::assert_snapshot!(picture(&cluster.ask(&["workflow", "create", "a/b", "--definition", "hello.yaml"])), @r"
    exit 2
    --- stderr
    error: invalid value 'a/b' for '<NAME>': `a/b` is not a workflow name: it has up to 128 letters, digits, `.`, `_` and `-`, and does not begin with `.` or `-`

    For more information, try '--help'.
    ");
}

#[test]
fn another_name_than_its_own_is_warned_about() {
    let cluster = cluster();
    let words = ["workflow", "create", "other", "--definition", "hello.yaml", "--format", "table"];
    insta::assert_snapshot!(picture(&cluster.ask(&words)), @r"
    exit 0
    --- stdout
    workflow `other` version 1: stored
    --- stderr
    warning: the definition calls itself `hello`; it is stored as `other`, its runs are listed as `hello`
    ");
}

#[test]
fn every_shipped_workflow_can_be_stored() {
    let cluster = cluster();
    let folder = repository().join("workflows");
    for entry in folder.read_dir().expect("the folder is in the source") {
        let path = entry.expect("readable").path();
        let file = path.to_str().expect("text");
        let answer = cluster.ask(&["workflow", "create", "shipped", "--definition", file]);
        assert_eq!(answer.code, 0, "{file}: {}", answer.picture());
    }
}

#[test]
fn what_is_not_stored_is_said_with_what_is() {
    let cluster = cluster();
    assert_eq!(cluster.ask(&["workflow", "create", "hello", "--definition", "hello.yaml"]).code, 0);
    insta::assert_snapshot!(picture(&cluster.ask(&["workflow", "show", "helo"])), @r"
    exit 66
    --- stderr
    error: no workflow `helo` is stored

    hint: did you mean `hello`?
    ");
    insta::assert_snapshot!(picture(&cluster.ask(&["workflow", "show", "hello", "--version", "2"])), @r"
    exit 66
    --- stderr
    error: workflow `hello` has no version 2

    hint: it has version 1 alone
    ");
    insta::assert_snapshot!(picture(&cluster.ask(&["workflow", "delete", "zzz"])), @r"
    exit 66
    --- stderr
    error: no workflow `zzz` is stored

    hint: `maestro workflow list` lists those there are
    ");
    insta::assert_snapshot!(picture(&cluster.ask_table(&["workflow", "delete", "hello"])), @r"
    exit 0
    --- stdout
    workflow `hello` is deleted
    ");
    assert_eq!(cluster.ask(&["workflow", "show", "hello"]).code, 66);
}

/// A run with a completed, a failed and a skipped step, and a `foreach` with three items.
fn mixed() -> Cluster {
    let cluster = Cluster::new();
    let mut sketch = PlanSketch::new(4).needs(3, &[1]);
    sketch.tasks[2].items = Some((3, None));
    cluster.submit_sketch("0aaaaaaaaaa1", sketch);
    let worker = cluster.worker("alpha", &["noop"], 4);
    for grant in cluster.claim(&worker, 64) {
        match grant.task.index {
            1 => cluster.report(&worker, &grant, failed(3), &message("no such file")),
            4 => cluster.report(&worker, &grant, failed(1), ""),
            0 | 5 => cluster.report(&worker, &grant, COMPLETED, ""),
            _ => {}
        }
    }
    cluster
}

#[test]
fn a_run_is_shown_with_its_steps_and_a_foreach_with_counts() {
    let cluster = mixed();
    insta::assert_snapshot!(picture(&cluster.ask_table(&["workflow", "status", "last"])), @r"
    exit 0
    --- stdout
    run:        0aaaaaaaaaa1
    workflow:   sketch
    status:     running
    tasks:      7: 2 completed, 2 failed, 1 skipped, 2 open
    created:    [TIME] ([TOOK] ago)
    finished:   –
    took:       [TOOK]
    worker:     –

    STEP    AGENT   STATUS      ITEMS           ATTEMPT   TOOK   WORKER   WHY
    step0   noop    completed   –                     1   [TOOK]   alpha    –
    step1   noop    failed      –                     1   [TOOK]   alpha    exit 3: no such file
    step2   noop    running     1/3, 1 failed         1   [TOOK]   –        –
    step3   noop    skipped     –                     0   –      –        –
    ");
    let mut record = cluster.ask_json(&["workflow", "status", "last"]);
    without_json_times(&mut record);
    record["bytes"] = serde_json::Value::Null;
    insta::assert_snapshot!(record, @r#"{"id":"0aaaaaaaaaa1","workflow":"sketch","status":"running","reason":null,"note":null,"tasks":{"total":7,"open":2,"completed":2,"failed":2,"skipped":1,"cancelled":0},"worker":null,"concurrency":null,"created_at":"[TIME]","finished_at":null,"bytes":null,"tokens":null,"cost_usd":null,"steps":[{"id":"0aaaaaaaaaa1.0","run":"0aaaaaaaaaa1","workflow":"sketch","step":"step0","agent":"noop","agent_type":"noop","status":"completed","reason":null,"exit_code":0,"attempt":1,"worker":"alpha","created_at":"[TIME]","queued_at":"[TIME]","started_at":"[TIME]","finished_at":"[TIME]","message":null,"failures":0,"losses":0,"session":null,"tokens":null,"cost_usd":null,"resets_at":null},{"id":"0aaaaaaaaaa1.1","run":"0aaaaaaaaaa1","workflow":"sketch","step":"step1","agent":"noop","agent_type":"noop","status":"failed","reason":"exit","exit_code":3,"attempt":1,"worker":"alpha","created_at":"[TIME]","queued_at":"[TIME]","started_at":"[TIME]","finished_at":"[TIME]","message":"no such file","failures":1,"losses":0,"session":null,"tokens":null,"cost_usd":null,"resets_at":null},{"id":"0aaaaaaaaaa1.2","run":"0aaaaaaaaaa1","workflow":"sketch","step":"step2","agent":"noop","agent_type":"noop","status":"running","reason":null,"exit_code":null,"attempt":1,"worker":null,"created_at":"[TIME]","queued_at":"[TIME]","started_at":"[TIME]","finished_at":null,"message":null,"failures":0,"losses":0,"session":null,"tokens":null,"cost_usd":null,"resets_at":null,"items":{"total":3,"open":1,"completed":1,"failed":1,"cancelled":0}},{"id":"0aaaaaaaaaa1.3","run":"0aaaaaaaaaa1","workflow":"sketch","step":"step3","agent":"noop","agent_type":"noop","status":"skipped","reason":null,"exit_code":null,"attempt":0,"worker":null,"created_at":"[TIME]","queued_at":null,"started_at":null,"finished_at":"[TIME]","message":null,"failures":0,"losses":0,"session":null,"tokens":null,"cost_usd":null,"resets_at":null}]}"#);
}

#[test]
fn runs_are_listed_newest_first_and_by_workflow() {
    let cluster = mixed();
    cluster.submit_sketch("0bbbbbbbbbb1", PlanSketch::new(1));
    let name = |words: &[&str]| cluster.ask(&[&["workflow", "runs", "--format", "name"], words].concat());
    assert_eq!(name(&[]).out, "0bbbbbbbbbb1\n0aaaaaaaaaa1\n");
    assert_eq!(name(&["sketch"]).out, "0bbbbbbbbbb1\n0aaaaaaaaaa1\n");
    assert_eq!(name(&["other"]).out, "");
    let cut = name(&["--limit", "1"]);
    assert_eq!(
        (cut.out.as_str(), cut.err.as_str()),
        ("0bbbbbbbbbb1\n", "there are more than these 1: raise `--limit`\n")
    );
    insta::assert_snapshot!(picture(&cluster.ask_table(&["workflow", "runs"])), @r"
    exit 0
    --- stdout
    ID             WORKFLOW   STATUS    DONE   FAILED   TOOK   AGE
    0bbbbbbbbbb1   sketch     running    0/1        0   [TOOK]   [TOOK]
    0aaaaaaaaaa1   sketch     running    2/7        2   [TOOK]   [TOOK]
    ");
}

#[test]
fn a_run_is_stopped_by_id_and_all_of_a_workflow_by_name() {
    let cluster = Cluster::new();
    for run in ["0aaaaaaaaaa1", "0aaaaaaaaaa2", "0bbbbbbbbbb1"] {
        cluster.submit_sketch(run, PlanSketch::chain(2));
    }
    let stop = |words: &[&str]| picture(&cluster.ask_table(&[&["workflow", "stop"], words].concat()));
    insta::assert_snapshot!(stop(&["0bb", "--reason", "not needed"]), @r"
    exit 0
    --- stdout
    run `0bbbbbbbbbb1` (sketch) is being stopped: its agents are told to end
    ");
    insta::assert_snapshot!(stop(&["0bb"]), @r"
    exit 0
    --- stdout
    run `0bbbbbbbbbb1` (sketch) had ended already: it was cancelled
    ");
    let record = cluster.ask_json(&["workflow", "status", "0bb"]);
    assert_eq!((record["status"].as_str(), record["note"].as_str()), (Some("cancelled"), Some("not needed")));
    insta::assert_snapshot!(stop(&["sketch"]), @r"
    exit 0
    --- stdout
    run `0aaaaaaaaaa2` (sketch) is being stopped: its agents are told to end
    run `0aaaaaaaaaa1` (sketch) is being stopped: its agents are told to end
    ");
    insta::assert_snapshot!(stop(&["sketch"]), @r"
    exit 66
    --- stderr
    error: no run of workflow `sketch` goes on: all 3 runs have ended
    ");
    insta::assert_snapshot!(stop(&["nothing"]), @r"
    exit 66
    --- stderr
    error: there is no run `nothing`

    hint: `maestro workflow runs` lists those there are
    ");
}

#[test]
fn a_run_can_be_watched_from_its_beginning_to_its_end() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::chain(2));
    let worker = cluster.worker("alpha", &["noop"], 4);
    cluster.work(&worker, COMPLETED, "");
    let mut child = cluster.start(&["workflow", "status", "last", "--watch"]);
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next =
        || lines.next().expect("a line").expect("text").split_once(' ').expect("a time").1.to_owned();
    assert_eq!(next(), "step0 started (attempt 1, worker alpha)");
    // It watches: only now the run ends.
    cluster.work(&worker, failed(3), &message("no such file"));
    assert!(next().starts_with("step0 completed in "));
    assert_eq!(next(), "step1 started (attempt 1, worker alpha)");
    assert!(next().ends_with(": exit 3: no such file"));
    assert!(next().contains("failed"), "the run as a whole");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0), "the code says nothing about the run");
}
