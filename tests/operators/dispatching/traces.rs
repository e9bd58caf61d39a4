//! A traced run: its lines, its file, and that other runs have nothing of it.

use serde_json::Value;

use crate::support::{Answer, ClusterSetup, TestCluster};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Where the command says that it left the trace.
fn kept_trace(answer: &Answer) -> &str {
    let line = answer.err.lines().find(|line| line.starts_with("the trace is in"));
    line.and_then(|line| line.split('`').nth(1)).unwrap_or_else(|| panic!("no trace is named: {answer:?}"))
}

const WORKFLOW: &str = "name: traced\nsteps:\n\
    - {id: make, agent: probe, prompt: \"echo first; maestro state set from-inside 42 > put; sleep 0.3; echo second; echo to stderr >&2\", \
       publish: {colour: \"<< steps.none | default('blue') >>\"}}\n\
    - {id: take, agent: probe, depends_on: [make], prompt: \"echo got << state.colour | sh >>\"}\n\
    - {id: join, agent: noop, depends_on: [take]}\n";

/// Slices of a task, by name.
fn slices<'a>(trace: &'a Value, step: &str) -> Vec<&'a Value> {
    let events = trace["traceEvents"].as_array().expect("a list");
    let named = |event: &&Value| event["name"] == "thread_name" && event["args"]["name"] == step;
    let tid = &events.iter().find(named).unwrap_or_else(|| panic!("no thread `{step}`"))["tid"];
    events.iter().filter(|event| event["tid"] == *tid && event["ph"] != "M").collect()
}

fn slice<'a>(of: &[&'a Value], name: &str) -> &'a Value {
    of.iter().find(|slice| slice["name"] == name).unwrap_or_else(|| panic!("no slice `{name}` in {of:?}"))
}

#[test]
fn a_traced_run_shows_every_line_and_leaves_a_trace_of_each_phase() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let text = WORKFLOW.replace("<< steps.none | default('blue') >>", "blue");
    let text = text.replace("maestro state", &format!("{} state", env!("CARGO_BIN_EXE_maestro")));
    let path = cluster.write_workflow("traced", &text);
    let answer = cluster.maestro(&["workflow", "run", path.to_str().expect("a plain path"), "--trace"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let lines: Vec<&str> = answer.out.lines().filter(|line| line.starts_with("TRACE: [")).collect();
    assert!(lines[0].ends_with("Z] make: first") && lines[1].ends_with("Z] make: second"), "{lines:?}");
    assert!(lines[2].ends_with("Z] take: got blue"), "{lines:?}");
    assert_eq!(lines.len(), 3, "standard error has no such lines: {lines:?}");
    let logs = cluster.maestro(&["task", "logs", "last/take"]);
    assert!(logs.out.starts_with("TRACE: [") && logs.out.ends_with("take: got blue\n"), "{logs:?}");
    let whole = std::fs::read_dir(cluster.root().join("probe")).expect("workspaces");
    for entry in whole.flatten() {
        let log = std::fs::read_to_string(entry.path().join("agent.log")).unwrap_or_default();
        assert!(!log.contains("TRACE:"), "{log}");
    }

    let kept = kept_trace(&answer);
    let trace = json(&std::fs::read_to_string(kept).expect("the trace is there"));
    let printed = json(&cluster.maestro(&["workflow", "trace", "last"]).out);
    assert_eq!(printed["otherData"]["traced"], true);
    assert_eq!(
        printed["traceEvents"].as_array().map(Vec::len),
        trace["traceEvents"].as_array().map(Vec::len)
    );

    let take = slices(&trace, "take");
    let attempt = slice(&take, "attempt 1");
    assert_eq!(attempt["args"]["prompt"], "echo got blue");
    assert_eq!((&attempt["args"]["result"], &attempt["args"]["worker"]), (&"got blue".into(), &"w0".into()));
    slice(&take, "queue wait");
    assert_eq!(slice(&take, "read colour")["args"]["value"], "blue");
    let make = slices(&trace, "make");
    assert_eq!(slice(&make, "write colour")["args"]["value"], "blue");
    assert_eq!(slice(&make, "write from-inside")["args"]["value"], "42", "through the side door");
    slice(&slices(&trace, "join"), "attempt 1");

    let number = |slice: &Value, name: &str| slice[name].as_u64().expect("a number");
    let (from, to) = (number(attempt, "ts"), number(attempt, "ts") + number(attempt, "dur"));
    let mut since = from;
    for name in ["claim", "workspace", "launch", "run", "report"] {
        let phase = slice(&take, name);
        assert_eq!(number(phase, "ts"), since, "phases follow each other: {name}");
        since += number(phase, "dur");
    }
    assert_eq!(since, to, "and fill the attempt");
    let run = slice(&slices(&trace, "make"), "run");
    assert!(number(run, "dur") >= 250_000, "it slept for 0.3 s: {run}");
}

#[test]
fn a_local_run_leaves_its_trace_beside_its_logs() {
    let cluster = TestCluster::start(ClusterSetup { workers: 0, coordinators: 0, ..ClusterSetup::default() });
    // A private Redis has its socket there, in a folder that stays.
    let runtime = cluster.scratch("runtime");
    let runtime = [("XDG_RUNTIME_DIR", runtime.to_str().expect("a plain path"))];
    let words = ["workflow", "run", "hello", "--local", "--trace", "--format", "json"];
    let answer = cluster.maestro_with(&runtime, &words);
    assert_eq!(answer.code, 0, "{answer:?}");
    let outputs = answer.out.lines().map(json).filter(|event| event["event"] == "output").count();
    assert!(outputs > 0, "{answer:?}");
    let kept = kept_trace(&answer);
    let run = std::path::Path::new(kept).parent().and_then(|folder| folder.file_name()).expect("a run");
    let printed = cluster.maestro(&["workflow", "trace", run.to_str().expect("an id")]);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert!(json(&printed.out)["traceEvents"].as_array().is_some_and(|list| list.len() > 5));
}

#[test]
fn a_run_that_is_not_traced_has_no_notes_and_its_trace_says_so() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let answer = cluster.maestro(&["task", "dispatch", "echo hello", "--to", "probe", "--sync"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let trace = cluster.maestro(&["workflow", "trace", "last"]);
    assert_eq!(trace.code, 0, "{trace:?}");
    assert!(trace.err.contains("was not traced"), "{trace:?}");
    let trace = json(&trace.out);
    let probe = slices(&trace, "probe");
    slice(&probe, "attempt 1");
    assert!(probe.iter().all(|slice| slice["cat"] != "phase"), "{probe:?}");
    let logs = cluster.maestro(&["task", "logs", "last"]);
    assert_eq!(logs.out, "hello\n");
}
