//! `maestro agent list`, `types`, `show` and `health`: what they print, in every form.

use maestro_model::agent_type::AgentType;
use maestro_model::assignment::{ASSIGNMENT_VERSION, Assignment};
use maestro_model::ids::AgentId;
use maestro_store::worker::{ProcessCondition, ProcessStatus, TaskUsage};

use super::cluster::{Cluster, LEASE, PlayedWorker, picture, without_json_times};

/// A worker that serves `shell`, and three agents: one here, one whose folder is gone, one whose worker is.
fn cluster() -> (Cluster, PlayedWorker) {
    let cluster = Cluster::new();
    let worker = cluster.worker("alpha", &["shell"], 4);
    for (slug, command) in [("shell", "sh"), ("painter", "paint")] {
        let json = serde_json::json!({
            "slug": slug, "mode": slug, "command": [command, "<< prompt >>"], "description": format!("Runs {command}"),
            "limits": {"max_concurrent": 2}, "capabilities": ["one"],
        });
        let agent: AgentType = serde_json::from_value(json).expect("an agent type");
        cluster.wait(cluster.store.register_type(&agent)).expect("registered");
    }
    for (id, worker, role) in
        [("smith", "alpha", Some("review")), ("jones", "alpha", None), ("brown", "gone", None)]
    {
        let assignment = Assignment {
            v: ASSIGNMENT_VERSION,
            id: id.parse().expect("lawful"),
            agent_type: "shell".parse().expect("lawful"),
            path: format!("/srv/{id}"),
            role: role.map(str::to_owned),
            priority: None,
            worker: worker.parse().expect("lawful"),
            assigned_at_ms: 0,
            held: None,
        };
        cluster.wait(cluster.store.assign(&assignment)).expect("assigned");
    }
    let jones: AgentId = "jones".parse().expect("lawful");
    let status = ProcessStatus {
        folders: [(jones, "workspace missing: `/srv/jones`".to_owned())].into(),
        tasks: vec![TaskUsage {
            task: "0aaaaaaaaaa1.0".parse().expect("lawful"),
            attempt: maestro_model::ids::Attempt(1),
            agent: "shell".parse().expect("lawful"),
            assigned: Some("smith".parse().expect("lawful")),
            pid: 42,
            memory_bytes: 3 * 1024 * 1024,
            cpu_ms: 61_500,
            processes: 2,
            silent_ms: 7_000,
            condition: ProcessCondition::Runs,
            stall_ms: None,
        }],
        ..ProcessStatus::default()
    };
    let types = ["shell".to_owned()];
    cluster.wait(cluster.store.beat(&worker.incarnation, LEASE, &types, &status, &[])).expect("answered");
    (cluster, worker)
}

#[test]
fn agents_are_listed_before_types_that_have_none() {
    let (cluster, _worker) = cluster();
    insta::assert_snapshot!(picture(&cluster.ask_table(&["agent", "list"])), @r"
    exit 0
    --- stdout
    ID        TYPE      STATUS   ROLE     WORKER   ASSIGNMENT   HEARTBEAT   MEMORY    CPU
    brown     shell     failed   –        gone     /srv/brown   –           –         –
    jones     shell     failed   –        alpha    /srv/jones   [TOOK] ago      –         –
    smith     shell     idle     review   alpha    /srv/smith   [TOOK] ago      3.0 MiB   [TOOK] [TOOK]
    painter   painter   idle     –        –        –            –           –         –
    ");
    insta::assert_snapshot!(picture(&cluster.ask(&["agent", "list", "--status", "failed", "--format", "name"])), @r"
    exit 0
    --- stdout
    brown
    jones
    ");
    let mut list = cluster.ask_json(&["agent", "list"]);
    without_json_times(&mut list);
    list[2]["heartbeat_age"] = serde_json::json!("[AGE]");
    insta::assert_snapshot!(list[2], @r#"{"id":"smith","type":"shell","status":"idle","reason":null,"role":"review","priority":null,"worker":"alpha","assignment":"/srv/smith","stopped":false,"task":null,"last_heartbeat":"[TIME]","heartbeat_age":"[AGE]","memory_bytes":3145728,"cpu":61.5,"processes":2}"#);
}

#[test]
fn types_are_listed_with_who_serves_them() {
    let (cluster, _worker) = cluster();
    insta::assert_snapshot!(picture(&cluster.ask_table(&["agent", "types"])), @r"
    exit 0
    --- stdout
    SLUG      COMMAND              WORKERS   AGENTS   DESCRIPTION
    painter   paint << prompt >>         0        0   Runs paint
    shell     sh << prompt >>            1        3   Runs sh
    ");
    insta::assert_snapshot!(picture(&cluster.ask(&["agent", "types"])), @r#"
    exit 0
    --- stdout
    [
    {"slug":"painter","description":"Runs paint","mode":"painter","command":["paint","<< prompt >>"],"isolate_with":"process","capabilities":["one"],"max_concurrent":2,"workers":[],"agents":[]},
    {"slug":"shell","description":"Runs sh","mode":"shell","command":["sh","<< prompt >>"],"isolate_with":"process","capabilities":["one"],"max_concurrent":2,"workers":["alpha"],"agents":["brown","jones","smith"]}
    ]
    "#);
}

#[test]
fn an_agent_is_shown_with_its_type() {
    let (cluster, _worker) = cluster();
    let shown = picture(&cluster.ask(&["agent", "show", "painter", "--format", "table"]));
    insta::assert_snapshot!(shown.split("definition:").next().expect("a head"), @r"
    exit 0
    --- stdout
    id: painter
    type: painter
    status: idle
    reason: no live worker serves it
    role: null
    priority: null
    worker: null
    assignment: null
    stopped: false
    task: null
    last_heartbeat: null
    heartbeat_age: null
    memory_bytes: null
    cpu: null
    processes: null
    workers: []
    ");
    let record = cluster.ask_json(&["agent", "show", "smi"]);
    let fields: Vec<&str> = record.as_object().expect("a record").keys().map(String::as_str).collect();
    insta::assert_snapshot!(fields.join(" "), @"id type status reason role priority worker assignment stopped task last_heartbeat heartbeat_age memory_bytes cpu processes assigned_at definition");
    assert_eq!(record["definition"]["command"], serde_json::json!(["sh", "<< prompt >>"]));
    let last = cluster.ask(&["agent", "show", "last", "--format", "name"]);
    assert_eq!((last.code, last.out.lines().count()), (0, 1), "{}", last.picture());
}

#[test]
fn an_agent_whose_worker_is_gone_has_failed() {
    let (cluster, _worker) = cluster();
    insta::assert_snapshot!(picture(&cluster.ask(&["agent", "health", "brown", "--detail"])), @r"
    exit 1
    --- stdout
    status: failed
    reason: worker `gone` is gone
    agent: brown
    worker: gone
    workspace: /srv/brown
    ");
    let record = cluster.ask(&["agent", "health", "brown", "--format", "json"]);
    assert_eq!((record.code, record.json()["problems"][0].as_str()), (1, Some("worker `gone` is gone")));
    insta::assert_snapshot!(picture(&cluster.ask(&["agent", "health", "s"])), @r"
    exit 2
    --- stderr
    error: `s` can mean several agents: `smith`, `shell`

    hint: write more of the id
    ");
}
