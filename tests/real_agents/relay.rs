//! One workflow, four programs: each gets the answer of the one before. They run confined, under a worker of root
//! and under one of an ordinary user.

use std::time::Duration;

use maestro_store::runs::RunStatus;
use serde_json::Value;

use crate::answers::{MADE_FILE, answer_text, made_text};
use crate::programs::{AgentBench, PROGRAMS, step_env};

/// Until all four have answered, on a busy machine.
const WITHIN: Duration = Duration::from_secs(230);

/// Where the programs send their requests.
const PATHS: [&str; 4] = ["/v1/messages", "/v1/responses", "streamGenerateContent", "/chat/completions"];

fn workflow() -> String {
    let mut text = "name: relay\nsteps:\n".to_owned();
    let mut before: Option<&str> = None;
    for (program, agent) in PROGRAMS {
        let heard = before.map(|step| format!(" The one before said: << steps.{step}.result >>"));
        text.push_str(&format!(
            "  - id: {program}\n    agent: {agent}\n    env: {}\n    prompt: \"scene:tool Write the file.{}\"\n",
            step_env(program),
            heard.unwrap_or_default()
        ));
        if let Some(step) = before {
            text.push_str(&format!("    depends_on: [{step}]\n"));
        }
        before = Some(program);
    }
    text
}

/// Nobody in particular.
const ORDINARY_USER: u32 = 65534;

#[test]
fn four_programs_hand_their_answers_on_and_leave_their_files() {
    let Some(bench) = AgentBench::start("the four agent programs in one workflow") else { return };
    hand_on(&bench);
}

#[test]
fn an_ordinary_users_worker_runs_the_four_programs_as_well() {
    let test = "the four agent programs as an ordinary user";
    let Some(bench) = AgentBench::start_as(Some(ORDINARY_USER), test) else { return };
    hand_on(&bench);
    let made = std::fs::metadata(bench.cluster.root()).expect("the workspace root");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), ORDINARY_USER);
}

/// Runs the workflow and looks at what each program has left: on its task's record, and in its workspace.
fn hand_on(bench: &AgentBench) {
    confined(bench);
    let run = bench.cluster.submit_text("relay", &workflow());
    let record = bench.cluster.wait_for_run(&run, WITHIN);
    let status = bench.cluster.maestro(&["workflow", "status", run.as_str(), "--format", "json"]);
    assert_eq!(record.status, RunStatus::Completed, "{}\n{}", status.out, bench.cluster.tails());
    let status: Value = serde_json::from_str(&status.out).expect("JSON");
    let story = bench.cluster.story(&run);
    for (place, (program, agent)) in PROGRAMS.into_iter().enumerate() {
        let step = &status["steps"][place];
        assert_eq!(step["status"], "completed", "{step}");
        let session = step["session"].as_str().unwrap_or_default();
        assert!(session.len() > 8, "{program} has a session: {step}");
        let tokens = &step["tokens"];
        let number = |name: &str| tokens[name].as_u64().unwrap_or(0);
        assert!(number("input") >= 300 && number("cached") >= 60 && number("output") >= 14, "{step}");
        assert_eq!(step["cost_usd"].is_f64(), matches!(program, "claude" | "kilo"), "{step}");

        let output = story.outputs[place].as_ref().and_then(|output| output.outputs.as_ref());
        let result = output.map(|output| output.result.clone());
        assert_eq!(result, Some(Value::from(answer_text(program))), "{program}");

        let task = step["id"].as_str().expect("a task has an id");
        let made = bench.cluster.root().join(agent).join(task).join(MADE_FILE);
        let made_by = std::fs::read_to_string(&made).unwrap_or_else(|error| panic!("{program}: {error}"));
        assert_eq!(made_by.trim(), made_text(program));
        if place > 0 {
            let heard = answer_text(PROGRAMS[place - 1].0);
            let asked = bench.model.requests_to(PATHS[place]);
            assert!(asked.iter().any(|request| request.body.contains(&heard)), "{program} heard nothing");
        }
        let shown = bench.cluster.maestro(&["task", "status", task, "--format", "table"]).out;
        assert!(shown.contains(session) && shown.contains(" cached), "), "{shown}");
    }
    assert!(status["tokens"]["input"].as_u64().unwrap_or(0) >= 1_200, "{status}");
    let shown = bench.cluster.maestro(&["workflow", "status", run.as_str(), "--format", "table"]).out;
    assert!(shown.contains("used: ") && shown.contains("TOKENS"), "{shown}");
}

/// The worker says that namespaces and Landlock are in force.
fn confined(bench: &AgentBench) {
    let listed = bench.cluster.maestro(&["worker", "list", "--format", "json"]);
    let listed: Value = serde_json::from_str(&listed.out).expect("JSON");
    let walls = listed[0]["confinement"].to_string();
    assert!(walls.contains("namespaces") && walls.contains("landlock "), "{listed}");
}
