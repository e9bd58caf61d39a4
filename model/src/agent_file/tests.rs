//! Agent files as their users meet them: the example of the reference, and every slip.

use super::*;
use crate::diagnostic::Colour;

/// The example of the reference, word for word.
const EXAMPLE: &str = r#"
slug: code-reviewer
description: Reviews a change for security and style
mode: code-reviewer                    # handed to the command as << agent.mode >>
command: [kilo, run, --auto, --agent, "<< agent.mode >>", --dir, "<< workspace >>", "<< prompt >>"]   # argv, never a shell
prompt_via: arg                        # arg | stdin | file
workspace_template: templates/rust     # copied (reflink where the file system can) into each new workspace
capabilities: [review, rust]
env: {RUST_LOG: warn}
env_passthrough: [ANTHROPIC_API_KEY]   # nothing else of the worker's environment reaches an agent
secrets: {GITHUB_TOKEN: "file:///run/secrets/github"}   # env:// or file://
isolate_with: process                  # process (default) | docker
image: maestro-agent:latest            # docker only
shared_network: false
resources: {memory: 512m, cpus: "1.5", pids: 256}       # also read as resource_limits
paths: {read: [/opt/models], write: [~/.cache/kilo]}    # beyond the workspace, see 6
home: workspace                        # workspace (default) | worker | a path: what HOME is
cache_dir: /var/cache/maestro          # mounted read-only
secrets_dir: /run/secrets              # mounted read-only
timeout: 1800
stall_timeout: 300                     # no output for so long = stalled; off unless set
limits: {max_concurrent: 2}            # across the cluster
worker_labels: {gpu: "true"}           # only such workers serve it
output: text                           # text | claude-json | codex-json | gemini-json | kilo-json
"#;

fn parse(name: &str, text: &str) -> Result<ParsedAgent, Diagnostics> {
    parse_agent_file(SourceText::new(name, text))
}

fn refusal(text: &str) -> String {
    parse("agents.d/demo.yaml", text).expect_err("it is wrong").render(Colour::Plain)
}

#[test]
fn the_example_of_the_reference_is_right() {
    let parsed =
        parse("agents.d/code-reviewer.yaml", EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(parsed.warnings.is_empty(), "{}", parsed.warnings);
    insta::assert_json_snapshot!("example", parsed.agent);
}

#[test]
fn a_file_says_no_more_than_it_must() {
    let parsed = parse("demo.yaml", "description: does nothing special\n").expect("it is right");
    assert_eq!((parsed.agent.slug.as_str(), parsed.agent.mode.as_str()), ("demo", "demo"));
    assert_eq!(parsed.agent.command, None);
    let noop = parse("noop.yaml", "command: []\n").expect("it is right");
    assert_eq!(noop.agent.command, Some(Vec::new()));
    assert!(noop.warnings.is_empty());
}

#[test]
fn slips_are_marked() {
    insta::assert_snapshot!(refusal("
slug: other
comand: [sh]
prompt_via: pipe
env: {1X: a, TARGET: << steps.a.result >>}
env_passthrough: [A B]
secrets: {TOKEN: hunter2}
isolate_with: docker
resources: {memory: lots, cpus: none, pids: 0, disk: 1g}
resource_limits: {}
paths: {read: models, wirte: [/tmp]}
home: worke
timeout: never
limits: 3
output: jason
on_disconnect: kill
"), @r"
    error: `slug` is `other`, but the file is called `demo.yaml`
     --> agents.d/demo.yaml:2:7
      |
    2 | slug: other
      |       ^^^^^ `demo`

    error: unknown key `comand` in an agent type
     --> agents.d/demo.yaml:3:1
      |
    3 | comand: [sh]
      | ^^^^^^
      |
      = hint: did you mean `command`?

    error: `prompt_via` is `pipe`
     --> agents.d/demo.yaml:4:13
      |
    4 | prompt_via: pipe
      |             ^^^^ `arg`, `stdin` or `file`

    error: `1X` is not the name of an environment variable
     --> agents.d/demo.yaml:5:7
      |
    5 | env: {1X: a, TARGET: << steps.a.result >>}
      |       ^^
      |
      = hint: it has letters, digits and `_`, and does not begin with a digit

    error: `steps` cannot be read in an agent type
     --> agents.d/demo.yaml:5:25
      |
    5 | env: {1X: a, TARGET: << steps.a.result >>}
      |                         ^^^^^^^^^^^^^^ one of `agent`, `prompt`, `workspace`, `vars`, `params`, `state`, `run`, `task`, `attempt`, `env`

    error: `A B` is not the name of an environment variable
     --> agents.d/demo.yaml:6:19
      |
    6 | env_passthrough: [A B]
      |                   ^^^

    error: `TOKEN` does not say where its value is found
     --> agents.d/demo.yaml:7:11
      |
    7 | secrets: {TOKEN: …}
      |           ^^^^^
      |
      = hint: write `env://NAME` or `file:///PATH`; the value itself never stands in this file

    error: `isolate_with: docker` needs an `image`
     --> agents.d/demo.yaml:8:15
      |
    8 | isolate_with: docker
      |               ^^^^^^

    error: `memory` is `lots`, which is not a size
     --> agents.d/demo.yaml:9:21
      |
    9 | resources: {memory: lots, cpus: none, pids: 0, disk: 1g}
      |                     ^^^^ the units are `k`, `m`, `g`, `t` and `p`
      |
      = hint: write `512m`, `1g`, `64KiB`, or bare bytes

    error: `cpus` is `none`
     --> agents.d/demo.yaml:9:33
      |
    9 | resources: {memory: lots, cpus: none, pids: 0, disk: 1g}
      |                                 ^^^^ a number from 0.01 to 1024

    error: `pids` is `0`
     --> agents.d/demo.yaml:9:45
      |
    9 | resources: {memory: lots, cpus: none, pids: 0, disk: 1g}
      |                                             ^ a whole number from 1 to 4194304

    error: unknown key `disk` in `resources`
     --> agents.d/demo.yaml:9:48
      |
    9 | resources: {memory: lots, cpus: none, pids: 0, disk: 1g}
      |                                                ^^^^
      |
      = hint: known here: `memory`, `cpus`, `pids`, `required`

    error: `resource_limits` is another word for `resources`, which is given too
      --> agents.d/demo.yaml:10:1
       |
    10 | resource_limits: {}
       | ^^^^^^^^^^^^^^^

    error: `models` is not an absolute path
      --> agents.d/demo.yaml:11:15
       |
    11 | paths: {read: models, wirte: [/tmp]}
       |               ^^^^^^ a path that begins with `/` or `~/`

    error: unknown key `wirte` in `paths`
      --> agents.d/demo.yaml:11:23
       |
    11 | paths: {read: models, wirte: [/tmp]}
       |                       ^^^^^
       |
       = hint: did you mean `write`?

    error: `home` is `worke`
      --> agents.d/demo.yaml:12:7
       |
    12 | home: worke
       |       ^^^^^ `workspace`, `worker` or an absolute path
       |
       = hint: did you mean `worker`?

    error: `timeout` is `never`, which is not a duration
      --> agents.d/demo.yaml:13:10
       |
    13 | timeout: never
       |          ^^^^^ a number and a unit are expected
       |
       = hint: write `90s`, `1h30m`, `250ms`, or bare seconds

    error: `limits` cannot be a single value
      --> agents.d/demo.yaml:14:9
       |
    14 | limits: 3
       |         ^ a map of keys

    error: `output` is `jason`
      --> agents.d/demo.yaml:15:9
       |
    15 | output: jason
       |         ^^^^^ `text`, `claude-json`, `codex-json`, `gemini-json` or `kilo-json`

    error: `on_disconnect` is `kill`
      --> agents.d/demo.yaml:16:16
       |
    16 | on_disconnect: kill
       |                ^^^^ `stop` or `keep`
    ");
}

#[test]
fn an_empty_command_is_for_noop_only() {
    insta::assert_snapshot!(refusal("command: []\n"), @r"
    error: `command` holds nothing
     --> agents.d/demo.yaml:1:10
      |
    1 | command: []
      |          ^^
      |
      = hint: leave it out to run kilo with `mode`; only `noop` launches nothing
    ");
}

#[test]
fn what_is_probably_not_meant_is_warned_about() {
    let text = "command: [sh, -c, run]\nisolate_with: none\n";
    let parsed = parse("demo.yaml", text).expect("warnings are no errors");
    insta::assert_snapshot!(parsed.warnings.render(Colour::Plain), @r"
    warning: the prompt does not reach this agent
     --> demo.yaml:1:1
      |
    1 | command: [sh, -c, run]
      | ^^^^^^^
      |
      = hint: put `<< prompt >>` into `command`, or say `prompt_via: stdin` or `prompt_via: file`

    warning: agents of this type are not confined
     --> demo.yaml:2:15
      |
    2 | isolate_with: none
      |               ^^^^
      |
      = hint: they can read and change what the worker can, other agents' workspaces too
    ");
}

#[test]
fn the_name_of_the_file_must_be_a_slug() {
    let text = parse("agents.d/my agent.yaml", "mode: x\n").expect_err("no slug").render(Colour::Plain);
    assert!(text.starts_with("error: the file's name `my agent` is not the slug of an agent type"), "{text}");
}
