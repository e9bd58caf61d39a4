//! What all commands share: usage errors, help, version, completion, formats, broken pipes.

use std::io::Read;
use std::process::Stdio;

use super::sandbox::Sandbox;

#[test]
fn a_wrong_command_line_is_exit_2() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(sandbox.maestro(&["workflov"]).picture(), @r"
    exit 2
    --- stderr
    error: unrecognized subcommand 'workflov'

      tip: some similar subcommands exist: 'worker', 'workflow'

    Usage: maestro [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(sandbox.maestro(&["version", "--fromat", "json"]).picture(), @r"
    exit 2
    --- stderr
    error: unexpected argument '--fromat' found

      tip: a similar argument exists: '--format'

    Usage: maestro version --format <FORMAT>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(sandbox.maestro(&["version", "--format", "xml"]).picture(), @r"
    exit 2
    --- stderr
    error: invalid value 'xml' for '--format <FORMAT>'
      [possible values: auto, table, json, jsonl, yaml, name]

      tip: a similar value exists: 'yaml'

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(sandbox.maestro(&["version", "-q", "-v"]).picture(), @r"
    exit 2
    --- stderr
    error: the argument '--quiet' cannot be used with '--verbose'

    Usage: maestro version --quiet

    For more information, try '--help'.
    ");
}

#[test]
fn with_a_json_format_a_wrong_command_line_is_json_too() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(sandbox.maestro(&["workflov", "--format", "json"]).picture(), @r#"
    exit 2
    --- stderr
    {"error":{"kind":"usage","message":"unrecognized subcommand 'workflov'","hint":"some similar subcommands exist: 'worker', 'workflow'"}}
    "#);
    insta::assert_snapshot!(sandbox.maestro(&["version", "--format=jsonl", "extra"]).picture(), @r#"
    exit 2
    --- stderr
    {"error":{"kind":"usage","message":"unexpected argument 'extra' found","hint":"try `--help`"}}
    "#);
}

#[test]
fn a_format_that_draws_is_for_graphs_alone() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(sandbox.maestro(&["version", "--format", "dot"]).picture(), @r"
    exit 2
    --- stderr
    error: the format `dot` is for `workflow graph` alone

    hint: here there are `table`, `json`, `jsonl`, `yaml` and `name`
    ");
}

#[test]
fn nothing_asked_is_answered_with_help_on_stderr() {
    let answer = Sandbox::new().maestro(&[]);
    assert_eq!((answer.code, answer.out.as_str()), (2, ""));
    assert!(answer.err.contains("Usage: maestro"), "{}", answer.err);
}

#[test]
fn help_is_success_and_shows_variables_and_exit_codes() {
    let answer = Sandbox::new().maestro(&["--help"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
    for line in [
        "  MAESTRO_REDIS_URL=redis://localhost:6379\n      where Redis is: ",
        "  MAESTRO_DRAIN_DEADLINE=30s\n      how long a worker that was told to end ",
        "   65  a file is invalid",
        "  130  cancelled or interrupted",
        "Example:\n  maestro workflow validate workflows/hello.yaml",
    ] {
        assert!(answer.out.contains(line), "{line} is not in\n{}", answer.out);
    }
}

#[test]
fn the_version_is_one_word_or_a_record() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.maestro(&["--version"]).out, "maestro [VERSION]\n");
    let record = sandbox.maestro(&["version"]).json();
    assert_eq!(record["version"], "[VERSION]");
    assert_eq!(sandbox.maestro(&["version", "--format", "name"]).out, "[VERSION]\n");
    let table = sandbox.maestro(&["version", "--format", "table"]).out;
    assert!(table.starts_with("name:      maestro\nversion:   [VERSION]\n"), "{table}");
    let version: Vec<u32> =
        env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().expect("a number")).collect();
    assert!(version >= vec![1, 2, 0], "releases start at 1.2.0");
}

#[test]
fn every_shell_gets_a_script() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let answer = sandbox.maestro(&["completion", shell]);
        assert_eq!(answer.code, 0, "{shell}");
        assert!(answer.out.contains("workflow") && answer.out.contains("validate"), "{shell}");
    }
    assert_eq!(sandbox.maestro(&["completion", "tcsh"]).code, 2);
}

#[test]
fn a_completion_script_is_what_bash_can_read() {
    let sandbox = Sandbox::new();
    let script = sandbox.maestro(&["completion", "bash"]).out;
    sandbox.write("here/script", script);
    let status = std::process::Command::new("bash").arg("-n").arg(sandbox.path("here/script")).status();
    assert!(status.expect("bash").success());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = Sandbox::new();
    let mut child = sandbox
        .command(&["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // Closed before anything is read: the script is larger than any pipe.
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("text");
    assert_eq!((child.wait().expect("it ends").code(), err.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let sandbox = Sandbox::new();
    let output = sandbox.command(&["version"]).stdout(full).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).expect("text");
    assert!(err.starts_with("error: cannot write the output\n  caused by: No space left"), "{err}");
}

#[test]
fn colour_is_for_terminals_only() {
    let sandbox = Sandbox::new();
    let asked = [("CLICOLOR_FORCE", "1")];
    let words = ["config", "show", "--format", "table", "--config", "missing.yaml"];
    assert!(!sandbox.maestro(&words).err.contains('\u{1b}'));
    assert!(sandbox.maestro_with(&asked, &words).err.contains('\u{1b}'));
    let unless = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
    let no_color = [&words[..], &["--no-color"]].concat();
    assert!(!sandbox.maestro_with(&asked, &no_color).err.contains('\u{1b}'));
    assert_eq!(sandbox.maestro_with(&unless, &words).code, 2);
}
