//! Questions to a worker: each is answered once, nothing of it stays, and what answers do to folders.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use maestro_model::ids::{Attempt, Incarnation, RunId, TaskId};
use maestro_model::mailbox::{
    SafetyCopy, UncleanTrees, WorkerAnswer, WorkerQuestion, WorkspaceFacts, WorkspaceKind,
};
use maestro_store::Store;
use maestro_store::mailbox::Hearing;
use maestro_worker::bells::{BellTopic, OwnBell, listen};
use maestro_worker::events::{DrainOrder, WorkerEvent};
use maestro_worker::janitor::mark_ended;
use maestro_worker::mailbox::{MailDesk, MailRoom};
use maestro_worker::settings::WorkerSettings;
use maestro_worker::standstill::Standstill;
use maestro_worker::workspace::{WorkspacePlace, WorkspaceRoot};
use redis::Commands;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::support::{PATIENCE, TestRedis, attach_worker, settings, submit_run, wait_until, work_off};

const LEASE: Duration = Duration::from_secs(600);

/// A worker that does nothing but answer.
struct Answerer {
    store: Store,
    incarnation: Incarnation,
    root: WorkspaceRoot,
    folder: tempfile::TempDir,
    events: mpsc::UnboundedReceiver<WorkerEvent>,
    _topic: watch::Sender<BellTopic>,
    _store: watch::Sender<Store>,
    _loops: JoinSet<()>,
}

impl Answerer {
    async fn start(redis: &TestRedis) -> Answerer {
        Answerer::start_with(redis, std::time::Duration::from_secs(3600)).await
    }

    async fn start_with(redis: &TestRedis, workspace_retention: std::time::Duration) -> Answerer {
        let store = redis.store().await;
        let incarnation = attach_worker(&store, "alpha", LEASE).await;
        let folder = tempfile::tempdir().expect("a folder");
        let root = WorkspaceRoot::open(&folder.path().join("root")).expect("a root");
        let settings = WorkerSettings {
            snapshot_folder: folder.path().join("snapshots"),
            agents_folders: vec![folder.path().join("agents.d")],
            workspace_retention,
            ..settings(root.path(), Some("alpha"))
        };
        let (sender, events) = mpsc::unbounded_channel();
        let present = watch::Sender::new(store.clone());
        let topic = watch::Sender::new(BellTopic {
            who: Some((store.clone(), incarnation.clone())),
            queues: Vec::new(),
        });
        let desk = MailDesk {
            standstill: Standstill::default(),
            settings: Arc::new(settings),
            name: "alpha".parse().expect("lawful"),
            root: root.clone(),
            live: Default::default(),
            held: Default::default(),
            status: Default::default(),
            store: present.subscribe(),
            events: sender.clone(),
        };
        let own = OwnBell::default();
        let mut loops = JoinSet::new();
        loops.spawn(listen(topic.subscribe(), own.clone(), sender));
        loops.spawn(MailRoom::new(desk, topic.subscribe(), own.mail).run());
        Answerer { store, incarnation, root, folder, events, _topic: topic, _store: present, _loops: loops }
    }

    async fn ask(&self, question: WorkerQuestion) -> WorkerAnswer {
        match self.store.ask_worker(&self.incarnation, &question, PATIENCE).await.expect("redis is there") {
            Hearing::Answered(answer) => answer,
            other => panic!("{question:?}: {other:?}"),
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// An assigned folder with something in it.
    fn work(&self) -> PathBuf {
        let work = self.path("work");
        fs::create_dir_all(work.join("src")).expect("made");
        fs::write(work.join("src/main.rs"), "fn main() {}").expect("written");
        fs::write(work.join("notes"), "x").expect("written");
        work
    }

    /// The folders of an attempt that worked and ended.
    fn attempt(&self, run: &RunId, index: u32) -> PathBuf {
        let task = TaskId { run: run.clone(), index };
        let paths =
            self.root.paths(&"shell".parse().expect("lawful"), &task, Attempt(1), WorkspacePlace::Task);
        self.root.prepare(&paths, None).expect("a workspace");
        mark_ended(&paths, self.store.cluster_id());
        paths.folder
    }
}

fn reset(path: &Path, template: Option<&str>, copy: SafetyCopy, unclean: UncleanTrees) -> WorkerQuestion {
    WorkerQuestion::ResetFolder {
        agent: "smith".parse().expect("lawful"),
        path: path.display().to_string(),
        template: template.map(str::to_owned),
        copy,
        unclean,
        rehearsal: false,
    }
}

fn prepare(path: &Path) -> WorkerQuestion {
    let agent = "smith".parse().expect("lawful");
    WorkerQuestion::PreparePath { agent, path: path.display().to_string(), names: vec!["shell".to_owned()] }
}

#[tokio::test]
async fn a_question_is_answered_at_once_and_leaves_nothing() {
    let redis = TestRedis::start();
    let worker = Answerer::start(&redis).await;
    let path = worker.path("new/folder");
    let begun = Instant::now();
    let answer = worker.ask(prepare(&path)).await;
    assert_eq!(answer, WorkerAnswer::Path { made: true, warnings: Vec::new() });
    assert!(begun.elapsed() < Duration::from_secs(4), "the bell woke it, not the longest wait");
    assert_eq!(fs::metadata(&path).expect("made").permissions().mode() & 0o777, 0o700);
    let refused = worker.ask(prepare(worker.root.path())).await;
    assert!(matches!(refused, WorkerAnswer::Refused { hint: Some(_), .. }), "{refused:?}");
    let mut raw = redis.raw();
    let left: Vec<String> = raw.keys("*:a*").expect("answered");
    let left: Vec<&String> =
        left.iter().filter(|key| key.contains(":ask:") || key.contains(":answer:")).collect();
    assert_eq!(left, [] as [&String; 0]);
}

#[tokio::test]
async fn a_worker_that_says_nothing_is_told_from_one_that_is_gone() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let deaf = attach_worker(&store, "deaf", LEASE).await;
    let question = WorkerQuestion::Workspaces { of: None, sizes: false };
    let ask = async |longest| store.ask_worker(&deaf, &question, longest).await.expect("redis is there");
    assert_eq!(ask(Duration::from_millis(300)).await, Hearing::Silent);
    store.detach(&deaf).await.expect("it leaves");
    wait_until("it is gone", || {
        let mut raw = redis.raw();
        !raw.exists::<_, bool>(store.keys().worker(deaf.as_str())).expect("answered")
    });
    assert_eq!(ask(PATIENCE).await, Hearing::Gone);
    let left: Vec<String> = redis.raw().keys(format!("*{deaf}*")).expect("answered");
    assert_eq!(left, [] as [String; 0], "a question that nobody fetched is taken back");
}

#[tokio::test]
async fn a_full_list_takes_no_more() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let deaf = attach_worker(&store, "deaf", LEASE).await;
    let list = store.keys().questions(deaf.as_str());
    let mut raw = redis.raw();
    for _ in 0..64 {
        let _: () = raw.rpush(&list, "x").expect("pushed");
    }
    let question = WorkerQuestion::Workspaces { of: None, sizes: false };
    let heard = store.ask_worker(&deaf, &question, PATIENCE).await.expect("redis is there");
    assert_eq!(heard, Hearing::Full);
    assert_eq!(raw.llen::<_, u64>(&list).expect("answered"), 64, "and the one too many is taken back");
}

// With threads of its own: the test waits without letting others run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_of_another_version_is_answered_and_one_that_came_twice_once() {
    let redis = TestRedis::start();
    let worker = Answerer::start(&redis).await;
    let mut raw = redis.raw();
    let list = worker.store.keys().questions(worker.incarnation.as_str());
    let bell = worker.store.keys().bell(&format!("w:{}", worker.incarnation));
    let answers = worker.store.keys().answer("twin");
    let odd = r#"{"v":1,"id":"twin","question":{"ask":"sing","song":"la"}}"#;
    let next = r#"{"v":1,"id":"next","question":{"ask":"workspaces","of":null,"sizes":false}}"#;
    for letter in [odd, "no letter at all", odd, next] {
        let _: () = raw.rpush(&list, letter).expect("pushed");
    }
    let _: () = raw.rpush(&bell, "1").expect("rung");
    let later = worker.store.keys().answer("next");
    wait_until("both are answered", || {
        raw.exists::<_, bool>(&answers).expect("answered") && raw.exists::<_, bool>(&later).expect("answered")
    });
    let found: Vec<String> = raw.lrange(&answers, 0, -1).expect("answered");
    assert_eq!(found, [r#"{"answer":"not_understood"}"#]);
}

#[tokio::test]
async fn a_drain_reaches_the_main_loop() {
    let redis = TestRedis::start();
    let mut worker = Answerer::start(&redis).await;
    let answer = worker.ask(WorkerQuestion::Drain { deadline_ms: Some(1500), force: false }).await;
    assert_eq!(answer, WorkerAnswer::Draining { already: false });
    let order = loop {
        match worker.events.recv().await.expect("the sender lives") {
            WorkerEvent::Drain(order) => break order,
            WorkerEvent::BellRang => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(order, DrainOrder { deadline: Some(Duration::from_millis(1500)), force: false });
}

#[tokio::test]
async fn a_folder_is_emptied_after_a_copy_and_filled_from_its_template() {
    let redis = TestRedis::start();
    let worker = Answerer::start(&redis).await;
    let work = worker.work();
    fs::create_dir_all(worker.path("agents.d/templates/rust")).expect("made");
    fs::write(worker.path("agents.d/templates/rust/Cargo.toml"), "[package]").expect("written");

    let missing =
        worker.ask(reset(&work, Some("templates/go"), SafetyCopy::Archive, UncleanTrees::Remove)).await;
    assert!(matches!(&missing, WorkerAnswer::Failed { message } if message.contains("template not found")));
    assert!(work.join("notes").exists(), "nothing was removed");

    let question = reset(&work, Some("templates/rust"), SafetyCopy::Archive, UncleanTrees::Remove);
    let answer = worker.ask(question).await;
    let WorkerAnswer::Emptied { removed: 2, kept, copy: Some(copy), from_template: true } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(kept, [] as [String; 0]);
    let names: Vec<_> =
        fs::read_dir(&work).expect("there").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(names, ["Cargo.toml"]);
    assert!(
        copy.starts_with(&worker.path("snapshots/auto/pre-reset-smith-").display().to_string()),
        "{copy}"
    );
    let listed = Command::new("tar").args(["-tzf", &copy]).output().expect("tar is there");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("src/main.rs"));

    let refused = worker.ask(reset(worker.root.path(), None, SafetyCopy::None, UncleanTrees::Remove)).await;
    assert!(matches!(refused, WorkerAnswer::Refused { .. }), "{refused:?}");
    let gone = worker.ask(reset(&worker.path("nowhere"), None, SafetyCopy::None, UncleanTrees::Remove)).await;
    assert!(matches!(gone, WorkerAnswer::Failed { .. }), "{gone:?}");
}

#[tokio::test]
async fn uncommitted_work_is_kept_and_named_unless_forced() {
    let redis = TestRedis::start();
    let worker = Answerer::start(&redis).await;
    let work = worker.work();
    let tree = work.join("clone");
    let git = Command::new("git").args(["init", "-q"]).arg(&tree).status().expect("git is there");
    assert!(git.success());
    fs::write(tree.join("draft"), "not committed").expect("written");

    let answer = worker.ask(reset(&work, None, SafetyCopy::None, UncleanTrees::Keep)).await;
    let kept = vec![tree.display().to_string()];
    let expected = WorkerAnswer::Emptied { removed: 2, kept, copy: None, from_template: false };
    assert_eq!(answer, expected);
    assert!(tree.join("draft").exists() && !work.join("notes").exists());

    let answer = worker.ask(reset(&work, None, SafetyCopy::None, UncleanTrees::Remove)).await;
    let expected = WorkerAnswer::Emptied { removed: 1, kept: Vec::new(), copy: None, from_template: false };
    assert_eq!(answer, expected);
    assert_eq!(fs::read_dir(&work).expect("there").count(), 0);
}

#[tokio::test]
async fn only_workspaces_that_nothing_needs_are_cleaned() {
    let redis = TestRedis::start();
    let worker = Answerer::start(&redis).await;
    let over = submit_run(&worker.store, 2).await;
    work_off(&worker.store, &worker.incarnation).await;
    let going_on = submit_run(&worker.store, 1).await;
    let ended = worker.attempt(&over, 0);
    let unclean = worker.attempt(&over, 1);
    Command::new("git").args(["init", "-q"]).arg(&unclean).status().expect("git is there");
    fs::write(unclean.join("draft"), "not committed").expect("written");
    let needed = worker.attempt(&going_on, 0);
    let strangers = worker.attempt(&RunId::random(0), 0);
    fs::write(
        strangers.with_file_name(format!(
            "{}.maestro/ended",
            strangers.file_name().expect("named").to_string_lossy()
        )),
        "another cluster",
    )
    .expect("written");

    let clean = async |unclean, rehearsal| {
        let of = "shell".to_owned();
        let answer = worker.ask(WorkerQuestion::CleanWorkspaces { of, unclean, rehearsal }).await;
        let WorkerAnswer::Cleaned { removed, kept, more: false } = answer else { panic!("{answer:?}") };
        let paths = |list: Vec<WorkspaceFacts>| {
            let mut paths: Vec<PathBuf> = list.into_iter().map(|one| PathBuf::from(one.path)).collect();
            paths.sort();
            paths
        };
        (paths(removed), paths(kept))
    };
    let sorted = |mut paths: Vec<PathBuf>| {
        paths.sort();
        paths
    };
    let stays = sorted(vec![unclean.clone(), needed.clone(), strangers.clone()]);
    assert_eq!(clean(UncleanTrees::Keep, true).await, (vec![ended.clone()], stays.clone()));
    assert!(ended.exists(), "a rehearsal removes nothing");
    assert_eq!(clean(UncleanTrees::Keep, false).await, (vec![ended.clone()], stays));
    assert!(!ended.exists() && unclean.exists());
    let stays = sorted(vec![needed.clone(), strangers.clone()]);
    assert_eq!(clean(UncleanTrees::Remove, false).await, (vec![unclean.clone()], stays));
    assert!(needed.exists() && strangers.exists());

    let answer = worker.ask(WorkerQuestion::Workspaces { of: Some("shell".to_owned()), sizes: true }).await;
    let WorkerAnswer::Workspaces { list, more: false } = answer else { panic!("{answer:?}") };
    assert_eq!(list.len(), 2);
    for one in &list {
        assert_eq!((one.of.as_str(), one.kind, one.in_use), ("shell", WorkspaceKind::Task, false));
        assert!(one.files.is_some_and(|files| files >= 2), "{one:?}");
    }
}

#[tokio::test]
async fn what_is_older_than_the_retention_time_goes_at_once_if_asked_for() {
    let redis = TestRedis::start();
    let worker = Answerer::start_with(&redis, std::time::Duration::from_millis(1)).await;
    let over = submit_run(&worker.store, 2).await;
    work_off(&worker.store, &worker.incarnation).await;
    let going_on = submit_run(&worker.store, 1).await;
    let (ended, unclean) = (worker.attempt(&over, 0), worker.attempt(&over, 1));
    Command::new("git").args(["init", "-q"]).arg(&unclean).status().expect("git is there");
    fs::write(unclean.join("draft"), "not committed").expect("written");
    let needed = worker.attempt(&going_on, 0);
    let answer = worker.ask(WorkerQuestion::RemoveOldWorkspaces).await;
    assert_eq!(answer, WorkerAnswer::RemovedOld { removed: 1, kept: 1 });
    assert!(!ended.exists() && unclean.exists() && needed.exists());
}

#[tokio::test]
async fn a_host_is_checked_for_what_types_need() {
    let redis = TestRedis::start();
    let worker = Answerer::start(&redis).await;
    let types = [("sh", "sh"), ("missing", "no-such-program")].map(|(slug, program)| {
        let json = serde_json::json!({ "slug": slug, "mode": slug, "command": [program] });
        serde_json::from_value::<maestro_model::agent_type::AgentType>(json).expect("an agent type")
    });
    for agent in &types {
        worker.store.register_type(agent).await.expect("registered");
    }
    let slugs = ["sh", "missing", "unknown", "noop"].map(|slug| slug.parse().expect("lawful"));
    let answer = worker.ask(WorkerQuestion::CheckTypes { types: slugs.to_vec(), launch: true }).await;
    let WorkerAnswer::Types { checks } = answer else { panic!("{answer:?}") };
    let serves: Vec<bool> = checks.iter().map(|check| check.serves).collect();
    assert_eq!(serves, [true, false, false, true], "{checks:?}");
    let bad = checks[1].findings.iter().find(|finding| !finding.good).expect("one is bad");
    assert_eq!(bad.subject, "binary");
    assert!(bad.text.starts_with("binary not found: `no-such-program`"), "{}", bad.text);
}
