//! Steps that ask for a snapshot: a rollback point in the middle of a workflow.

use std::fs;

use maestro_store::runs::RunStatus;

use crate::restoring::scene::{SOON, json};
use crate::support::{ClusterSetup, TestCluster};

const DEPLOY: &str = "name: deploy\nsteps:\n  \
    - {id: plan, agent: probe, prompt: \"true\", publish: {stage: planned}}\n  \
    - {id: build, agent: probe, depends_on: plan, snapshot: before, prompt: \"true\", publish: {stage: built}}\n  \
    - {id: check, agent: probe, depends_on: build, snapshot: after, prompt: \"true\", publish: {stage: checked}}\n  \
    - {id: tell, agent: probe, depends_on: check, prompt: \"true\"}\n";

#[test]
fn a_workflow_can_go_back_to_before_one_of_its_steps() {
    let mut cluster = TestCluster::start(ClusterSetup::default());
    let run = cluster.submit_text("deploy", DEPLOY);
    let record = cluster.wait_for_run(&run, SOON);
    assert_eq!(record.status, RunStatus::Completed, "{record:?}\n{}", cluster.tails());
    let listed = json(&cluster.maestro(&["state", "snapshots", "--format", "json"]));
    let mut labels: Vec<&str> =
        listed.as_array().expect("a list").iter().filter_map(|one| one["label"].as_str()).collect();
    labels.sort_unstable();
    assert_eq!(labels, ["deploy:build:before", "deploy:check:after"]);
    let ended = |step: &str| {
        let task = json(&cluster.maestro(&["task", "status", &format!("{run}/{step}")]));
        let at = |field: &str| task[field].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        (at("started_at"), at("finished_at"))
    };
    let (before, build) = (ended("build.snapshot-before"), ended("build"));
    assert!(before.1.is_some() && before.1 <= build.0, "the step waits: {before:?} {build:?}");
    let (after, tell) = (ended("check.snapshot-after"), ended("tell"));
    assert!(after.1.is_some() && after.1 <= tell.0, "what follows waits: {after:?} {tell:?}");

    let words = ["state", "rollback", "deploy:build:before", "--no-safety-copy", "--format", "json"];
    json(&cluster.maestro(&words));
    cluster.look_again();
    let record = cluster.wait_for_run(&run, SOON);
    assert_eq!(record.status, RunStatus::Completed, "{record:?}\n{}", cluster.tails());
    let build = json(&cluster.maestro(&["task", "status", &format!("{run}/build")]));
    assert_eq!(build["attempt"], 1, "it had not begun: {build}");
    let stage = cluster.maestro(&["state", "get", "stage", "--format", "table"]);
    assert_eq!(stage.out.trim(), "checked");
}

#[test]
fn without_its_snapshot_a_step_does_not_begin() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let folder = file.path().join("no-folder").display().to_string();
    let env = vec![("MAESTRO_SNAPSHOT_DIR", folder)];
    let cluster = TestCluster::start(ClusterSetup { env, ..ClusterSetup::default() });
    let run = cluster.submit_text("deploy", DEPLOY);
    let record = cluster.wait_for_run(&run, SOON);
    assert_eq!(record.status, RunStatus::Failed, "{record:?}");
    let of = |step: &str| json(&cluster.maestro(&["task", "status", &format!("{run}/{step}")]));
    assert_eq!(of("build")["status"], "skipped");
    let failed = of("build.snapshot-before");
    assert_eq!(failed["status"], "failed", "{failed}");
    let said = failed.to_string();
    assert!(said.contains("no snapshot was taken"), "{said}");
    assert!(fs::metadata(file.path()).is_ok());
}
