//! What a task has taken of its model is told with all its attempts: each of them was paid for.

use std::time::Duration;

use maestro_store::runs::RunStatus;

use crate::support::{ClusterSetup, TestCluster};

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

const WITHIN: Duration = Duration::from_secs(30);

#[test]
fn the_tokens_and_the_cost_of_a_retried_task_are_those_of_all_its_attempts() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let said = format!("{}/tests/fixtures/agents/claude", env!("CARGO_MANIFEST_DIR"));
    // Says the same each time, and does not like it the first time.
    cluster.write_agent(
        "speaker",
        &format!(
            "command: [sh, -c, \"cat {said}/plain.jsonl; [ $MAESTRO_ATTEMPT -gt 1 ]\"]\noutput: claude-json\n\
             paths: {{read: [\"{said}\"]}}\n"
        ),
    );
    let run = cluster.submit_text(
        "twice",
        "name: twice\nsteps:\n  - id: once\n    agent: speaker\n    prompt: x\n    continue_on: [failed]\n  \
         - id: again\n    agent: speaker\n    prompt: x\n    retry: {max_attempts: 2, delay: 0.1s}\n",
    );
    assert_eq!(cluster.wait_for_run(&run, WITHIN).status, RunStatus::Completed);
    let status = json(&cluster.maestro(&["workflow", "status", run.as_str(), "--format", "json"]).out);
    let (once, again) = (&status["steps"][0], &status["steps"][1]);
    assert_eq!((once["status"].as_str(), again["status"].as_str()), (Some("failed"), Some("completed")));
    let cost = |of: &serde_json::Value| of["cost_usd"].as_f64().expect("it was told");
    let input = |of: &serde_json::Value| of["tokens"]["input"].as_u64().expect("they were told");
    assert!(cost(once) > 0.0 && (cost(again) - 2.0 * cost(once)).abs() < 1e-9, "{status}");
    assert_eq!(input(again), 2 * input(once), "{status}");
    assert_eq!(input(&status), 3 * input(once), "{status}");
    assert_eq!(again["session"], once["session"], "that of the last attempt");
}
