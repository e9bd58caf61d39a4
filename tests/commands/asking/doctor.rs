//! `maestro doctor`.

use serde_json::Value;

use super::cluster::Cluster;
use crate::sandbox::{Answer, Sandbox};

/// The check of that name.
fn check<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().expect("a list").iter().find(|entry| entry["check"] == name);
    found.unwrap_or_else(|| panic!("no check `{name}` in {list}"))
}

fn doctor(cluster: &Cluster) -> Answer {
    let mut command = cluster.command(&["doctor"]);
    command.env("MAESTRO_WORKSPACE_ROOT", cluster.sandbox.path("root"));
    cluster.answer(command)
}

fn set(cluster: &Cluster, name: &str, value: &str) {
    let set = redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec(&mut cluster.redis.raw());
    set.expect("configured");
}

#[test]
fn a_cluster_is_looked_at_line_by_line() {
    let cluster = Cluster::new();
    let answer = doctor(&cluster);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{}", answer.picture());
    let list = answer.json();
    for (name, status) in
        [("redis", "ok"), ("eviction", "ok"), ("persistence", "warn"), ("memory", "ok"), ("clock", "ok")]
    {
        assert_eq!(check(&list, name)["status"], status, "{list}");
    }
    assert!(check(&list, "persistence")["mend"].as_str().is_some_and(|mend| mend.contains("appendonly yes")));
    assert_eq!(check(&list, "workers")["found"], "none is alive: what is submitted waits");
    assert_eq!(check(&list, "agent shell")["status"], "ok");
    assert_eq!(check(&list, "agent noop")["found"], "launches nothing");
    assert_eq!(check(&list, "agent claude")["status"], "warn", "it is not installed in the sandbox");
    assert_eq!(check(&list, "workspaces")["status"], "ok");
    assert!(!cluster.sandbox.path("root").exists(), "nothing is made");
    cluster.worker("alpha", &["noop"], 4);
    let list = doctor(&cluster).json();
    assert_eq!(check(&list, "workers")["found"], "1 alive, 0 of 4 slots taken");
}

#[test]
fn people_read_a_line_with_the_way_to_mend_it() {
    let cluster = Cluster::new();
    let answer = cluster.ask_table(&["doctor"]);
    let line = answer.out.lines().find(|line| line.contains("persistence")).unwrap_or_default();
    let words: Vec<&str> = line.split("  ").filter(|word| !word.is_empty()).map(str::trim).collect();
    assert_eq!(words[0], "warn", "{line}");
    assert!(line.ends_with("(or `redis-cli config set appendonly yes`)"), "{line}");
}

#[test]
fn a_wrong_agent_file_fails_the_check_and_is_named() {
    let cluster = Cluster::new();
    cluster.sandbox.write("here/agents.d/mine.yaml", "comand: [echo]\n");
    let answer = doctor(&cluster);
    assert_eq!(answer.code, 1, "{}", answer.picture());
    let list = answer.json();
    let entry = check(&list, "agent mine");
    assert_eq!(entry["status"], "fail");
    assert!(entry["found"].as_str().is_some_and(|found| found.contains("mine.yaml")), "{entry}");
}

#[test]
fn a_root_that_cannot_be_one_fails_the_check() {
    let cluster = Cluster::new();
    cluster.sandbox.write("file", "");
    let mut command = cluster.command(&["doctor"]);
    command.env("MAESTRO_WORKSPACE_ROOT", cluster.sandbox.path("file"));
    let answer = cluster.answer(command);
    assert_eq!(answer.code, 1);
    let found = check(&answer.json(), "workspaces")["found"].clone();
    assert_eq!(found, "`[FOLDER]/file` is not a folder");
}

#[test]
fn a_redis_that_cannot_be_used_is_exit_69_and_the_rest_is_looked_at_all_the_same() {
    let sandbox = Sandbox::new();
    let nowhere = format!("unix://{}", sandbox.path("nowhere.sock").display());
    let answer = sandbox.maestro(&["doctor", "--redis-url", &nowhere]);
    assert_eq!(answer.code, 69);
    let list = answer.json();
    assert_eq!(check(&list, "redis")["status"], "fail");
    assert_eq!(check(&list, "agent noop")["status"], "ok");

    let cluster = Cluster::new();
    set(&cluster, "maxmemory-policy", "allkeys-lru");
    assert_eq!(doctor(&cluster).code, 0, "nothing is evicted as long as there is no limit");
    set(&cluster, "maxmemory", "100mb");
    let answer = doctor(&cluster);
    assert_eq!(answer.code, 69);
    let list = answer.json();
    let entry = check(&list, "redis");
    assert!(
        entry["found"].as_str().is_some_and(|found| found.contains("`maxmemory-policy` is `allkeys-lru`"))
    );
    assert!(entry["mend"].as_str().is_some_and(|mend| mend.contains("noeviction")), "{entry}");
}

#[test]
fn memory_that_runs_short_is_warned_about() {
    let cluster = Cluster::new();
    set(&cluster, "maxmemory", "4mb");
    let list = doctor(&cluster).json();
    let entry = check(&list, "memory");
    assert!(entry["found"].as_str().is_some_and(|found| found.contains("of 4.0 MiB used")), "{entry}");
}

/// `doctor --agent greeter`, with a program that is this script.
fn trial(script: &str, more: &str) -> (Answer, Cluster) {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::new();
    let folder = cluster.sandbox.path("agents");
    std::fs::create_dir_all(&folder).expect("a folder");
    let program = folder.join("greet");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let text = format!("command: [{}, \"<< prompt >>\"]\n{more}", program.display());
    std::fs::write(folder.join("greeter.yaml"), text).expect("written");
    let mut command = cluster.command(&["doctor", "--agent", "greeter"]);
    command.env("MAESTRO_WORKSPACE_ROOT", cluster.sandbox.path("root")).env("MAESTRO_AGENTS_DIR", &folder);
    (cluster.answer(command), cluster)
}

#[test]
fn a_type_is_tried_and_what_it_cannot_reach_is_named() {
    let more = "paths: {read: [/no/such/folder], write: [/tmp]}\nsecrets: {KEY: env://NO_SUCH_VARIABLE}\n";
    let (answer, cluster) = trial("echo \"greeter 1.2 $1\"", more);
    assert_eq!(answer.code, 1, "a secret is missing: {}", answer.picture());
    let list = answer.json();
    let program = check(&list, "program");
    assert_eq!(program["status"], "ok", "{list}");
    assert!(program["found"].as_str().is_some_and(|found| found.contains("greeter 1.2 --version")), "{list}");
    assert_eq!(check(&list, "path /no/such/folder")["status"], "warn");
    assert_eq!(check(&list, "path /tmp")["status"], "ok");
    assert_eq!(check(&list, "secret KEY")["status"], "fail");
    assert!(
        check(&list, "confinement")["found"].as_str().is_some_and(|found| found.starts_with("agents are "))
    );
    let left = std::fs::read_dir(cluster.sandbox.path("root")).map(Iterator::count);
    assert_eq!(left.ok(), Some(0), "the scratch folder is gone");
}

#[test]
fn a_program_that_cannot_start_fails_and_an_unknown_type_is_66() {
    let (answer, cluster) = trial("no-such-command-at-all", "");
    assert_eq!(answer.code, 1, "{}", answer.picture());
    assert_eq!(check(&answer.json(), "program")["status"], "fail");
    let unknown = cluster.ask(&["doctor", "--agent", "shel"]);
    assert_eq!(unknown.code, 66, "{}", unknown.picture());
    assert!(unknown.err.contains("did you mean `shell`?"), "{}", unknown.picture());
}
