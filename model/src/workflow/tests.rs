//! The language as its users meet it: here what is accepted and drawn, and the schema.

mod refusals;
mod texts;

use super::*;
use crate::diagnostic::{Colour, Diagnostics, SourceText};
use crate::plan::EdgeKind;

/// The example of the reference, word for word.
const EXAMPLE: &str = r#"
name: rpgclaw-deploy
version: "1.0"
vars: {branch: main, environment: production}     # overridden by --vars, then --param
defaults: {timeout: 600, workspace: run, retry: {max_attempts: 1}}   # workspace: task | run | <step id>, see below
concurrency: 4                                    # tasks of one run at a time; none = no limit
timeout: 3600                                     # of the whole run
fail_fast: false
steps:
  - id: git-pull
    agent: rpgclaw-ops
    prompt: "Pull << vars.branch >> and note migrations"
    timeout: 300
    on_success: build                             # one id or a list
    on_failure: report
  - id: build
    agent: rpgclaw-ops
    prompt: "Run npm run build"
    retry: {max_attempts: 3, delay: 10s, backoff: 2, max_delay: 5m, jitter: true, on: [exit, timeout, stalled, oom]}
    publish: {build_id: "<< outputs.id >>"}       # into shared state, on success
    on_success: [health-check]
  - id: health-check
    agent: vps-ops
    depends_on: [build]
    when: "<< vars.environment == 'production' >>"
    prompt: "Verify build << state.build_id >> on :3000"
  - id: sweep
    foreach: "<< steps.build.outputs.packages >>" # or a literal list; each item is a task, << item >>
    max_parallel: 5
    agent: shell
    prompt: "cargo test -p << item | sh >>"
  - id: report
    agent: shell
    prompt: "echo failed"
"#;

fn parse(text: &str) -> Result<ParsedWorkflow, Diagnostics> {
    parse_workflow(SourceText::new("demo.yaml", text), KnownNames::default())
}

fn refusal(text: &str) -> String {
    parse(text).expect_err("it is wrong").render(Colour::Plain)
}

/// The refusal of a workflow with these lines as its steps.
fn refusal_of_steps(steps: &str) -> String {
    refusal(&format!("name: demo\nvars: {{branch: main}}\nsteps:\n{steps}"))
}

fn edges(workflow: &Workflow) -> Vec<String> {
    let id = |step: u32| workflow.steps[step as usize].id.value.as_str();
    let word = |edge: &StepEdge| match (edge.kind, edge.implied) {
        (EdgeKind::Needs, true) => "reads",
        (EdgeKind::Needs, false) => "needs",
        (EdgeKind::OnSuccess, _) => "success",
        (EdgeKind::OnFailure, _) => "failure",
        (EdgeKind::Item, _) => "item",
    };
    workflow.edges.iter().map(|edge| format!("{} {} {}", id(edge.from), word(edge), id(edge.to))).collect()
}

#[test]
fn the_example_of_the_reference_is_right() {
    let parsed = parse(EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(parsed.warnings.is_empty(), "{}", parsed.warnings);
    assert_eq!(
        edges(&parsed.workflow),
        [
            "git-pull success build",
            "git-pull failure report",
            "build success health-check",
            "build needs health-check",
            "build reads sweep",
        ]
    );
    let build = &parsed.workflow.steps[1];
    assert_eq!(build.retry.max_attempts, Some(3));
    assert_eq!(build.retry.max_delay_ms, Some(300_000));
    assert_eq!(parsed.workflow.steps[0].timeout_ms, Some(300_000));
}

#[test]
fn steps_of_one_agent_in_two_folders_are_warned_about() {
    let steps = "\
name: demo
steps:
  - {id: a, agent: shell, prompt: echo}
  - {id: b, agent: shell, prompt: echo, depends_on: a}
  - {id: c, agent: shell, prompt: echo, depends_on: a, workspace: task}
  - {id: d, agent: other, prompt: echo, depends_on: a}
";
    let parsed = parse(steps).expect("a warning is no error");
    insta::assert_snapshot!(parsed.warnings.render(Colour::Plain), @r"
    warning: `a` and `b` are steps of one agent, but each works in a fresh folder
     --> demo.yaml:4:10
      |
    4 |   - {id: b, agent: shell, prompt: echo, depends_on: a}
      |          ^
      |
      = hint: say `workspace: run` for one folder, `workspace: a` for a copy, or `workspace: task` if this is meant
    ");
}

#[test]
fn what_is_probably_not_meant_is_warned_about() {
    let text = "
name: demo
vars: {host: a, url: 'https://<< vars.host >>/'}
steps:
  - {id: a, agent: noop, on_failure: [rescue, clean]}
  - {id: rescue, agent: noop, depends_on: a}
  - {id: clean, agent: shell, prompt: << steps.a.status >>}
";
    let parsed = parse(text).expect("a warning is no error");
    insta::assert_snapshot!(parsed.warnings.render(Colour::Plain), @r"
    warning: `vars` are taken as they are
     --> demo.yaml:3:22
      |
    3 | vars: {host: a, url: 'https://<< vars.host >>/'}
      |                      ^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: `<< >>` is filled in in prompts, `env`, `publish`, `when` and `foreach`

    warning: step `rescue` never runs: it starts when a step fails that must complete first
     --> demo.yaml:6:10
      |
    6 |   - {id: rescue, agent: noop, depends_on: a}
      |          ^^^^^^
      |
      = hint: take that step out of its `depends_on`, or add `continue_on: failed` to that step
    ");
}

#[test]
fn drawings_show_every_step_and_edge() {
    let parsed = parse(EXAMPLE).expect("it is right");
    insta::assert_snapshot!("ascii", render_graph(&parsed.workflow, GraphFormat::Ascii));
    insta::assert_snapshot!("dot", render_graph(&parsed.workflow, GraphFormat::Dot));
    insta::assert_snapshot!("mermaid", render_graph(&parsed.workflow, GraphFormat::Mermaid));
}

#[test]
fn the_schema_knows_the_keys_that_are_read() {
    let schema = workflow_schema();
    let keys = |at: &serde_json::Value| -> Vec<String> {
        let properties = at["properties"].as_object().expect("it describes a map");
        let mut keys: Vec<String> = properties.keys().cloned().collect();
        keys.sort_unstable();
        keys
    };
    let sorted = |known: &[&str]| -> Vec<String> {
        let mut known: Vec<String> = known.iter().map(|key| (*key).to_owned()).collect();
        known.sort_unstable();
        known
    };
    assert_eq!(keys(&schema), sorted(&read::WORKFLOW_KEYS));
    assert_eq!(keys(&schema["$defs"]["Step"]), sorted(&read::STEP_KEYS));
    assert_eq!(keys(&schema["$defs"]["StepDefaults"]), sorted(&read::DEFAULTS_KEYS));
    assert_eq!(keys(&schema["$defs"]["RetryRules"]), sorted(&read::RETRY_KEYS));
    assert_eq!(schema["required"], serde_json::json!(["name", "steps"]));
    assert_eq!(schema["$defs"]["Step"]["required"], serde_json::json!(["id"]));
}

#[test]
fn the_schema_describes_every_key() {
    insta::assert_json_snapshot!("schema", workflow_schema());
}
