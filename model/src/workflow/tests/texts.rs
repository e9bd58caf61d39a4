//! Templates and expressions in a workflow: which names may stand where, and what each mistake is answered with.

use super::*;

#[test]
fn unknown_variables_are_marked_inside_the_text() {
    insta::assert_snapshot!(refusal_of_steps("
  - id: a
    agent: shell
    prompt: |
      git checkout << vars.brnch >>
      << vars.quiet | default('') >>
    env: {TARGET: '<< vars.nothing_like_it >>'}
"), @r"
    error: unknown name `vars.brnch`
     --> demo.yaml:8:23
      |
    8 |       git checkout << vars.brnch >>
      |                       ^^^^^^^^^^
      |
      = hint: did you mean `vars.branch`?

    error: unknown name `vars.nothing_like_it`
      --> demo.yaml:10:23
       |
    10 |     env: {TARGET: '<< vars.nothing_like_it >>'}
       |                       ^^^^^^^^^^^^^^^^^^^^
       |
       = hint: known: `branch`
    ");
}

#[test]
fn names_are_refused_where_they_have_no_value() {
    insta::assert_snapshot!(refusal_of_steps("
  - id: a
    agent: shell
    when: << item == 1 >>
    prompt: << item >> << outputs.x >> << prompt >>
  - id: b
    agent: shell
    foreach: << env.LIST >>
    when: << item == 1 >>
    prompt: << item >>
  - id: c
    agent: shell
    foreach: [a, << state.x >>]
    prompt: << item >>
"), @r"
    error: `item` cannot be read in `when`
     --> demo.yaml:7:14
      |
    7 |     when: << item == 1 >>
      |              ^^^^ one of `state`, `vars`, `params`, `steps`, `run`
      |
      = hint: it is decided once, before there are items

    error: `item` is read in a step without `foreach`
     --> demo.yaml:8:16
      |
    8 |     prompt: << item >> << outputs.x >> << prompt >>
      |                ^^^^
      |
      = hint: `item` is known in a step with `foreach`

    error: `outputs` cannot be read in a prompt or `env`
     --> demo.yaml:8:27
      |
    8 |     prompt: << item >> << outputs.x >> << prompt >>
      |                           ^^^^^^^^^ one of `state`, `vars`, `params`, `steps`, `run`, `task`, `agent`, `item`, `attempt`, `workspace`, `env`
      |
      = hint: a step's own outputs are known in `publish`, those of others as `steps.<id>.outputs`

    error: `prompt` cannot be read in a prompt or `env`
     --> demo.yaml:8:43
      |
    8 |     prompt: << item >> << outputs.x >> << prompt >>
      |                                           ^^^^^^ one of `state`, `vars`, `params`, `steps`, `run`, `task`, `agent`, `item`, `attempt`, `workspace`, `env`
      |
      = hint: `prompt` is known in the command of an agent type

    error: `env` cannot be read in `foreach`
      --> demo.yaml:11:17
       |
    11 |     foreach: << env.LIST >>
       |                 ^^^^^^^^ one of `state`, `vars`, `params`, `steps`, `run`

    error: `item` cannot be read in `when`
      --> demo.yaml:12:14
       |
    12 |     when: << item == 1 >>
       |              ^^^^ one of `state`, `vars`, `params`, `steps`, `run`
       |
       = hint: it is decided once, before there are items

    error: `state` cannot be read in an item of a literal list
      --> demo.yaml:16:21
       |
    16 |     foreach: [a, << state.x >>]
       |                     ^^^^^^^ one of `vars`, `params`
       |
       = hint: write `foreach` as one expression to read it when the step starts
    ");
}

#[test]
fn templates_that_cannot_be_right_are_marked() {
    insta::assert_snapshot!(refusal_of_steps("
  - id: a
    agent: shell
    prompt: echo << state.x | nofilter >>
  - id: b
    agent: shell
    prompt: echo << state.x
  - id: c
    agent: shell
    prompt: echo << sate.x >>
  - id: d
    agent: shell
    prompt: 'echo {{ state.x }}'
  - id: e
    agent: shell
    prompt: echo << state[vars.branch] >>
  - id: f
    agent: shell
    prompt: echo << steps.a.foo >>
  - id: g
    agent: shell
    when: << vars.branch == >>
    prompt: echo
"), @r#"
    error: unknown filter `nofilter`
     --> demo.yaml:7:31
      |
    7 |     prompt: echo << state.x | nofilter >>
      |                               ^^^^^^^^
      |
      = hint: the filters are sh, json, fromjson, default, d, abs, attr, batch, bool, capitalize, chain, count, dictsort, e, escape, first, float, format, groupby, indent, int, items, join, last, length, lines, list, lower, map, max, min, reject, rejectattr, replace, reverse, round, select, selectattr, slice, sort, split, string, sum, title, tojson, trim, unique, upper

    error: the expression that begins here has no `>>`
      --> demo.yaml:10:18
       |
    10 |     prompt: echo << state.x
       |                  ^^^^^^^^^^
       |
       = hint: an expression ends with `>>`; write `\<<` for a plain `<<`

    error: unknown name `sate`, so this is no expression but plain text
      --> demo.yaml:13:21
       |
    13 |     prompt: echo << sate.x >>
       |                     ^^^^
       |
       = hint: did you mean `<< state.`? write `\<<` for a plain `<<`

    error: `{{ }}` does not mark an expression, so this is plain text
      --> demo.yaml:16:19
       |
    16 |     prompt: 'echo {{ state.x }}'
       |                   ^^^^^^^^^^^^^
       |
       = hint: write `<< state.x >>`; write `\{{` for a plain `{{`

    error: what is read of `state` must be written out, not computed
      --> demo.yaml:19:21
       |
    19 |     prompt: echo << state[vars.branch] >>
       |                     ^^^^^^^^^^^^^^^^^^
       |
       = hint: write `state.name` or `state["name"]`

    error: unknown name `steps.a.foo`: a step has `result`, `outputs`, `status`, `reason`, `exit_code`, `message`
      --> demo.yaml:22:21
       |
    22 |     prompt: echo << steps.a.foo >>
       |                     ^^^^^^^^^^^
       |
       = hint: what a step writes is read as `steps.a.outputs.foo`

    error: unexpected end of input, expected expression
      --> demo.yaml:25:26
       |
    25 |     when: << vars.branch == >>
       |                          ^^
    "#);
}

#[test]
fn text_that_is_no_template_is_left_alone() {
    let text = "\
name: demo
steps:
  - id: a
    agent: shell
    prompt: |
      cat <<EOF >> out.txt
      a << b >> c; std::cout << x << y;
      <<: *merge
      EOF
";
    let parsed = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(parsed.workflow.steps[0].prompt.as_ref().expect("it has one").names.is_empty());
}

#[test]
fn variables_from_outside_are_known() {
    let text = "name: demo\nsteps: [{id: a, agent: shell, prompt: << vars.given >>}]\n";
    assert!(parse(text).is_err());
    let vars = ["given".to_owned()];
    let known = KnownNames { agents: None, vars: &vars };
    assert!(parse_workflow(SourceText::new("demo.yaml", text), known).is_ok());
}

#[test]
fn a_prompt_may_have_256_kib_and_no_more() {
    let prompt = |bytes: usize| {
        format!("name: a\nsteps: [{{id: a, agent: shell, prompt: '{}'}}]\n", "x".repeat(bytes))
    };
    assert!(parse(&prompt(PROMPT_BYTES_MAX)).is_ok());
    let text = refusal(&prompt(PROMPT_BYTES_MAX + 1));
    assert!(
        text.starts_with("error: the prompt has 262145 bytes, more than the 262144 (256 KiB) it may have"),
        "{text}"
    );
}
