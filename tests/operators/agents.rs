//! Assigned agents with real workers: each task runs in its agent's folder on its agent's worker, one at a
//! time; agents are stopped, started again and moved; a folder that is gone, and a worker that is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maestro_model::assignment::{ASSIGNMENT_VERSION, Assignment};
use maestro_model::ids::{AgentId, RunId, TaskId};
use maestro_model::task::{Reason, TaskStatus};
use maestro_store::assignments::{AssignAnswer, HoldAnswer, HoldOrder};
use maestro_store::runs::RunStatus;

use crate::support::{ClusterSetup, TestCluster, audit};

const SOON: Duration = Duration::from_secs(60);

fn two_workers() -> ClusterSetup {
    ClusterSetup { workers: 2, ..ClusterSetup::default() }
}

fn id(name: &str) -> AgentId {
    name.parse().expect("a lawful id")
}

/// Assigns an agent of type `probe` to a folder of the test's.
fn assign(cluster: &TestCluster, name: &str, worker: &str) -> (AssignAnswer, PathBuf) {
    let folder = cluster.scratch(&format!("{name}-on-{worker}"));
    let wanted = Assignment {
        v: ASSIGNMENT_VERSION,
        id: id(name),
        agent_type: "probe".parse().expect("a lawful slug"),
        path: folder.to_str().expect("a plain path").to_owned(),
        role: Some(format!("role of {name}")),
        priority: None,
        worker: worker.parse().expect("a lawful name"),
        assigned_at_ms: 0,
        held: None,
    };
    let answer = cluster.observer().ask(async |store| store.assign(&wanted).await).expect("redis is there");
    (answer, folder)
}

fn hold(cluster: &TestCluster, name: &str, order: HoldOrder) -> HoldAnswer {
    let told = cluster.observer().ask(async |store| store.hold_agent(&id(name), "a test", order).await);
    told.expect("redis is there")
}

fn works_on(cluster: &TestCluster, name: &str) -> TaskId {
    cluster.wait_until(&format!("work of `{name}`"), SOON, |observer| {
        let running = observer.ask(async |store| store.agent_running(&id(name)).await);
        running.map_err(|error| error.to_string())?.ok_or_else(|| "it is idle".to_owned())
    })
}

/// A step for an agent, which leaves a line of what it found in the witness folder and a file where it works.
fn step(cluster: &TestCluster, number: u32, agent: &str) -> String {
    let witness = cluster.witness().join(agent).display().to_string();
    let line = "$MAESTRO_WORKER $MAESTRO_AGENT $(pwd) $HOME $MAESTRO_ROLE";
    format!(
        "  - id: s{number}\n    agent: {agent}\n    prompt: |\n      echo start >> {witness}.times\n      \
         echo \"{line} << agent.id >> << agent.role >>\" >> {witness}\n      touch made-by-s{number}\n      \
         sleep 0.2\n      echo end >> {witness}.times\n"
    )
}

fn clean_story(cluster: &TestCluster) {
    let report = audit(&cluster.observer().events(), true);
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("it is there").flatten();
    let mut names: Vec<String> = entries.map(|one| one.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn each_task_runs_in_its_agents_folder_on_its_agents_worker_one_at_a_time() {
    let cluster = TestCluster::start(two_workers());
    let (answer, smiths) = assign(&cluster, "smith", "w0");
    assert_eq!(answer, AssignAnswer::New);
    let (_, joneses) = assign(&cluster, "jones", "w1");
    assert_eq!(assign(&cluster, "jones", "w1").0, AssignAnswer::Unchanged);
    let agents = ["smith", "jones", "smith", "jones", "smith"];
    let steps: String = (0..).zip(agents).map(|(number, agent)| step(&cluster, number, agent)).collect();
    let run = cluster.submit_text("agents", &format!("name: agents\nsteps:\n{steps}"));
    assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Completed);

    for (name, worker, folder, count) in [("smith", "w0", &smiths, 3), ("jones", "w1", &joneses, 2)] {
        let home = cluster.root().join(name).join("home");
        let wanted = format!(
            "{worker} {name} {} {} role of {name} {name} role of {name}",
            folder.display(),
            home.display()
        );
        assert_eq!(cluster.witnessed(name), vec![wanted; count]);
        let times = cluster.witnessed(&format!("{name}.times"));
        assert_eq!(times, ["start", "end"].repeat(count), "one at a time");
    }
    assert_eq!(names_in(&smiths), ["made-by-s0", "made-by-s2", "made-by-s4"], "nothing of ours is in there");
    assert_eq!(names_in(&joneses), ["made-by-s1", "made-by-s3"]);
    let own = cluster.root().join("smith").join(format!("{run}.0.maestro/agent.log"));
    assert!(own.exists(), "the log lies beside it: {}", own.display());
    clean_story(&cluster);
}

fn waiting(cluster: &TestCluster, run: &RunId) -> String {
    let answer = cluster.maestro(&["task", "explain", &format!("{run}.0"), "--format", "json"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let told: serde_json::Value = serde_json::from_str(&answer.out).expect("JSON");
    told["why"].as_str().expect("a sentence").to_owned()
}

#[test]
fn an_agent_is_stopped_started_again_and_moved_with_what_waits_for_it() {
    let cluster = TestCluster::start(two_workers());
    assign(&cluster, "smith", "w0");
    let long = "name: long\nsteps:\n  - {id: a, agent: smith, prompt: \"echo x >> tries; sleep 30\"}\n";
    let first = cluster.submit_text("long", long);
    let task = works_on(&cluster, "smith");
    let (answer, _) = assign(&cluster, "smith", "w1");
    assert_eq!(answer, AssignAnswer::Busy { task: task.clone() });

    // Started again: the same task once more, and nothing is counted against it.
    let again = HoldOrder { kill: true, then_restart: true };
    assert_eq!(hold(&cluster, "smith", again).running, Some(task.clone()));
    let record = cluster.wait_until("the second attempt", SOON, |observer| {
        let record = observer.tasks(&first).remove(0).record.ok_or("no record")?;
        let is_second = record.attempt.0 == 2 && record.status == TaskStatus::Running;
        if is_second { Ok(record) } else { Err(format!("{record:?}")) }
    });
    assert_eq!((record.failures, record.losses), (0, 0));

    // Stopped: what it works on is cancelled, what comes waits.
    hold(&cluster, "smith", HoldOrder::default());
    assert_eq!(cluster.wait_for_run(&first, SOON).status, RunStatus::Cancelled);
    let second =
        cluster.submit_text("short", &format!("name: short\nsteps:\n{}", step(&cluster, 0, "smith")));
    assert_eq!(waiting(&cluster, &second), "agent `smith` is stopped");

    // Moved while it is stopped, and let go: its task follows.
    let (answer, folder) = assign(&cluster, "smith", "w1");
    assert_eq!(answer, AssignAnswer::Moved);
    let let_go = cluster.observer().ask(async |store| store.release_agent(&id("smith"), "a test").await);
    assert!(let_go.expect("redis is there").was_held);
    assert_eq!(cluster.wait_for_run(&second, SOON).status, RunStatus::Completed);
    assert_eq!(names_in(&folder), ["made-by-s0"]);
    assert!(cluster.witnessed("smith")[0].starts_with("w1 smith "), "{:?}", cluster.witnessed("smith"));
    clean_story(&cluster);
}

#[test]
fn a_folder_that_is_gone_fails_its_agents_task_and_leaves_others_alone() {
    let mut cluster = TestCluster::start(two_workers());
    let (_, folder) = assign(&cluster, "smith", "w0");
    assign(&cluster, "jones", "w0");
    fs::remove_dir(&folder).expect("it is empty");
    let steps = [step(&cluster, 0, "smith"), step(&cluster, 1, "jones")].concat();
    let run = cluster.submit_text("gone", &format!("name: gone\nsteps:\n{steps}"));
    // It goes back unburned until the folder is there again.
    let trouble = cluster.wait_until("a word of what is wrong", SOON, |observer| {
        let alive = observer.alive();
        let worker = alive.iter().find(|one| one.name == "w0").ok_or("no worker")?;
        worker.status.trouble.clone().ok_or_else(|| "no trouble".to_owned())
    });
    assert!(trouble.contains("agent `smith`: the assigned folder `"), "{trouble}");
    cluster.wait_until("the other agent's task", SOON, |observer| {
        let status = observer.tasks(&run)[1].status;
        if status == TaskStatus::Completed { Ok(()) } else { Err(format!("{status:?}")) }
    });
    fs::create_dir(&folder).expect("the folder's place is free");
    assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Completed);
    let record = cluster.observer().tasks(&run).remove(0).record.expect("it ran");
    assert_eq!(record.failures, 0, "{record:?}");
    assert_ne!(record.reason, Some(Reason::Infra));

    // Its worker ends: what waits for it waits, and says so.
    cluster.member("w0").terminate();
    cluster.member("w0").wait(SOON).expect("it ends");
    let waits = cluster.submit_text("waits", &format!("name: waits\nsteps:\n{}", step(&cluster, 2, "smith")));
    assert_eq!(waiting(&cluster, &waits), "the worker `w0` that holds agent `smith` is gone");
    assert_eq!(assign(&cluster, "smith", "w1").0, AssignAnswer::Moved);
    assert_eq!(cluster.wait_for_run(&waits, SOON).status, RunStatus::Completed);
    clean_story(&cluster);
}
