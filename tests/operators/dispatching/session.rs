//! A day at the keyboard: agents are assigned, dispatched to, followed and looked at, as scripts do it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{Answer, ClusterSetup, TestCluster};

/// What stands in for `kilo`: the prompt is its last word, and says how it goes.
const KILO: &str = r#"#!/bin/sh
for word; do prompt=$word; done
case $prompt in
  slow*) until test -e go; do sleep 0.1; done; echo "slowly done" ;;
  fail*) echo "it broke" >&2; exit "${prompt##* }" ;;
  *) echo "done: $prompt" ;;
esac
"#;

/// A cluster whose `kilo` is the stand-in; the folder holds the program.
pub(crate) fn with_kilo(workers: usize) -> (TestCluster, tempfile::TempDir) {
    let folder = tempfile::Builder::new().prefix("stand-in-").tempdir().expect("a folder");
    let program = folder.path().join("kilo");
    fs::write(&program, KILO).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let env = vec![("MAESTRO_KILOCODE_BIN", program.display().to_string())];
    let cluster = TestCluster::start(ClusterSetup { workers: 0, env, ..ClusterSetup::default() });
    for slug in ["code-reviewer", "test-engineer"] {
        // As shipped, but nothing of this machine's user is read.
        cluster.write_agent(
            slug,
            &format!("mode: {slug}\ncommand: [kilo, run, --agent, \"<< agent.mode >>\", \"<< prompt >>\"]\n"),
        );
    }
    let mut cluster = cluster;
    for number in 0..workers {
        cluster.start_worker(&format!("w{number}"));
    }
    for number in 0..workers {
        cluster.wait_for_worker(&format!("w{number}"));
    }
    (cluster, folder)
}

fn lines(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.out.lines().collect()
}

#[test]
fn a_day_at_the_keyboard() {
    let (cluster, _program) = with_kilo(3);
    let assigned = cluster.shell(
        r#"set -eu
        mkdir -p "$HOME/app" "$HOME/docs"
        maestro agent assign code-reviewer --to-workspace "$HOME/app" --name reviewer --worker w0 > /dev/null
        maestro agent assign test-engineer --to-workspace "$HOME/docs" --name tester --worker w1 > /dev/null
        maestro agent assign code-reviewer --to-workspace "$HOME/app" --name reviewer --worker w0"#,
    );
    assert!(assigned.out.contains("unchanged"), "{assigned:?}");

    let reviewed = cluster.shell(
        r#"set -eu
        maestro task dispatch "review the change" --to reviewer --sync > review.json
        jq -r '.status, .results[0].agent, .results[0].result' review.json"#,
    );
    assert_eq!(lines(&reviewed), ["completed", "reviewer", "done: review the change"]);

    let tested = cluster.shell(
        r#"set -eu
        id=$(maestro task dispatch "run the tests" --to tester --depends-on "$(maestro task list --last | jq -r .id)" | jq -r .id)
        maestro task wait "$id" > /dev/null
        maestro task status "$id" | jq -r '.status, .agent, .worker'"#,
    );
    assert_eq!(lines(&tested), ["completed", "tester", "w1"]);

    let polled = cluster.shell(
        r#"set -eu
        maestro task dispatch "slow review" --to reviewer --async | jq -r .id > /dev/null
        maestro task dispatch "slow tests" --to tester --async | jq -r .id > /dev/null
        tries=0
        until [ "$(maestro agent list | grep -c active)" -eq 2 ] || [ "$tries" -gt 60 ]; do
          tries=$((tries + 1)); sleep 0.2
        done
        maestro agent list | grep -c active
        touch "$HOME/app/go" "$HOME/docs/go"
        tries=0
        until [ "$(maestro task status --last reviewer | jq -r .status)" = completed ] \
           && [ "$(maestro task status --last tester | jq -r .status)" = completed ] || [ "$tries" -gt 60 ]; do
          tries=$((tries + 1)); sleep 0.2
        done
        maestro task status --last reviewer | jq -r .status
        maestro agent list --status active | jq length"#,
    );
    assert_eq!(lines(&polled), ["2", "completed", "0"]);
}

#[test]
fn what_an_agent_failed_with_is_passed_on_and_what_waited_for_it_is_skipped() {
    let (cluster, _program) = with_kilo(1);
    let failed = cluster.shell(
        r#"maestro task dispatch "fail with 7" --to code-reviewer --sync > failed.json; echo $?
        jq -r '.status, .results[0].reason, .results[0].exit_code, .results[0].message' failed.json
        maestro task dispatch "never" --to test-engineer --depends-on "$(jq -r .id failed.json)" --sync > skipped.json; echo $?
        jq -r '.status, .results[0].status' skipped.json
        maestro task explain "$(jq -r .id skipped.json)" | jq -r '.status, .details[0]'"#,
    );
    let seen = lines(&failed);
    assert_eq!(seen[..5], ["7", "failed", "exit", "7", "it broke"]);
    assert_eq!(seen[5..9], ["1", "skipped", "skipped", "skipped"]);
    assert!(seen[9].ends_with("had to complete; it failed"), "{seen:?}");
}

#[test]
fn several_targets_are_one_run_whose_results_are_one_document() {
    let (cluster, _program) = with_kilo(2);
    let answer = cluster.shell(
        r#"maestro task dispatch "look at it" --to test-engineer,code-reviewer --sync > both.json; echo $?
        jq -r '.status, (.results | map(.agent) | join(",")), .results[1].result' both.json
        id=$(jq -r .id both.json)
        maestro task status "$id" | jq -r '.status, .workflow, (.steps | length)'
        maestro task wait "$id" | jq -r '.[0].exit'
        maestro task dispatch "after both" --to code-reviewer --depends-on "$id" --sync | jq -r .status
        maestro task dispatch "look at it" --to test-engineer,code-reviewer --sync --format table"#,
    );
    let seen = lines(&answer);
    assert_eq!(seen[..4], ["0", "completed", "test-engineer,code-reviewer", "done: look at it"]);
    assert_eq!(seen[4..9], ["completed", "dispatch", "2", "0", "completed"]);
    assert_eq!(
        seen[9..],
        [
            "## test-engineer (completed)",
            "",
            "done: look at it",
            "",
            "## code-reviewer (completed)",
            "",
            "done: look at it",
        ]
    );
    let whole: Value =
        serde_json::from_str(&cluster.maestro(&["workflow", "runs", "dispatch", "--format", "json"]).out)
            .expect("JSON");
    assert_eq!(whole.as_array().map(Vec::len), Some(3), "each dispatch is a run: {whole}");
}
