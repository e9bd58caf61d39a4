//! Another try: of one task, of many, and of a whole run from a step on.

use serde_json::Value;

use crate::support::{ClusterSetup, TestCluster};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Fails until the file `mended` is in the witness folder.
fn fragile(cluster: &TestCluster) -> String {
    let witness = cluster.witness();
    let witness = witness.display();
    format!("echo \"$MAESTRO_STEP_ID\" >> {witness}/ran; test -e {witness}/mended || exit 4; echo mended")
}

fn mend(cluster: &TestCluster) {
    std::fs::write(cluster.witness().join("mended"), "").expect("the folder is ours");
}

/// first → middle (fragile) → last, and beside them `apart`.
fn pipeline(cluster: &TestCluster) -> String {
    let witness = cluster.witness();
    let witness = witness.display();
    format!(
        "name: pipeline\nsteps:\n\
         - {{id: first, agent: probe, prompt: \"echo first >> {witness}/ran; echo one\"}}\n\
         - {{id: apart, agent: probe, prompt: \"echo apart >> {witness}/ran; echo aside\"}}\n\
         - {{id: middle, agent: probe, depends_on: [first], prompt: '{}'}}\n\
         - {{id: last, agent: probe, depends_on: [middle, apart], prompt: \"echo last >> {witness}/ran; \
            echo << steps.first.result | trim | sh >>+<< steps.apart.result | trim | sh >>\"}}\n",
        fragile(cluster)
    )
}

#[test]
fn a_failed_task_gets_another_try_and_what_follows_it_with_downstream() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let path = cluster.write_workflow("pipeline", &pipeline(&cluster));
    let failed = cluster.maestro(&["workflow", "run", path.to_str().expect("a plain path")]);
    assert_eq!(failed.code, 1, "{failed:?}");
    mend(&cluster);
    let planned =
        cluster.maestro(&["task", "retry", "last/middle", "--downstream", "--dry-run", "--format", "json"]);
    assert_eq!(planned.code, 0, "{planned:?}");
    let steps = |text: &str| -> Vec<String> {
        let list = json(text).as_array().cloned().expect("a list");
        list.iter().map(|row| row["step"].as_str().expect("a step").to_owned()).collect()
    };
    assert_eq!(steps(&planned.out), ["middle", "last"]);
    let retried = cluster.maestro(&["task", "retry", "last/middle", "--downstream", "--format", "json"]);
    assert_eq!(retried.code, 0, "{retried:?}");
    assert_eq!(steps(&retried.out), steps(&planned.out));
    let run = json(&cluster.maestro(&["workflow", "runs", "--format", "json"]).out)[0]["id"].clone();
    let waited = cluster.maestro(&["task", "wait", run.as_str().expect("an id"), "--timeout", "30"]);
    assert_eq!(waited.code, 0, "{waited:?}");
    let last = cluster.maestro(&["task", "logs", "last/last"]);
    assert_eq!(last.out, "one+aside\n");
    let ran = cluster.witnessed("ran");
    assert_eq!(ran.iter().filter(|step| *step == "middle").count(), 2);
    assert_eq!(ran.iter().filter(|step| *step == "first").count(), 1);
    let again = cluster.maestro(&["task", "retry", "last/middle"]);
    assert_eq!(again.code, 77, "a completed task may have been used: {again:?}");
    assert!(again.err.contains("--downstream"), "{again:?}");
}

#[test]
fn many_are_tried_again_only_if_somebody_agrees() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let prompt = fragile(&cluster);
    for _ in 0..3 {
        let answer = cluster.maestro(&["task", "dispatch", &prompt, "--to", "probe", "--sync"]);
        assert_eq!(answer.code, 4, "{answer:?}");
    }
    mend(&cluster);
    let words = ["task", "retry", "--status", "failed", "--since", "2h"];
    let dry = cluster.maestro(&[&words[..], &["--dry-run", "--format", "name"]].concat());
    assert_eq!((dry.code, dry.out.lines().count()), (0, 3), "{dry:?}");
    let refused = cluster.maestro(&words);
    assert_eq!(refused.code, 77, "{refused:?}");
    assert!(refused.err.contains("3 tasks of 3 runs will be tried again"), "{refused:?}");
    let retried = cluster.maestro(&[&words[..], &["--yes", "--format", "name"]].concat());
    assert_eq!((retried.code, retried.out.lines().count()), (0, 3), "{retried:?}");
    let ids: Vec<&str> = retried.out.lines().collect();
    let waited = cluster.maestro(&[&["task", "wait"], &ids[..]].concat());
    assert_eq!(waited.code, 0, "{waited:?}");
    let nothing = cluster.maestro(&[&words[..], &["--yes", "--format", "json"]].concat());
    assert_eq!((nothing.code, nothing.out.as_str()), (0, "[]\n"), "{nothing:?}");
    let running = cluster.maestro(&["task", "retry", "--status", "running", "--since", "2h"]);
    assert_eq!(running.code, 2, "{running:?}");
}

#[test]
fn a_resumed_run_runs_what_its_plan_said_and_keeps_the_rest() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let path = cluster.write_workflow("pipeline", &pipeline(&cluster));
    let path = path.to_str().expect("a plain path");
    let failed = cluster.maestro(&["workflow", "run", path]);
    assert_eq!(failed.code, 1, "{failed:?}");
    let early = cluster.maestro(&["workflow", "run", "pipeline", "--resume-from", "nope"]);
    assert_eq!(early.code, 66, "{early:?}");
    mend(&cluster);
    std::fs::remove_file(cluster.witness().join("ran")).expect("it was written");

    let words = ["workflow", "run", "pipeline", "--resume-from", "middle"];
    let planned = cluster.maestro(&[&words[..], &["--dry-run", "--format", "json"]].concat());
    assert_eq!(planned.code, 0, "{planned:?}");
    let rows = json(&planned.out).as_array().cloned().expect("a list");
    let mut planned: Vec<&str> =
        rows.iter().filter(|row| row["runs"] == true).filter_map(|row| row["step"].as_str()).collect();
    let kept: Vec<&str> = rows.iter().filter_map(|row| row["status"].as_str()).collect();
    assert_eq!(kept, ["completed", "completed"]);
    assert_eq!(cluster.witnessed("ran").len(), 0, "a plan runs nothing");

    let resumed = cluster.maestro(&[&words[..], &["--result", "last"]].concat());
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert!(resumed.out.contains("one+aside"), "with the outputs of those that were kept: {resumed:?}");
    assert!(resumed.err.contains("kept as they were: first completed, apart completed"), "{resumed:?}");
    let mut ran = cluster.witnessed("ran");
    ran.sort();
    planned.sort_unstable();
    assert_eq!(ran, planned);

    let kept_log = cluster.maestro(&["task", "logs", "last/first"]);
    assert_eq!((kept_log.code, kept_log.out.as_str()), (0, "one\n"), "{kept_log:?}");
    let nothing = cluster.maestro(&[&words[..], &["--run", "last"]].concat());
    assert_eq!(nothing.code, 0, "a completed run can be resumed where it is named: {nothing:?}");
    let params = cluster.maestro(&[&words[..], &["--param", "a=b"]].concat());
    assert_eq!(params.code, 2, "{params:?}");
}

#[test]
fn a_run_that_goes_on_cannot_be_resumed() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let run = cluster.submit_text("long", "name: long\nsteps:\n- {id: a, agent: probe, prompt: sleep 30}\n");
    let answer = cluster.maestro(&["workflow", "run", "long", "--resume-from", "a"]);
    assert_eq!(answer.code, 77, "{answer:?}");
    assert!(answer.err.contains("has not ended"), "{answer:?}");
    assert_eq!(cluster.maestro(&["task", "cancel", run.as_str()]).code, 0);
    cluster.wait_for_run(&run, std::time::Duration::from_secs(20));
}
