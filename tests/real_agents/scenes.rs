//! Each program through each kind of answer, all in one run: what its task's record says in the end.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::answers::{ERROR_TEXT, RESET_SECONDS, answer_text};
use crate::programs::{AgentBench, PROGRAMS, step_env};

/// Until every program has been through every scene, on a busy machine.
const WITHIN: Duration = Duration::from_secs(280);
/// How far a reset may be from what the model said: some programs tell it by the minute.
const RESET_SLACK_SECONDS: i64 = 200;

const SCENES: [&str; 5] = ["plain", "error", "limit", "slow", "garbage"];

fn workflow() -> String {
    let mut text = "name: scenes\nsteps:\n".to_owned();
    for (program, agent) in PROGRAMS {
        for scene in SCENES {
            text.push_str(&format!(
                "  - id: {program}-{scene}\n    agent: {agent}\n    env: {}\n    continue_on: [failed]\n    \
                 prompt: \"scene:{scene} Say the answer.\"\n",
                step_env(program)
            ));
        }
    }
    text
}

#[test]
fn every_kind_of_answer_ends_as_it_should_with_every_program() {
    let Some(bench) = AgentBench::start("the four agent programs in every scene") else { return };
    let began = Timestamp::now();
    let run = bench.cluster.submit_text("scenes", &workflow());
    bench.cluster.wait_for_run(&run, WITHIN);
    let status = bench.cluster.maestro(&["workflow", "status", run.as_str(), "--format", "json"]);
    let status: Value = serde_json::from_str(&status.out).expect("JSON");
    let story = bench.cluster.story(&run);
    let mut wrong = Vec::new();
    for (place, step) in status["steps"].as_array().expect("steps").iter().enumerate() {
        let (program, scene) = step["step"].as_str().and_then(|id| id.split_once('-')).expect("named so");
        let result = story.outputs[place].as_ref().and_then(|output| output.outputs.as_ref());
        let result = result.and_then(|output| output.result.as_str()).unwrap_or_default();
        if let Some(fault) = fault_of(program, scene, step, result, began) {
            wrong.push(format!("{program} {scene}: {fault}: {step}"));
        }
        keep_fixture(&bench, program, scene, step);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with a step's record.
fn fault_of(program: &str, scene: &str, step: &Value, result: &str, began: Timestamp) -> Option<String> {
    let message = step["message"].as_str().unwrap_or_default();
    if step["session"].as_str().is_none_or(str::is_empty) {
        return Some("no session".to_owned());
    }
    match scene {
        "plain" | "slow" => {
            let tokens = step["tokens"]["input"].as_u64().unwrap_or(0);
            (step["status"] != "completed" || result != answer_text(program) || tokens < 150)
                .then(|| format!("expected `{}`, found `{result}`", answer_text(program)))
        }
        "limit" => {
            let resets: Option<Timestamp> = step["resets_at"].as_str().and_then(|at| at.parse().ok());
            let ahead = resets.map(|at| at.duration_since(began).as_secs());
            let expected = RESET_SECONDS as i64;
            let near = ahead.is_some_and(|ahead| (ahead - expected).abs() <= RESET_SLACK_SECONDS);
            (step["reason"] != "budget" || !near || !message.starts_with("usage limit until "))
                .then(|| format!("expected a limit for {expected} s, found {ahead:?}"))
        }
        "error" => (step["status"] != "failed" || step["reason"] != "exit" || !message.contains(ERROR_TEXT))
            .then(|| "expected the provider's words".to_owned()),
        _ => (step["status"] != "failed" || step["reason"] != "exit" || message.is_empty())
            .then(|| "expected a failure".to_owned()),
    }
}

/// With MAESTRO_KEEP_FIXTURES set to a folder, what the programs printed is kept there for `tests/fixtures/agents`.
fn keep_fixture(bench: &AgentBench, program: &str, scene: &str, step: &Value) {
    let Some(folder) = std::env::var_os("MAESTRO_KEEP_FIXTURES") else { return };
    let agent = PROGRAMS.iter().find(|(name, _)| *name == program).expect("one of them").1;
    let task = step["id"].as_str().expect("a task has an id");
    let log = bench.cluster.root().join(agent).join(format!("{task}.maestro/agent.log"));
    let log = std::fs::read_to_string(log).unwrap_or_default();
    // Standard error is in the log too; it is never JSON.
    let events: Vec<&str> = log.lines().filter(|line| line.starts_with("{\"")).collect();
    let path = Path::new(&folder).join(program);
    std::fs::create_dir_all(&path).expect("a folder");
    std::fs::write(path.join(format!("{scene}.jsonl")), events.join("\n") + "\n").expect("a file");
}
