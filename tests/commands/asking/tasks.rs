//! `maestro task status`, `list` and `cancel`.

use maestro_model::task::Reason;
use maestro_store::step::Ending;

use super::cluster::{COMPLETED, Cluster, failed, message, picture, without_json_times};
use crate::support::PlanSketch;

#[test]
fn a_record_has_every_field_also_before_it_means_anything() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::chain(2));
    let mut record = cluster.ask_json(&["task", "status", "0aaaaaaaaaa1.1"]);
    without_json_times(&mut record);
    insta::assert_snapshot!(record, @r#"{"id":"0aaaaaaaaaa1.1","run":"0aaaaaaaaaa1","workflow":"sketch","step":"step1","agent":"noop","agent_type":"noop","status":"blocked","reason":null,"exit_code":null,"attempt":0,"worker":null,"created_at":"[TIME]","queued_at":null,"started_at":null,"finished_at":null,"message":null,"failures":0,"losses":0,"session":null,"tokens":null,"cost_usd":null,"resets_at":null}"#);
}

#[test]
fn a_failed_task_tells_code_message_and_worker() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::chain(2));
    let worker = cluster.worker("alpha", &["noop"], 4);
    cluster.work(&worker, failed(3), &message("no such file: \u{1b}[31ma.txt"));
    let mut record = cluster.ask_json(&["task", "status", "0aaaaaaaaaa1.0"]);
    without_json_times(&mut record);
    insta::assert_snapshot!(record, @r#"{"id":"0aaaaaaaaaa1.0","run":"0aaaaaaaaaa1","workflow":"sketch","step":"step0","agent":"noop","agent_type":"noop","status":"failed","reason":"exit","exit_code":3,"attempt":1,"worker":"alpha","created_at":"[TIME]","queued_at":"[TIME]","started_at":"[TIME]","finished_at":"[TIME]","message":"no such file: \u001b[31ma.txt","failures":1,"losses":0,"session":null,"tokens":null,"cost_usd":null,"resets_at":null}"#);
    insta::assert_snapshot!(picture(&cluster.ask_table(&["task", "status", "0aaaaaaaaaa1.0"])), @r"
    exit 0
    --- stdout
    id:         0aaaaaaaaaa1.0
    step:       step0
    run:        0aaaaaaaaaa1 (sketch)
    agent:      noop
    status:     failed
    reason:     exit 3
    message:    no such file: a.txt
    attempt:    1
    failures:   1
    losses:     0
    worker:     alpha
    session:    –
    tokens:     –
    cost:       –
    created:    [TIME] ([TOOK] ago)
    queued:     [TIME] ([TOOK] ago)
    started:    [TIME] ([TOOK] ago)
    finished:   [TIME] ([TOOK] ago)
    took:       [TOOK]
    ");
}

#[test]
fn the_name_of_a_worker_that_is_gone_is_still_told() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::new(1));
    let worker = cluster.worker("alpha", &["noop"], 4);
    cluster.work(&worker, COMPLETED, "");
    cluster.wait(cluster.store.detach(&worker.incarnation)).expect("detached");
    assert_eq!(cluster.ask_json(&["worker", "list"]), serde_json::json!([]));
    assert_eq!(cluster.ask_json(&["task", "status", "last"])["worker"], "alpha");
}

#[test]
fn a_list_can_be_narrowed() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::chain(3));
    let worker = cluster.worker("alpha", &["noop"], 4);
    cluster.work(&worker, COMPLETED, "");
    cluster.work(&worker, failed(1), "");
    cluster.submit_sketch("0bbbbbbbbbb1", PlanSketch::new(2));
    let ids = |words: &[&str]| -> Vec<String> {
        let list = cluster.ask_json(&[&["task", "list"], words].concat());
        let list = list.as_array().expect("a list").clone();
        list.iter().map(|task| task["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids(&[]).len(), 5);
    assert_eq!(ids(&[])[0], "0bbbbbbbbbb1.0", "the newest run comes first");
    assert_eq!(ids(&["--status", "failed"]), ["0aaaaaaaaaa1.1"]);
    assert_eq!(ids(&["--status", "skipped", "--status", "completed"]), ["0aaaaaaaaaa1.0", "0aaaaaaaaaa1.2"]);
    assert_eq!(ids(&["--run", "0bb"]).len(), 2);
    assert_eq!(ids(&["--agent", "other"]), [""; 0]);
    let cut = cluster.ask(&["task", "list", "--limit", "2", "--format", "name"]);
    assert_eq!(cut.out, "0bbbbbbbbbb1.0\n0bbbbbbbbbb1.1\n");
    assert_eq!(cut.err, "there are more than these 2: raise `--limit`, or name a run with `--run`\n");
    insta::assert_snapshot!(picture(&cluster.ask_table(&["task", "list", "--run", "0aa"])), @r"
    exit 0
    --- stdout
    ID               STEP    AGENT   STATUS      REASON   ATTEMPT   WORKER   TOOK   AGE
    0aaaaaaaaaa1.0   step0   noop    completed   –              1   alpha    [TOOK]   [TOOK]
    0aaaaaaaaaa1.1   step1   noop    failed      exit 1         1   alpha    [TOOK]   [TOOK]
    0aaaaaaaaaa1.2   step2   noop    skipped     –              0   –        –      [TOOK]
    ");
}

#[test]
fn an_unknown_state_is_refused_with_those_there_are() {
    let cluster = Cluster::new();
    insta::assert_snapshot!(picture(&cluster.ask(&["task", "list", "--status", "done"])), @r"
    exit 2
    --- stderr
    error: invalid value 'done' for '--status <STATUS>'
      [possible values: blocked, queued, running, parked, completed, failed, skipped, cancelled]

    For more information, try '--help'.
    ");
}

#[test]
fn items_that_wait_for_their_step_are_not_shown() {
    let cluster = Cluster::new();
    let mut sketch = PlanSketch::chain(2);
    sketch.tasks[1].items = Some((3, Some(1)));
    cluster.submit_sketch("0aaaaaaaaaa1", sketch);
    let count = || cluster.ask_json(&["task", "list"]).as_array().map(Vec::len);
    assert_eq!(count(), Some(2), "two steps");
    insta::assert_snapshot!(picture(&cluster.ask(&["task", "cancel", "last/step1[0]"])), @r"
    exit 77
    --- stderr
    error: item `step1[0]` cannot be cancelled: its `foreach` does not run

    hint: `maestro task cancel 0aaaaaaaaaa1/step1` cancels the whole step
    ");
    cluster.work(&cluster.worker("alpha", &["noop"], 4), COMPLETED, "");
    assert_eq!(count(), Some(5), "and three items, once their step has started");
}

#[test]
fn a_task_that_waits_is_cancelled_at_once_and_says_why() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::chain(2));
    let words = ["task", "cancel", "last/step0", "--reason", "the wrong branch"];
    insta::assert_snapshot!(picture(&cluster.ask(&words)), @r#"
    exit 0
    --- stdout
    {"id":"0aaaaaaaaaa1.0","step":"step0","status":"cancelled"}
    "#);
    let record = cluster.ask_json(&["task", "status", "last/step0"]);
    assert_eq!(
        (record["status"].as_str(), record["message"].as_str()),
        (Some("cancelled"), Some("the wrong branch"))
    );
    assert_eq!(cluster.ask_json(&["task", "status", "last/step1"])["status"], "skipped");
    insta::assert_snapshot!(picture(&cluster.ask_table(&words)), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.0` (step0) had ended already: it was cancelled
    ");
}

#[test]
fn a_task_that_runs_is_told_to_end() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::new(1));
    let worker = cluster.worker("alpha", &["noop"], 4);
    let grant = cluster.claim(&worker, 1).remove(0);
    let words = ["task", "cancel", "last", "--reason", "enough"];
    insta::assert_snapshot!(picture(&cluster.ask_table(&words)), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.0` (step0) is being cancelled: its agent is told to end
    ");
    insta::assert_snapshot!(picture(&cluster.ask_table(&words)), @r"
    exit 0
    --- stdout
    task `0aaaaaaaaaa1.0` (step0) is being cancelled already
    ");
    assert_eq!(cluster.ask_json(&["task", "status", "last"])["status"], "running");
    cluster.report(&worker, &grant, Ending::Cancelled, "");
    let record = cluster.ask_json(&["task", "status", "last"]);
    assert_eq!((record["status"].as_str(), record["message"].as_str()), (Some("cancelled"), Some("enough")));
}

#[test]
fn the_reason_of_a_failure_is_not_its_exit_code() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::new(1));
    let worker = cluster.worker("alpha", &["noop"], 4);
    let ending = Ending::Failed { reason: Reason::Timeout, exit_code: Some(143), retry_in_ms: None };
    cluster.work(&worker, ending, "");
    let record = cluster.ask_json(&["task", "status", "last"]);
    assert_eq!((record["reason"].as_str(), record["exit_code"].as_i64()), (Some("timeout"), Some(143)));
}
