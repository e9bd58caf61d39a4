//! Plans as the store gets them: what tables say, and what must hold for every workflow.

mod agents;
mod random;

use serde_json::{Value, json};

use super::*;
use crate::agent_type::AgentType;
use crate::catalogue::AgentCatalogue;
use crate::diagnostic::{Colour, SourceText};
use crate::ids::AgentSlug;
use crate::plan::{EdgeKind, Plan, PlannedTask, TaskKind, WorkspaceChoice};
use crate::workflow::{KnownNames, Workflow, parse_workflow};

fn workflow(text: &str) -> Workflow {
    let parsed = parse_workflow(SourceText::new("demo.yaml", text), KnownNames::default());
    parsed.unwrap_or_else(|problems| panic!("{problems}\n{text}")).workflow
}

fn agent(slug: &str) -> AgentType {
    serde_json::from_value(json!({"slug": slug, "mode": slug, "command": ["sh", "-e"]}))
        .expect("a lawful type")
}

fn agents(slugs: &[&str]) -> AgentCatalogue {
    AgentCatalogue::of_types(
        slugs.iter().map(|slug| (slug.parse().expect("a lawful slug"), agent(slug))).collect(),
    )
}

fn all_agents() -> AgentCatalogue {
    agents(&["shell", "noop", "other"])
}

fn params(pairs: &[(&str, Value)]) -> RunInputs {
    let params = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    RunInputs { params, ..RunInputs::default() }
}

fn plan_with(text: &str, inputs: &RunInputs) -> Plan {
    let plan = compile(&workflow(text), inputs, &all_agents());
    plan.unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

fn plan(text: &str) -> Plan {
    plan_with(text, &RunInputs::default())
}

/// A plan of these steps, with `shell` as agent and a prompt where none is given.
fn plan_of(steps: &str) -> Plan {
    plan(&format!("name: demo\ndefaults: {{agent: noop}}\nsteps:\n{steps}"))
}

fn task<'p>(plan: &'p Plan, step: &str) -> &'p PlannedTask {
    let found = plan.tasks.iter().find(|task| task.step.as_str() == step);
    found.unwrap_or_else(|| panic!("no task of step {step}"))
}

/// A plan in a few lines: number, step, kind, what it waits for, and who waits for it.
fn drawn(plan: &Plan) -> String {
    let mut lines = Vec::new();
    for (number, task) in plan.tasks.iter().enumerate() {
        let kind = match &task.kind {
            TaskKind::Agent => "agent".to_owned(),
            TaskKind::Item { group, number, item } => format!("item {number} of {group} ({item})"),
            TaskKind::Group { first, count, max_parallel } => {
                format!("group {first}+{count} at most {max_parallel:?}")
            }
            TaskKind::Expand { list, max_parallel } => format!("expand {list} at most {max_parallel:?}"),
            TaskKind::Snapshot { label } => format!("snapshot {label}"),
        };
        let dependents: Vec<String> =
            task.dependents.iter().map(|one| format!("{:?} {}", one.edge, one.index)).collect();
        let marks = [(task.handled, " handled"), (task.handler, " handler")];
        let marks: String = marks.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
        lines.push(format!(
            "{number} {} [{kind}] waits for {}+{} -> [{}] shared {}{marks}",
            task.step,
            task.dependencies,
            task.triggers,
            dependents.join(", "),
            task.shared
        ));
    }
    for root in &plan.roots {
        let queue = root.queue.as_ref().map_or("-", |queue| queue.as_str());
        lines.push(format!("roots {}+{} in {queue}", root.first, root.count));
    }
    lines.join("\n")
}

#[test]
fn roots_come_first_by_queue_and_priority() {
    let plan = plan(
        "
name: demo
steps:
  - {id: last, agent: shell, prompt: x, depends_on: [a, c]}
  - {id: a, agent: shell, prompt: x, priority: 4}
  - {id: b, agent: other, prompt: x}
  - {id: c, agent: shell, prompt: x, priority: 1}
  - {id: list, agent: shell, foreach: [1, 2], prompt: << item >>, max_parallel: 1}
  - {id: later, agent: shell, foreach: << state.list >>, prompt: << item >>}
  - {id: d, agent: shell, prompt: x}
",
    );
    insta::assert_snapshot!(drawn(&plan), @r"
    0 c [agent] waits for 0+0 -> [Needs 6] shared 0
    1 d [agent] waits for 0+0 -> [] shared 1
    2 a [agent] waits for 0+0 -> [Needs 6] shared 2
    3 b [agent] waits for 0+0 -> [] shared 3
    4 list [group 7+2 at most Some(1)] waits for 0+0 -> [] shared 4
    5 later [expand state.list at most None] waits for 0+0 -> [] shared 4
    6 last [agent] waits for 2+0 -> [] shared 1
    7 list [item 0 of 4 (1)] waits for 0+0 -> [Item 4] shared 4
    8 list [item 1 of 4 (2)] waits for 0+0 -> [Item 4] shared 4
    roots 0+3 in a:shell
    roots 3+1 in a:other
    roots 4+1 in -
    roots 5+1 in c:expand
    ");
}

#[test]
fn edges_count_and_mark_handlers() {
    let plan = plan_of(
        "
  - {id: a, on_success: [b, both], on_failure: [rescue, both]}
  - {id: b, depends_on: [a, a]}
  - {id: both, depends_on: b}
  - {id: rescue}
  - {id: after, depends_on: rescue}
  - {id: join, depends_on: [b, after], continue_on: failed}
",
    );
    insta::assert_snapshot!(drawn(&plan), @r"
    0 a [agent] waits for 0+0 -> [OnSuccess 1, OnSuccess 2, OnFailure 3, OnFailure 2, Needs 1] shared 0 handled
    1 b [agent] waits for 1+1 -> [Needs 2, Needs 5] shared 0
    2 both [agent] waits for 1+2 -> [] shared 0 handler
    3 rescue [agent] waits for 0+1 -> [Needs 4] shared 0 handler
    4 after [agent] waits for 1+0 -> [Needs 5] shared 0 handler
    5 join [agent] waits for 2+0 -> [] shared 1 handled handler
    roots 0+1 in a:noop
    ");
}

#[test]
fn a_list_expands_now_if_it_can() {
    let cases = [
        ("[a, 'b', 3]", "", "group [\"a\",\"b\",3]"),
        ("[]", "", "group []"),
        ("[<< vars.one >>, 'x<< vars.one >>']", "", "group [1,\"x1\"]"),
        ("<< vars.many >>", "", "group [1,2]"),
        ("vars.many", "", "group [1,2]"),
        ("<< params.list >>", "", "group [\"p\",\"q\"]"),
        ("<< [0, vars.one] >>", "", "group [0,1]"),
        ("'[1, 2]'", "", "group [1,2]"),
        ("<< vars.many >>", "<< vars.one == 1 >>", "group [1,2]"),
        ("<< vars.many >>", "<< vars.one == 2 >>", "expand vars.many"),
        ("[1, << vars.one >>]", "false", "expand [1,1]"),
        ("[1]", "<< state.go >>", "expand [1]"),
        ("<< state.list >>", "", "expand state.list"),
        ("<< steps.first.outputs.list >>", "true", "expand steps.first.outputs.list"),
    ];
    for (list, when, wanted) in cases {
        let when = if when.is_empty() { String::new() } else { format!("    when: {when}\n") };
        let text = format!(
            "name: demo\nvars: {{one: 1, many: [1, 2]}}\nsteps:\n  - {{id: first, agent: noop}}\n  - id: s\n    agent: shell\n    prompt: x\n    foreach: {list}\n{when}"
        );
        let plan = plan_with(&text, &params(&[("list", json!("[\"p\", \"q\"]"))]));
        let found = match &task(&plan, "s").kind {
            TaskKind::Group { first, count, .. } => {
                let items = &plan.tasks[*first as usize..(*first + *count) as usize];
                let items: Vec<Value> = items.iter().map(item_of).collect();
                format!("group {}", Value::Array(items))
            }
            TaskKind::Expand { list, .. } => format!("expand {list}"),
            other => format!("{other:?}"),
        };
        assert_eq!(found, wanted, "{list} {when}");
        let group = wanted.starts_with("group");
        let shared = &plan.shared[task(&plan, "s").shared as usize];
        assert_eq!(shared.when.is_some(), !group && !when.is_empty(), "{list} {when}");
    }
}

fn item_of(task: &PlannedTask) -> Value {
    match &task.kind {
        TaskKind::Item { item, .. } => item.clone(),
        other => panic!("not an item: {other:?}"),
    }
}

fn refusal(text: &str, inputs: &RunInputs) -> String {
    let problems = compile(&workflow(text), inputs, &all_agents()).expect_err("it cannot be compiled");
    problems.render(Colour::Plain)
}

#[test]
fn what_is_no_list_is_named() {
    let text = "
name: demo
vars: {branch: main}
steps:
  - {id: a, agent: shell, prompt: x, foreach: << vars.branch >>}
  - {id: b, agent: shell, prompt: x, foreach: << params.list >>}
  - {id: c, agent: shell, prompt: x, foreach: [1, << params.nope >>]}
";
    insta::assert_snapshot!(refusal(text, &params(&[("list", json!({"a": 1}))])), @r"
    error: `foreach` cannot be expanded: `vars.branch` is not a list: expected a list or text that is a JSON array, found text that is not JSON
     --> demo.yaml:5:47
      |
    5 |   - {id: a, agent: shell, prompt: x, foreach: << vars.branch >>}
      |                                               ^^^^^^^^^^^^^^^^^

    error: `foreach` cannot be expanded: `params.list` is not a list: expected a list or text that is a JSON array, found an object
     --> demo.yaml:6:47
      |
    6 |   - {id: b, agent: shell, prompt: x, foreach: << params.list >>}
      |                                               ^^^^^^^^^^^^^^^^^

    error: `foreach` cannot be expanded: unknown name `params.nope`
     --> demo.yaml:7:47
      |
    7 |   - {id: c, agent: shell, prompt: x, foreach: [1, << params.nope >>]}
      |                                               ^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write `<< params.nope | default('…') >>` if it may be missing
    ");
}

#[test]
fn more_tasks_than_a_run_may_have_are_refused() {
    let text = "
name: demo
steps:
  - {id: a, agent: shell, prompt: x, foreach: << params.list >>}
";
    let list: Vec<u32> = (0..100_000).collect();
    insta::assert_snapshot!(refusal(text, &params(&[("list", json!(list))])), @r"
    error: the 100000 items of step `a` make more tasks than the 100000 a run may have
     --> demo.yaml:4:47
      |
    4 |   - {id: a, agent: shell, prompt: x, foreach: << params.list >>}
      |                                               ^^^^^^^^^^^^^^^^^
    ");
    let plan = plan_with(text, &params(&[("list", json!(list[1..]))]));
    assert_eq!((plan.tasks.len(), plan.shared.len()), (100_000, 1));
}

#[test]
fn a_parameter_that_is_surely_missed_is_asked_for_at_once() {
    let text = "
name: demo
steps:
  - {id: a, agent: shell, prompt: git clone << params.repo >>}
  - {id: b, agent: shell, prompt: << params.other >>, depends_on: a}
  - {id: c, agent: shell, prompt: << params.third >>, when: << params.third is defined >>}
  - {id: d, agent: shell, prompt: \"<< params.fourth | default('x') >>\"}
";
    insta::assert_snapshot!(refusal(text, &RunInputs::default()), @r"
    error: nobody gave `params.repo`
     --> demo.yaml:4:48
      |
    4 |   - {id: a, agent: shell, prompt: git clone << params.repo >>}
      |                                                ^^^^^^^^^^^
      |
      = hint: give it with `--param repo=…`
    ");
    assert!(compile(&workflow(text), &params(&[("repo", json!("."))]), &all_agents()).is_ok());
}

#[test]
fn an_agent_type_must_be_known_and_have_what_it_reads() {
    let text = "
name: demo
steps:
  - {id: a, agent: shel, prompt: x}
  - {id: b, agent: picky, prompt: x}
";
    let mut known = agents(&["shell", "picky"]);
    let picky =
        known.types.get_mut(&"picky".parse::<AgentSlug>().expect("a lawful slug")).expect("it is there");
    picky.env.insert("TARGET".to_owned(), "<< vars.target >> << state.region >>".to_owned());
    let problems = compile(&workflow(text), &RunInputs::default(), &known).expect_err("it lacks things");
    insta::assert_snapshot!(problems.render(Colour::Plain), @r"
    error: unknown agent type `shel`
     --> demo.yaml:4:20
      |
    4 |   - {id: a, agent: shel, prompt: x}
      |                    ^^^^
      |
      = hint: did you mean `shell`?

    error: agent type `picky` reads `vars.target`, which this run does not have
     --> demo.yaml:5:20
      |
    5 |   - {id: b, agent: picky, prompt: x}
      |                    ^^^^^
      |
      = hint: add it to `vars`, or give it with `--vars`
    ");
    let text = "name: demo\nvars: {target: x}\nsteps: [{id: b, agent: picky, prompt: x}]\n";
    let plan = compile(&workflow(text), &RunInputs::default(), &known).expect("all is there");
    assert_eq!(plan.shared[0].references.state, ["region"]);
}

#[test]
fn params_override_vars_of_their_name_and_no_others() {
    let text = "name: demo\nvars: {a: 1, b: 2, c: 3}\nsteps: [{id: a, agent: noop}]\n";
    let vars = [("b".to_owned(), json!("file")), ("x".to_owned(), json!("new"))];
    let inputs = RunInputs { vars: vars.into(), ..params(&[("c", json!("param")), ("y", json!("only"))]) };
    let plan = plan_with(text, &inputs);
    assert_eq!(json!(plan.context.vars), json!({"a": 1, "b": "file", "c": "param", "x": "new"}));
    assert_eq!(json!(plan.context.params), json!({"c": "param", "y": "only"}));
}

#[test]
fn defaults_fill_what_a_step_leaves_out() {
    let text = "
name: demo
version: 7
concurrency: 3
timeout: 1h
fail_fast: true
defaults:
  agent: shell
  timeout: 10m
  queue_timeout: 20m
  stall_timeout: 30m
  priority: 2
  workspace: run
  retry: {max_attempts: 5, delay: 1s}
  env: {A: default, B: default}
steps:
  - {id: plain, prompt: x}
  - id: own
    prompt: x
    agent: other
    timeout: 90
    queue_timeout: 91
    stall_timeout: 92
    priority: 5
    role: critic
    workspace: task
    retry: {max_attempts: 2, backoff: 1.5, on: exit}
    env: {B: own}
    publish: {key: << outputs.x >>, fixed: [1]}
    continue_on: [failed, skipped]
  - {id: copy, prompt: x, workspace: plain, depends_on: plain}
";
    let plan = plan(text);
    let spec = |step: &str| &plan.shared[task(&plan, step).shared as usize];
    insta::assert_json_snapshot!("specs", [spec("plain"), spec("own"), spec("copy")]);
    assert_eq!(spec("copy").workspace, WorkspaceChoice::Step("plain".parse().expect("a lawful id")));
    insta::assert_json_snapshot!("policy", (&plan.policy, &plan.context.version, &plan.bound_agents));
}

#[test]
fn time_limits_come_from_the_step_then_the_workflow_then_the_agent_then_the_run() {
    let mut known = agents(&["shell", "slow"]);
    let slow =
        known.types.get_mut(&"slow".parse::<AgentSlug>().expect("a lawful slug")).expect("it is there");
    (slow.timeout_ms, slow.stall_timeout_ms) = (Some(1), Some(2));
    let limits = |text: &str| {
        let plan = compile(&workflow(text), &RunInputs::default(), &known).expect("it is right");
        (plan.shared[0].timeout_ms, plan.shared[0].stall_timeout_ms)
    };
    assert_eq!(limits("name: a\nsteps: [{id: a, agent: slow, prompt: x, timeout: 3}]"), (3_000, Some(2)));
    assert_eq!(
        limits("name: a\ndefaults: {timeout: 4}\nsteps: [{id: a, agent: slow, prompt: x}]"),
        (4_000, Some(2))
    );
    assert_eq!(limits("name: a\nsteps: [{id: a, agent: slow, prompt: x}]"), (1, Some(2)));
    assert_eq!(limits("name: a\nsteps: [{id: a, agent: shell, prompt: x}]"), (1_800_000, None));
}

#[test]
fn tasks_of_one_folder_wait_in_one_queue() {
    let plan = plan(
        "
name: demo
steps:
  - {id: a, agent: shell, prompt: x, workspace: run}
  - {id: b, agent: other, prompt: x, workspace: run}
  - {id: c, agent: other, prompt: x}
  - {id: d, agent: other, prompt: x, workspace: run, foreach: << state.x >>}
",
    );
    let queues: Vec<(&str, u32)> = plan
        .roots
        .iter()
        .map(|root| (root.queue.as_ref().expect("no group here").as_str(), root.count))
        .collect();
    assert_eq!(queues, [("s:other+shell", 2), ("a:other", 1), ("c:expand", 1)]);
    assert_eq!(plan.shared[task(&plan, "d").shared as usize].queue.as_str(), "s:other+shell");
    assert_eq!(plan.bound_agents.iter().map(AgentSlug::as_str).collect::<Vec<_>>(), ["other", "shell"]);
}

#[test]
fn references_name_tasks_and_keys_where_they_are_read() {
    let plan = plan(
        "
name: demo
steps:
  - {id: z, agent: shell, prompt: x, depends_on: a}
  - {id: a, agent: shell, prompt: x}
  - id: reader
    agent: shell
    prompt: << steps.z.result >> << state.one >> << state.one.inner >>
    when: << steps.a.status == 'completed' >>
    env: {X: << state.two >>}
    publish: {k: << state.three >>}
  - id: list
    agent: shell
    foreach: << steps.z.outputs.list >>
    prompt: << item >> << state.four >>
",
    );
    let reader = task(&plan, "reader");
    let index =
        |step: &str| plan.tasks.iter().position(|task| task.step.as_str() == step).expect("it is there");
    assert_eq!(json!(reader.references), json!({"steps": {"z": index("z")}, "state": ["one"]}));
    let shared = &plan.shared[reader.shared as usize];
    assert_eq!(json!(shared.references), json!({"steps": {"a": index("a")}, "state": ["two", "three"]}));
    let list = task(&plan, "list");
    assert_eq!(json!(list.references), json!({"steps": {"z": index("z")}}));
    let shared = &plan.shared[list.shared as usize];
    assert_eq!(json!(shared.references), json!({"state": ["four"]}));
    assert_eq!(
        (list.prompt.as_deref(), shared.prompt.as_deref()),
        (None, Some("<< item >> << state.four >>"))
    );
}

#[test]
fn steps_that_say_the_same_share_it() {
    let steps: String =
        (0..50).map(|number| format!("  - {{id: s{number}, agent: shell, prompt: p{number}}}\n")).collect();
    let plan =
        plan(&format!("name: demo\nsteps:\n{steps}  - {{id: x, agent: shell, prompt: x, timeout: 5}}\n"));
    assert_eq!(plan.shared.len(), 2);
}
