//! Each obstacle, by the words that name it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use maestro_model::agent_type::{HomeChoice, Isolation, Resources};

use super::*;
use crate::container::EngineAddress;
use crate::host_checks::check_type;
use crate::samples::agent_type;

fn settings(folder: &Path) -> WorkerSettings {
    WorkerSettings {
        name: None,
        concurrency: 1,
        only_agents: Vec::new(),
        local_agents: IndexMap::new(),
        agents_folders: vec![folder.to_owned()],
        labels: BTreeMap::from([("gpu".to_owned(), "true".to_owned())]),
        workspace_root: folder.to_owned(),
        short_folders: Vec::new(),
        heartbeat: Duration::from_secs(1),
        lease: Duration::from_secs(9),
        engine: EngineAddress::find(Some("unix:///no/such.sock"), None),
        grace: Duration::from_secs(1),
        drain_deadline: Duration::from_secs(1),
        state_ttl: Duration::from_secs(1),
        kilo_program: Some(PathBuf::from("/nowhere/kilo")),
        snapshot_folder: std::env::temp_dir(),
        confinement: None,
        failsafe: Default::default(),
        workspace_retention: Duration::from_secs(1),
        version: String::new(),
        pulse: None,
        probe: None,
    }
}

#[test]
fn a_type_is_served_unless_this_host_lacks_what_it_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("templates/rust")).expect("a template");
    let settings = settings(folder.path());
    let templates = folder.path().display();
    let labelled = |value: &str| AgentType {
        worker_labels: IndexMap::from([("gpu".to_owned(), value.to_owned())]),
        ..agent_type("sh")
    };
    let from =
        |template: &str| AgentType { workspace_template: Some(template.to_owned()), ..agent_type("sh") };
    let limited = |required| AgentType {
        resources: Resources { memory_bytes: Some(1), cpus: Some(1.0), required, ..Resources::default() },
        ..agent_type("sh")
    };
    let with_command = |words: Option<Vec<&str>>| AgentType {
        command: words.map(|words| words.into_iter().map(str::to_owned).collect()),
        ..agent_type("sh")
    };
    let table = [
        (agent_type("sh"), None),
        (agent_type("noop"), None),
        (AgentType { isolate_with: Isolation::Docker, ..agent_type("sh") }, Some("no container engine answers at unix:///no/such.sock: No such file or directory (os error 2) (start it, or say with DOCKER_HOST where it is)".to_owned())),
        (labelled("true"), None),
        (labelled("false"), Some("this worker lacks the label `gpu=false`".to_owned())),
        (from("templates/rust"), None),
        (from("<< vars.template >>"), None),
        (from("templates/go"), Some(format!("template not found: no folder `templates/go` below {templates}"))),
        (from("/nowhere/go"), Some("template not found: no folder `/nowhere/go`".to_owned())),
        (limited(false), None),
        (
            limited(true),
            Some("`resources.required` is set, and this worker cannot limit memory, cpus (leave it out to do without)".to_owned()),
        ),
        (
            with_command(Some(vec!["no-such-program", "x"])),
            Some("binary not found: `no-such-program` (install it, or put it on PATH)".to_owned()),
        ),
        (with_command(Some(vec!["<< vars.program >>"])), None),
        (
            with_command(Some(vec!["kilo", "run"])),
            Some("binary not found: `kilo` (install it, or set MAESTRO_KILOCODE_BIN; looked at /nowhere/kilo)".to_owned()),
        ),
        (with_command(None), Some("binary not found: `/nowhere/kilo` (install it, or put it on PATH)".to_owned())),
    ];
    for (agent, expected) in table {
        assert_eq!(crate::host_checks::obstacle(&settings, &agent), expected, "{agent:?}");
    }
}

#[test]
fn only_the_types_that_were_asked_for_are_looked_at() {
    let folder = tempfile::tempdir().expect("a folder");
    let only = WorkerSettings { only_agents: vec![agent_type("sh").slug], ..settings(folder.path()) };
    let known = ["sh", "noop", "no-such-program"].map(|slug| (agent_type(slug).slug, agent_type(slug)));
    let known: IndexMap<AgentSlug, AgentType> = known.into_iter().collect();
    assert_eq!(servable(&only, &known), (vec!["sh".to_owned()], Vec::new()));
    let all = servable(&settings(folder.path()), &known);
    assert_eq!(all.0, ["sh", "noop"]);
    assert_eq!(all.1.iter().map(|(slug, _)| slug.as_str()).collect::<Vec<_>>(), ["no-such-program"]);
}

#[test]
fn a_root_that_takes_files_passes_its_probe_and_keeps_nothing_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    takes_files(folder.path()).expect("it takes them");
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);
    assert!(takes_files(&folder.path().join("vanished")).is_err());
}

#[test]
fn a_mode_that_nobody_defines_is_told_and_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let kilo = folder.path().join("kilo");
    std::fs::write(&kilo, "#!/bin/sh\n").expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&kilo, mode).expect("ours");
    let settings = WorkerSettings { kilo_program: Some(kilo), ..settings(folder.path()) };
    let with_mode = |mode: &str, home| AgentType {
        mode: mode.to_owned(),
        command: Some(vec!["kilo".to_owned(), "run".to_owned()]),
        home,
        ..agent_type("sh")
    };
    let table = [
        (with_mode("code-reviewer", HomeChoice::Workspace), true),
        (with_mode("dreamer", HomeChoice::Workspace), false),
        (with_mode("dreamer", HomeChoice::Worker), true),
        (AgentType { mode: "dreamer".to_owned(), ..agent_type("sh") }, true),
    ];
    for (agent, good) in table {
        let check = check_type(&settings, &agent);
        assert!(check.serves, "{check:?}");
        let found = check.findings.iter().find(|finding| finding.subject == "mode").expect("it is looked at");
        assert_eq!(found.good, good, "{check:?}");
    }
}
