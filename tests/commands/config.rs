//! `maestro config`: what holds, where it comes from, what is wrong, and back to the beginning.

use std::fs;

use super::sandbox::{Answer, Sandbox};

/// The value and origin of one setting.
fn setting(answer: &Answer, key: &str) -> (serde_json::Value, String) {
    let list = answer.json();
    let record = list.as_array().expect("a list").iter().find(|record| record["key"] == key);
    let record = record.unwrap_or_else(|| panic!("no `{key}` in {}", answer.out));
    (record["value"].clone(), record["origin"].as_str().expect("text").to_owned())
}

#[test]
fn each_place_yields_to_those_before_it() {
    let sandbox = Sandbox::new();
    let namespace = |answer: &Answer| {
        let (value, origin) = setting(answer, "namespace");
        format!("{} from {origin}", value.as_str().expect("text"))
    };
    assert_eq!(namespace(&sandbox.maestro(&["config", "show"])), "maestro from default");
    sandbox.write("home/.config/maestro/config.yaml", "namespace: user\n");
    let from_user = namespace(&sandbox.maestro(&["config", "show"]));
    assert_eq!(from_user, "user from [FOLDER]/home/.config/maestro/config.yaml:1");
    // Looked for upwards: the sandbox is above the folder of the call.
    sandbox.write("maestro.yaml", "# ours\nnamespace: project\n");
    assert_eq!(namespace(&sandbox.maestro(&["config", "show"])), "project from [FOLDER]/maestro.yaml:2");
    let environment = [("MAESTRO_NAMESPACE", "environment")];
    let answer = sandbox.maestro_with(&environment, &["config", "show"]);
    assert_eq!(namespace(&answer), "environment from environment");
    let answer = sandbox.maestro_with(&environment, &["config", "show", "--namespace", "flag"]);
    assert_eq!(namespace(&answer), "flag from flag --namespace");
    sandbox.write("here/other.yaml", "lease: 1m\n");
    let answer = sandbox.maestro(&["--config", "other.yaml", "config", "show"]);
    assert_eq!(namespace(&answer), "maestro from default", "a named file stands in place of the others");
    assert_eq!(setting(&answer, "lease").0, 60, "a duration is a number of seconds");
}

#[test]
fn a_cluster_that_was_started_here_is_used_while_it_lives() {
    let sandbox = Sandbox::new();
    let note = |pid: u32, started: &str| {
        format!(r#"{{"address":"unix:///run/up.sock?pass=secret","pid":{pid},"started":{started}}}"#)
    };
    let stat = fs::read_to_string("/proc/self/stat").expect("our own process");
    let started = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19)).expect("field 22");
    sandbox.write("run/maestro/up-maestro.json", note(std::process::id(), started));
    let (value, origin) = setting(&sandbox.maestro(&["config", "show"]), "redis_url");
    assert_eq!(value, "unix:///run/up.sock?pass=***", "no password is shown");
    assert_eq!(origin, "maestro up ([FOLDER]/run/maestro/up-maestro.json)");
    let other = sandbox.maestro(&["config", "show", "--namespace", "other"]);
    assert_eq!(setting(&other, "redis_url").1, "default", "another namespace is another cluster");
    let given = sandbox.maestro_with(&[("MAESTRO_REDIS_URL", "redis://host")], &["config", "show"]);
    assert_eq!(setting(&given, "redis_url").1, "environment");

    sandbox.write("run/maestro/up-maestro.json", note(std::process::id(), "1"));
    let gone = sandbox.maestro(&["config", "show"]);
    assert_eq!(setting(&gone, "redis_url").1, "default", "the process is another one");
}

#[test]
fn a_table_names_what_differs_from_the_default() {
    let sandbox = Sandbox::new();
    sandbox.write("here/maestro.yaml", "lease: 45\nrun_retention: 14\nrun_bytes: 512m\n");
    let words = ["config", "show", "--origin", "--format", "table"];
    let variables =
        [("MAESTRO_SNAPSHOT_DIR", "/s"), ("MAESTRO_LOG_LEVEL", "debug"), ("MAESTRO_AGENTS_DIR", "/a")];
    insta::assert_snapshot!(sandbox.maestro_with(&variables, &words).picture(), @r"
    exit 0
    --- stdout
    KEY                  VALUE                     ORIGIN
    redis_url            redis://localhost:6379    default
    namespace            maestro                   default
    workspace_root       /tmp/maestro-workspaces   default
    agents_dir           /a                        environment
    log_level            DEBUG                     environment
    log_format           text                      default
    max_concurrent       4                         default
    agent_timeout        30m                       default
    heartbeat            5s                        default
    lease                45s                       [FOLDER]/here/maestro.yaml:1
    max_attempts         3                         default
    state_ttl            1d                        default
    snapshot_dir         /s                        environment
    snapshot_retention   7d                        default
    snapshot_interval    0s                        default
    run_retention        14d                       [FOLDER]/here/maestro.yaml:2
    run_bytes            512MiB                    [FOLDER]/here/maestro.yaml:3
    failsafe_mode        false                     default
    kilocode_bin         /usr/local/bin/kilo       default
    grace_period         10s                       default
    drain_deadline       30s                       default
    metrics_port         off                       default
    alert_secret         none                      default
    ");
}

#[test]
fn names_and_yaml_are_formats_too() {
    let sandbox = Sandbox::new();
    let names = sandbox.maestro(&["config", "show", "--format", "name"]).out;
    assert!(names.starts_with("redis_url\nnamespace\nworkspace_root\n"), "{names}");
    let yaml = sandbox.maestro(&["config", "show", "--format", "yaml"]).out;
    assert!(yaml.starts_with("- key: redis_url\n"), "{yaml}");
    let lines = sandbox.maestro(&["config", "show", "--format", "jsonl"]).out;
    assert_eq!(lines.lines().count(), names.lines().count());
    let list = sandbox.maestro(&["config", "show", "--format", "json"]).out;
    assert_eq!(list.lines().count(), names.lines().count() + 2, "one record per line in an array");
}

#[test]
fn a_wrong_file_is_shown_with_all_that_is_wrong() {
    let sandbox = Sandbox::new();
    sandbox.write("here/maestro.yaml", "redis_ulr: redis://host\nlease: soon\nmax_concurrent: 0\n");
    insta::assert_snapshot!(sandbox.maestro(&["config", "show"]).picture(), @r"
    exit 2
    --- stderr
    error: unknown key `redis_ulr`
     --> [FOLDER]/here/maestro.yaml:1:1
      |
    1 | redis_ulr: redis://host
      | ^^^^^^^^^ a setting
      |
      = hint: did you mean `redis_url`? `maestro config show` lists them all

    error: `soon` is not a duration: a number and a unit are expected
     --> [FOLDER]/here/maestro.yaml:2:8
      |
    2 | lease: soon
      |        ^^^^ a duration: `90s`, `1h30m`, or bare seconds

    error: `0` is not a whole number from 1 to 1000000
     --> [FOLDER]/here/maestro.yaml:3:17
      |
    3 | max_concurrent: 0
      |                 ^ a whole number from 1 to 1000000
    ");
    insta::assert_snapshot!(sandbox.maestro(&["config", "show", "--format", "json"]).picture(), @r#"
    exit 2
    --- stderr
    {"error":{"kind":"usage","message":"the configuration file `[FOLDER]/here/maestro.yaml` is wrong: line 1: unknown key `redis_ulr`","hint":null,"details":{"diagnostics":[{"severity":"error","file":"[FOLDER]/here/maestro.yaml","line":1,"column":1,"message":"unknown key `redis_ulr`","expected":"a setting","nearest":"redis_url","hint":"`maestro config show` lists them all","source_line":"redis_ulr: redis://host","mark":{"start":0,"end":9}},{"severity":"error","file":"[FOLDER]/here/maestro.yaml","line":2,"column":8,"message":"`soon` is not a duration: a number and a unit are expected","expected":"a duration: `90s`, `1h30m`, or bare seconds","source_line":"lease: soon","mark":{"start":7,"end":11}},{"severity":"error","file":"[FOLDER]/here/maestro.yaml","line":3,"column":17,"message":"`0` is not a whole number from 1 to 1000000","expected":"a whole number from 1 to 1000000","source_line":"max_concurrent: 0","mark":{"start":16,"end":17}}],"more":0}}}
    "#);
}

#[test]
fn a_wrong_variable_or_flag_is_named() {
    let sandbox = Sandbox::new();
    let variables = [("MAESTRO_HEARTBEAT", "soon")];
    insta::assert_snapshot!(sandbox.maestro_with(&variables, &["config", "show"]).picture(), @r"
    exit 2
    --- stderr
    error: cannot use the value of `MAESTRO_HEARTBEAT`
      caused by: `soon` is not a duration: a number and a unit are expected

    hint: a duration: `90s`, `1h30m`, or bare seconds
    ");
    insta::assert_snapshot!(sandbox.maestro(&["config", "show", "--redis-url", "localhost"]).picture(), @r"
    exit 2
    --- stderr
    error: cannot use the value of `--redis-url`
      caused by: `localhost` does not begin with `redis://`, `rediss://`, `unix://`, `redis-sentinel://`, `rediss-sentinel://`, `redis-cluster://` or `rediss-cluster://`

    hint: where Redis is: `redis://`, `rediss://`, `unix://`, `redis-sentinel://` or `redis-cluster://`
    ");
    insta::assert_snapshot!(sandbox.maestro(&["config", "show", "--config", "missing.yaml"]).picture(), @r"
    exit 2
    --- stderr
    error: there is no configuration file `[FOLDER]/here/missing.yaml`

    hint: name another with `--config`, or leave the flag out
    ");
}

#[test]
fn reset_keeps_the_old_file_and_works_when_it_is_broken() {
    let sandbox = Sandbox::new();
    sandbox.write("home/.config/maestro/config.yaml", "leese: 1\n");
    assert_eq!(sandbox.maestro(&["config", "show"]).code, 2);
    assert_eq!(sandbox.maestro(&["config", "reset"]).code, 2, "the flag is required");
    insta::assert_snapshot!(sandbox.maestro(&["config", "reset", "--to-default"]).picture(), @r"
    exit 0
    --- stderr
    the old file is kept as `[FOLDER]/home/.config/maestro/config.yaml.bak`
    `[FOLDER]/home/.config/maestro/config.yaml` sets nothing now: every default holds
    ");
    let kept = fs::read_to_string(sandbox.path("home/.config/maestro/config.yaml.bak"));
    assert_eq!(kept.expect("a file"), "leese: 1\n");
    assert_eq!(sandbox.maestro(&["config", "show"]).code, 0);

    insta::assert_snapshot!(sandbox.maestro(&["config", "reset", "--to-default"]).picture(), @r"
    exit 0
    --- stderr
    `[FOLDER]/home/.config/maestro/config.yaml` sets nothing already
    ");
    let kept = fs::read_to_string(sandbox.path("home/.config/maestro/config.yaml.bak"));
    assert_eq!(kept.expect("a file"), "leese: 1\n", "a second reset keeps what the first one saved");
    let names: Vec<_> = fs::read_dir(sandbox.path("home/.config/maestro")).expect("a folder").collect();
    assert_eq!(names.len(), 2, "nothing temporary is left");
}
