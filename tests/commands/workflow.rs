//! `maestro workflow`: what can be done with a definition without any cluster.

use super::sandbox::Sandbox;

const HELLO: &str = "name: hello\nsteps:\n  - id: greet\n    agent: shell\n    prompt: echo hello\n  - id: join\n    agent: noop\n    depends_on: [greet]\n";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("here/hello.yaml", HELLO).write("here/folder/file", "");
    sandbox
}

#[test]
fn a_valid_file_is_exit_0() {
    let sandbox = sandbox();
    let words = ["workflow", "validate", "hello.yaml"];
    insta::assert_snapshot!(sandbox.maestro(&words).picture(), @r#"
    exit 0
    --- stdout
    {"file":"hello.yaml","name":"hello","version":null,"steps":2,"edges":1,"warnings":0,"valid":true}
    "#);
    let table = [&words[..], &["--format", "table"]].concat();
    insta::assert_snapshot!(sandbox.maestro(&table).picture(), @r"
    exit 0
    --- stdout
    workflow `hello` is valid: 2 steps
    ");
    let answer = sandbox.maestro_reading(HELLO, &["workflow", "validate", "-", "--format", "name"]);
    assert_eq!((answer.code, answer.out.as_str()), (0, "hello\n"));
}

#[test]
fn an_invalid_file_is_exit_65_with_every_error_marked() {
    let sandbox = sandbox();
    let wrong = HELLO.replace("prompt:", "promt:").replace("[greet]", "[great]").replace("noop", "nop");
    sandbox.write("here/wrong.yaml", wrong);
    insta::assert_snapshot!(sandbox.maestro(&["workflow", "validate", "wrong.yaml"]).picture(), @r"
    exit 65
    --- stderr
    error: unknown key `promt` in a step
     --> wrong.yaml:5:5
      |
    5 |     promt: echo hello
      |     ^^^^^
      |
      = hint: did you mean `prompt`?

    error: step `join` has no `prompt`
     --> wrong.yaml:6:5
      |
    6 |   - id: join
      |     ^^

    error: unknown agent type `nop`
     --> wrong.yaml:7:12
      |
    7 |     agent: nop
      |            ^^^
      |
      = hint: did you mean `noop`?

    error: unknown step `great`
     --> wrong.yaml:8:18
      |
    8 |     depends_on: [great]
      |                  ^^^^^
      |
      = hint: did you mean `greet`?
    ");
    let answer = sandbox.maestro(&["workflow", "validate", "wrong.yaml", "--format", "json"]);
    assert_eq!((answer.code, answer.out.as_str()), (65, ""));
    let error: serde_json::Value = serde_json::from_str(&answer.err).expect("JSON");
    assert_eq!(error["error"]["kind"], "invalid_file");
    let diagnostics = error["error"]["details"]["diagnostics"].as_array().expect("a list");
    assert!(diagnostics.iter().all(|one| one["line"].is_u64() && one["file"] == "wrong.yaml"), "{error}");
    assert!(diagnostics.len() >= 3, "{error}");
}

#[test]
fn files_that_are_no_workflow_at_all_are_exit_65() {
    let sandbox = sandbox();
    let bomb: String = (1..40).fold("a0: &a0 [x, x]\n".to_owned(), |text, level| {
        format!("{text}a{level}: &a{level} [*a{}, *a{}]\n", level - 1, level - 1)
    });
    let files: [(&str, Vec<u8>); 7] = [
        ("empty", Vec::new()),
        ("tabs", b"name: x\nsteps:\n\t- id: a\n".to_vec()),
        ("two documents", format!("{HELLO}---\n{HELLO}").into_bytes()),
        ("no UTF-8", b"name: \xff\n".to_vec()),
        ("a list", b"- a\n".to_vec()),
        ("a bomb", bomb.into_bytes()),
        ("too large", vec![b'#'; 2 << 20]),
    ];
    for (what, bytes) in files {
        sandbox.write("here/wrong.yaml", bytes);
        let answer = sandbox.maestro(&["workflow", "validate", "wrong.yaml"]);
        assert_eq!((answer.code, answer.out.as_str()), (65, ""), "{what}: {}", answer.picture());
        assert!(answer.err.starts_with("error: "), "{what}: {}", answer.err);
        assert!(answer.err.contains("wrong.yaml"), "{what}: {}", answer.err);
    }
}

#[test]
fn a_byte_order_mark_does_no_harm() {
    let sandbox = sandbox();
    sandbox.write("here/bom.yaml", format!("\u{feff}{HELLO}"));
    assert_eq!(sandbox.maestro(&["workflow", "validate", "bom.yaml"]).code, 0);
}

#[test]
fn a_file_that_is_not_there_is_exit_66() {
    let sandbox = sandbox();
    insta::assert_snapshot!(sandbox.maestro(&["workflow", "validate", "missing.yaml"]).picture(), @r"
    exit 66
    --- stderr
    error: there is no file `missing.yaml`
    ");
    assert_eq!(sandbox.maestro(&["workflow", "validate", "folder"]).code, 65, "a folder is no definition");
}

#[test]
fn agent_types_are_those_of_the_folders_and_those_that_are_shipped() {
    let sandbox = Sandbox::new();
    sandbox
        .write("here/hello.yaml", HELLO)
        .write("here/mine.yaml", HELLO.replace("noop", "mine\n    prompt: x"));
    assert_eq!(sandbox.maestro(&["workflow", "validate", "hello.yaml"]).code, 0);
    let unknown = sandbox.maestro(&["workflow", "validate", "mine.yaml"]);
    assert_eq!(unknown.code, 65);
    assert!(unknown.err.contains("unknown agent type `mine`"), "{}", unknown.err);
    sandbox.write("types/mine.yaml", "command: [echo]\n");
    let folder = sandbox.path("types");
    let variables = [("MAESTRO_AGENTS_DIR", folder.to_str().expect("text"))];
    assert_eq!(sandbox.maestro_with(&variables, &["workflow", "validate", "mine.yaml"]).code, 0);
}

#[test]
fn escape_sequences_of_a_file_do_not_reach_the_terminal() {
    let sandbox = sandbox();
    sandbox.write("here/evil.yaml", "name: \"\\e[31mred\"\n\"\\e]0;title\\a\": 1\nsteps: []\n");
    let answer = sandbox.maestro(&["workflow", "validate", "evil.yaml"]);
    assert_eq!(answer.code, 65);
    assert!(!answer.err.contains(['\u{1b}', '\u{7}']), "{:?}", answer.err);
}

#[test]
fn the_schema_is_one_json_document() {
    let sandbox = Sandbox::new();
    let schema = sandbox.maestro(&["workflow", "schema"]).json();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["properties"]["steps"].is_object());
    let yaml = sandbox.maestro(&["workflow", "schema", "--format", "yaml"]).out;
    assert!(yaml.contains("$schema"), "{yaml}");
}

#[test]
fn a_graph_is_drawn_or_listed() {
    let sandbox = sandbox();
    let graph = |format: &str| sandbox.maestro(&["workflow", "graph", "hello.yaml", "--format", format]).out;
    insta::assert_snapshot!(graph("ascii"), @r"
    hello: 2 steps

    level 1
      greet  shell

    level 2
      join   noop   after greet
    ");
    insta::assert_snapshot!(graph("dot"), @r#"
    digraph "hello" {
      rankdir=LR;
      node [shape=box];
      "greet" [label="greet\nshell"];
      "join" [label="join\nnoop"];
      "greet" -> "join";
    }
    "#);
    insta::assert_snapshot!(graph("mermaid"), @r#"
    flowchart TD
      s0["greet<br/>shell"]
      s1["join<br/>noop"]
      s0 --> s1
    "#);
    insta::assert_snapshot!(graph("json"), @r#"{"name":"hello","steps":[{"id":"greet","agent":"shell","foreach":false},{"id":"join","agent":"noop","foreach":false}],"edges":[{"from":"greet","to":"join","kind":"needs","implied":false}]}"#);
    assert_eq!(graph("name"), "greet\njoin\n");
    assert_eq!(graph("auto"), graph("ascii"), "a drawing in a pipe as well");
}

#[test]
fn every_workflow_that_is_shipped_is_valid() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let sandbox = Sandbox::new();
    let mut seen = 0;
    for entry in root.join("workflows").read_dir().expect("a folder") {
        let path = entry.expect("an entry").path();
        let answer = sandbox.maestro(&["workflow", "validate", path.to_str().expect("text")]);
        assert_eq!(answer.code, 0, "{}", answer.picture());
        seen += 1;
    }
    assert!(seen > 0);
}
