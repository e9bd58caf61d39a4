//! What each mistake is answered with, but for those inside of texts.

use super::*;

#[test]
fn a_slip_in_a_key_is_marked_with_the_key_that_was_meant() {
    insta::assert_snapshot!(refusal_of_steps("  - id: a\n    agent: shell\n    promt: echo\n    colour: red\n"), @r"
    error: unknown key `promt` in a step
     --> demo.yaml:6:5
      |
    6 |     promt: echo
      |     ^^^^^
      |
      = hint: did you mean `prompt`?

    error: unknown key `colour` in a step
     --> demo.yaml:7:5
      |
    7 |     colour: red
      |     ^^^^^^
      |
      = hint: known here: `id`, `agent`, `prompt`, `description`, `depends_on`, `on_success`, `on_failure`, `when`, `foreach`, `max_parallel`, `retry`, `timeout`, `queue_timeout`, `stall_timeout`, `publish`, `env`, `workspace`, `priority`, `continue_on`, `snapshot`, `role`
    ");
}

#[test]
fn unknown_steps_are_marked_wherever_they_are_named() {
    insta::assert_snapshot!(refusal_of_steps("
  - id: build
    agent: shell
    prompt: echo << steps.biuld.result >>
    on_failure: [reprot]
  - id: report
    agent: shell
    depends_on: bild
    workspace: nowhere
    prompt: echo
"), @r"
    error: unknown step `biuld`
     --> demo.yaml:7:21
      |
    7 |     prompt: echo << steps.biuld.result >>
      |                     ^^^^^^^^^^^^^^^^^^
      |
      = hint: did you mean `build`?

    error: unknown step `reprot`
     --> demo.yaml:8:18
      |
    8 |     on_failure: [reprot]
      |                  ^^^^^^
      |
      = hint: did you mean `report`?

    error: unknown step `bild`
      --> demo.yaml:11:17
       |
    11 |     depends_on: bild
       |                 ^^^^
       |
       = hint: did you mean `build`?

    error: unknown step `nowhere`
      --> demo.yaml:12:16
       |
    12 |     workspace: nowhere
       |                ^^^^^^^
    ");
}

#[test]
fn a_circle_is_named_step_by_step() {
    insta::assert_snapshot!(refusal_of_steps("
  - {id: a, agent: noop, depends_on: c}
  - {id: b, agent: noop, depends_on: a}
  - {id: c, agent: noop, depends_on: b}
"), @r"
    error: steps wait for each other in a circle: `a → b → c → a`
     --> demo.yaml:6:38
      |
    6 |   - {id: b, agent: noop, depends_on: a}
      |                                      ^ `b` waits for `a`
      |
      = hint: take one of these edges out
    ");
}

#[test]
fn a_circle_through_a_template_says_so() {
    insta::assert_snapshot!(refusal_of_steps("
  - id: a
    agent: shell
    prompt: |
      echo start
      echo << steps.b.result >>
  - {id: b, agent: shell, depends_on: a, prompt: echo}
"), @r"
    error: steps wait for each other in a circle: `a → b → a`
      --> demo.yaml:10:39
       |
    10 |   - {id: b, agent: shell, depends_on: a, prompt: echo}
       |                                       ^ `b` waits for `a`
       |
       = hint: a step waits for those it reads: `a` reads `steps.b`
    ");
}

#[test]
fn a_circle_of_templates_alone_is_marked_in_one() {
    insta::assert_snapshot!(refusal_of_steps("
  - {id: a, agent: noop, prompt: one << steps.b.result >>}
  - {id: b, agent: noop, prompt: two << steps.a.result >>}
"), @r"
    error: steps wait for each other in a circle: `a → b → a`
     --> demo.yaml:6:41
      |
    6 |   - {id: b, agent: noop, prompt: two << steps.a.result >>}
      |                                         ^^^^^^^^^^^^^^ `b` waits for `a`
      |
      = hint: a step waits for those it reads: `b` reads `steps.a`
    ");
}

#[test]
fn a_step_cannot_wait_for_itself_or_read_itself() {
    insta::assert_snapshot!(refusal_of_steps("
  - id: a
    agent: shell
    depends_on: a
    prompt: echo << steps.a.result >>
"), @r"
    error: step `a` names itself in `depends_on`
     --> demo.yaml:7:17
      |
    7 |     depends_on: a
      |                 ^

    error: step `a` reads itself
     --> demo.yaml:8:21
      |
    8 |     prompt: echo << steps.a.result >>
      |                     ^^^^^^^^^^^^^^
      |
      = hint: in `publish` its own outputs are known as `outputs`
    ");
}

#[test]
fn double_ids_and_double_keys_are_marked() {
    insta::assert_snapshot!(refusal_of_steps("
  - {id: a, agent: noop}
  - {id: b, agent: noop}
  - {id: a, agent: noop, agent: shell}
"), @r"
    error: two steps are called `a`
     --> demo.yaml:7:10
      |
    7 |   - {id: a, agent: noop, agent: shell}
      |          ^
      |
      = hint: the first is in line 5

    error: `agent` is given twice
     --> demo.yaml:7:26
      |
    7 |   - {id: a, agent: noop, agent: shell}
      |                          ^^^^^
      |
      = hint: it stands in line 7 already
    ");
}

#[test]
fn wrong_values_are_marked_with_what_was_expected() {
    insta::assert_snapshot!(refusal("\
name: my workflow
version: [1]
concurrency: 0
timeout: soon
fail_fast: yes
defaults: {priority: 9, workspace: a b, retry: {max_attempts: 0, on: [exit, sometimes], wait: 1s}}
steps:
  - id: a b
    agent: shell
    prompt: echo
  - id: b
    agent: shell
    prompt:
  - id: c
    prompt: echo
  - agent: shell
    prompt: echo
  - just text
  - id: d
    agent: shell
    prompt: echo
    max_parallel: 2
    env: {1x: a, OK: [a]}
    publish: {'task:1:result': x}
    continue_on: [failed, cancelled]
    snapshot: during
    timeout: 0
"), @r"
    error: `my workflow` is not a workflow name
     --> demo.yaml:1:7
      |
    1 | name: my workflow
      |       ^^^^^^^^^^^
      |
      = hint: it has up to 128 letters, digits, `.`, `_` and `-`, and does not begin with `.` or `-`

    error: `version` is a list
     --> demo.yaml:2:10
      |
    2 | version: [1]
      |          ^^ a text

    error: `concurrency` is `0`
     --> demo.yaml:3:14
      |
    3 | concurrency: 0
      |              ^ a whole number from 1 to 4294967295

    error: `timeout` is `soon`, which is not a duration
     --> demo.yaml:4:10
      |
    4 | timeout: soon
      |          ^^^^ a number and a unit are expected
      |
      = hint: write `90s`, `1h30m`, `250ms`, or bare seconds

    error: `fail_fast` is `yes`
     --> demo.yaml:5:12
      |
    5 | fail_fast: yes
      |            ^^^ `true` or `false`

    error: `priority` is `9`
     --> demo.yaml:6:22
      |
    6 | defaults: {priority: 9, workspace: a b, retry: {max_attempts: 0, on: [exit, sometimes], wait: 1s}}
      |                      ^ a whole number from 1 to 5

    error: `workspace` is `a b`
     --> demo.yaml:6:36
      |
    6 | defaults: {priority: 9, workspace: a b, retry: {max_attempts: 0, on: [exit, sometimes], wait: 1s}}
      |                                    ^^^ `task`, `run` or the id of a step

    error: `max_attempts` is `0`
     --> demo.yaml:6:63
      |
    6 | defaults: {priority: 9, workspace: a b, retry: {max_attempts: 0, on: [exit, sometimes], wait: 1s}}
      |                                                               ^ a whole number from 1 to 1000

    error: `on` is `sometimes`
     --> demo.yaml:6:77
      |
    6 | defaults: {priority: 9, workspace: a b, retry: {max_attempts: 0, on: [exit, sometimes], wait: 1s}}
      |                                                                             ^^^^^^^^^ `exit`, `timeout`, `stalled`, `oom` or `budget`

    error: unknown key `wait` in `retry`
     --> demo.yaml:6:89
      |
    6 | defaults: {priority: 9, workspace: a b, retry: {max_attempts: 0, on: [exit, sometimes], wait: 1s}}
      |                                                                                         ^^^^
      |
      = hint: known here: `max_attempts`, `delay`, `backoff`, `max_delay`, `jitter`, `on`

    error: `a b` is not a step id
     --> demo.yaml:8:9
      |
    8 |   - id: a b
      |         ^^^
      |
      = hint: it has up to 128 letters, digits, `.`, `_` and `-`, and does not begin with `.` or `-`

    error: `prompt` is nothing
      --> demo.yaml:13:11
       |
    13 |     prompt:
       |           ^ a text

    error: step `c` has no `agent`
      --> demo.yaml:14:5
       |
    14 |   - id: c
       |     ^^

    error: a step has no `id`
      --> demo.yaml:16:5
       |
    16 |   - agent: shell
       |     ^^^^^

    error: a step cannot be a single value
      --> demo.yaml:18:5
       |
    18 |   - just text
       |     ^^^^^^^^^ a map of keys

    error: `max_parallel` without `foreach`
      --> demo.yaml:22:5
       |
    22 |     max_parallel: 2
       |     ^^^^^^^^^^^^

    error: `1x` is not the name of an environment variable
      --> demo.yaml:23:11
       |
    23 |     env: {1x: a, OK: [a]}
       |           ^^
       |
       = hint: it has letters, digits and `_`, and does not begin with a digit

    error: `OK` is a list
      --> demo.yaml:23:22
       |
    23 |     env: {1x: a, OK: [a]}
       |                      ^^ a text

    error: `task:1:result` is not a key that a step can publish
      --> demo.yaml:24:15
       |
    24 |     publish: {'task:1:result': x}
       |               ^^^^^^^^^^^^^^^
       |
       = hint: keys that begin with `task:` are results of tasks

    error: `continue_on` is `cancelled`
      --> demo.yaml:25:27
       |
    25 |     continue_on: [failed, cancelled]
       |                           ^^^^^^^^^ `failed` or `skipped`

    error: `snapshot` is `during`
      --> demo.yaml:26:15
       |
    26 |     snapshot: during
       |               ^^^^^^ `before` or `after`

    error: `timeout` is `0`
      --> demo.yaml:27:14
       |
    27 |     timeout: 0
       |              ^ more than nothing
    ");
}

#[test]
fn a_workflow_needs_a_name_and_steps() {
    insta::assert_snapshot!(refusal("version: 1\n"), @r"
    error: a workflow has no `name`
     --> demo.yaml:1:1
      |
    1 | version: 1
      | ^^^^^^^

    error: a workflow has no `steps`
     --> demo.yaml:1:1
      |
    1 | version: 1
      | ^^^^^^^
    ");
    insta::assert_snapshot!(refusal("name: a\nsteps: []\n"), @r"
    error: `steps` holds nothing: a workflow has at least one step
     --> demo.yaml:2:8
      |
    2 | steps: []
      |        ^^
    ");
    insta::assert_snapshot!(refusal("- a\n"), @r"
    error: a workflow cannot be a list
     --> demo.yaml:1:1
      |
    1 | - a
      | ^^^ a map of keys
    ");
}

#[test]
fn a_workspace_can_only_be_copied_from_upstream() {
    insta::assert_snapshot!(refusal_of_steps("
  - {id: a, agent: shell, prompt: echo}
  - {id: b, agent: shell, prompt: echo, workspace: a}
"), @r"
    error: step `b` works in a copy of what `a` left, but does not wait for it
     --> demo.yaml:6:52
      |
    6 |   - {id: b, agent: shell, prompt: echo, workspace: a}
      |                                                    ^
      |
      = hint: add `depends_on: [a]`
    ");
}

#[test]
fn unknown_agents_are_marked_once_each() {
    let text = "\
name: demo
defaults: {agent: shel}
steps:
  - {id: a, prompt: echo}
  - {id: b, prompt: echo}
  - {id: c, agent: whatever, prompt: echo}
  - {id: d, agent: noop}
";
    let agents = ["shell".to_owned(), "noop".to_owned()];
    let known = KnownNames { agents: Some(&agents), vars: &[] };
    let problems = parse_workflow(SourceText::new("demo.yaml", text), known).expect_err("unknown agents");
    insta::assert_snapshot!(problems.render(Colour::Plain), @r"
    error: unknown agent type `shel`
     --> demo.yaml:2:19
      |
    2 | defaults: {agent: shel}
      |                   ^^^^
      |
      = hint: did you mean `shell`?

    error: unknown agent type `whatever`
     --> demo.yaml:6:20
      |
    6 |   - {id: c, agent: whatever, prompt: echo}
      |                    ^^^^^^^^
      |
      = hint: `maestro agent types` lists those there are; an agent with a folder of its own is known to `create` and `run`, which ask the cluster
    ");
}

#[test]
fn a_list_in_the_file_that_is_too_long_is_found_before_anything_runs() {
    let items = "1,".repeat(100_000);
    let text = format!("name: demo\nsteps:\n  - {{id: a, agent: shell, prompt: x, foreach: [{items}]}}\n");
    let problems = parse(&text).expect_err("too many");
    let told = problems.render(Colour::Plain);
    let expected = "the 100000 items of step `a` make more tasks than the 100000 a run may have";
    assert!(told.contains(expected), "{}", &told[..200.min(told.len())]);
}

#[test]
fn one_reading_finds_everything() {
    let steps: String = (0..30)
        .map(|number| format!("  - {{id: s{number}, agent: shell, promt: x, depends_on: nope}}\n"))
        .collect();
    let problems = parse(&format!("name: demo\nsteps:\n{steps}")).expect_err("it is wrong");
    assert_eq!(problems.list.len(), 60);
    assert!(problems.render(Colour::Plain).ends_with("... and 10 more"));
    let lines: Vec<usize> = problems.list.iter().map(|problem| problem.line).collect();
    assert!(lines.is_sorted());
}

#[test]
fn a_state_value_written_out_may_have_64_kib() {
    let of = |bytes: usize| {
        let value = "x".repeat(bytes);
        parse(&format!("name: a\nsteps: [{{id: a, agent: noop, publish: {{k: '{value}'}}}}]\n"))
    };
    assert!(of(65_536).is_ok());
    let text = of(65_537).expect_err("one too many").to_string();
    assert!(text.starts_with("error: the value has 65537 bytes, more than the 65536"), "{text}");
}
