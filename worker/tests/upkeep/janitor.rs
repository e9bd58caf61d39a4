//! Old workspaces: which go, and which must stay whatever their age.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use maestro_model::ids::{Attempt, RunId, TaskId};
use maestro_store::Store;
use maestro_worker::held::HeldAttempts;
use maestro_worker::janitor::{Janitor, JanitorSettings, JanitorTick, mark_ended};
use maestro_worker::workspace::{WorkspacePlace, WorkspaceRoot};

use crate::support::{TestRedis, attach_worker, submit_run, wait_until, work_off};

const RETENTION: Duration = Duration::from_millis(50);

struct Household {
    _folder: tempfile::TempDir,
    cluster: String,
    root: WorkspaceRoot,
    held: HeldAttempts,
    janitor: Janitor,
}

impl Household {
    fn new(retention: Duration, store: &Store) -> Household {
        let folder = tempfile::tempdir().expect("a folder");
        let root = WorkspaceRoot::open(&folder.path().join("root")).expect("a root");
        let held = HeldAttempts::default();
        let janitor = Janitor::new(JanitorSettings { retention }, root.clone(), held.clone());
        Household { _folder: folder, cluster: store.cluster_id().to_owned(), root, held, janitor }
    }

    /// Another janitor for the same root.
    fn in_root(mut self, other: &Household) -> Household {
        self.root = other.root.clone();
        self.janitor =
            Janitor::new(JanitorSettings { retention: RETENTION }, self.root.clone(), self.held.clone());
        self
    }

    /// The folders of an attempt that worked and ended.
    fn attempt(&self, run: &RunId, index: u32, attempt: u32, place: WorkspacePlace) -> (PathBuf, PathBuf) {
        let task = TaskId { run: run.clone(), index };
        let paths = self.root.paths(&"shell".parse().expect("lawful"), &task, Attempt(attempt), place);
        self.root.prepare(&paths, None).expect("a workspace");
        fs::write(paths.folder.join("work"), "done").expect("written");
        mark_ended(&paths, &self.cluster);
        (paths.folder.clone(), paths.own.clone())
    }

    async fn tick(&mut self, store: &Store) -> JanitorTick {
        self.janitor.tick(store).await.expect("redis answers")
    }
}

fn age(path: &Path, age: Duration) {
    let then = SystemTime::now() - age;
    let mark = path.with_file_name(format!("{}.ended", path.file_name().expect("named").to_string_lossy()));
    for path in [path.to_owned(), path.join("agent.log"), mark] {
        if let Ok(file) = fs::File::open(&path) {
            file.set_modified(then).expect("ours");
        }
    }
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn only_what_is_old_and_over_goes() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let worker = attach_worker(&store, "alpha", Duration::from_secs(600)).await;
    let over = submit_run(&store, 3).await;
    work_off(&store, &worker).await;
    let going_on = submit_run(&store, 1).await;
    let collected = RunId::random(0);
    let mut house = Household::new(RETENTION, &store);

    let gone = [
        house.attempt(&over, 0, 1, WorkspacePlace::Task),
        house.attempt(&over, 0, 2, WorkspacePlace::Task),
        house.attempt(&over, 1, 1, WorkspacePlace::Run),
        house.attempt(&collected, 7, 1, WorkspacePlace::Task),
    ];
    let runs = house.attempt(&going_on, 0, 1, WorkspacePlace::Task);
    let shared = house.attempt(&going_on, 0, 2, WorkspacePlace::Run);
    let held = house.attempt(&collected, 8, 1, WorkspacePlace::Task);
    house.held.lock().expect("ours").insert((TaskId { run: collected, index: 8 }, Attempt(1)));
    // An assigned agent's home, an assigned folder below the root, and a stranger's file.
    for other in ["shell/home", "projects/site", ".unknown"] {
        fs::create_dir_all(house.root.path().join(other)).expect("made");
        age(&house.root.path().join(other), Duration::from_secs(1000));
    }
    for (folder, own) in gone.iter().chain([&runs, &shared, &held]) {
        age(folder, Duration::from_secs(100));
        age(own, Duration::from_secs(100));
    }
    let over_since = Instant::now();
    wait_until("the run has been over for long", || over_since.elapsed() > RETENTION * 2);

    let tick = house.tick(&store).await;
    // Three task folders, one that only has Maestro's own beside the run's, and the run's.
    assert_eq!(tick, JanitorTick { removed: 5, kept: 0 });
    for (folder, own) in &gone {
        assert!(!folder.exists() && !own.exists(), "{}", folder.display());
    }
    for (folder, own) in [&runs, &shared, &held] {
        assert!(folder.exists() && own.exists(), "{}", folder.display());
    }
    for other in ["shell/home", "projects/site", ".unknown"] {
        assert!(house.root.path().join(other).exists(), "{other}");
    }
    assert_eq!(entries(&house.root.path().join(".trash")), [] as [&str; 0], "nothing is left lying about");
    assert_eq!(house.tick(&store).await, JanitorTick::default());
}

#[tokio::test]
async fn what_ended_lately_stays_however_old_its_files_are() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let worker = attach_worker(&store, "alpha", Duration::from_secs(600)).await;
    let run = submit_run(&store, 1).await;
    work_off(&store, &worker).await;
    let mut house = Household::new(Duration::from_secs(600), &store);
    let (folder, own) = house.attempt(&run, 0, 1, WorkspacePlace::Task);
    age(&folder, Duration::from_secs(5000));
    age(&own, Duration::from_secs(5000));
    assert_eq!(house.tick(&store).await, JanitorTick::default());
    assert!(folder.exists() && own.exists());
}

#[tokio::test]
async fn the_oldest_go_first_and_no_look_is_too_long() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut house = Household::new(RETENTION, &store);
    let run = RunId::random(0);
    let folders: Vec<PathBuf> = (0..300)
        .map(|index| {
            let (folder, own) = house.attempt(&run, index, 1, WorkspacePlace::Task);
            age(&folder, Duration::from_secs(1000 + u64::from(index)));
            age(&own, Duration::from_secs(1000 + u64::from(index)));
            folder
        })
        .collect();
    assert_eq!(house.tick(&store).await.removed, 256);
    let left: Vec<usize> = (0..300).filter(|index| folders[*index].exists()).collect();
    assert_eq!(left, (0..44).collect::<Vec<_>>(), "the youngest are left");
    assert_eq!(house.tick(&store).await.removed, 44);
}

#[tokio::test]
async fn what_another_cluster_left_in_the_same_root_stays() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut house = Household::new(RETENTION, &store);
    let ours = house.attempt(&RunId::random(0), 0, 1, WorkspacePlace::Run);
    house.cluster = "another".to_owned();
    let theirs = house.attempt(&RunId::random(0), 0, 1, WorkspacePlace::Run);
    let unmarked = house.attempt(&RunId::random(0), 0, 1, WorkspacePlace::Task);
    fs::remove_file(unmarked.1.join("ended")).expect("its mark");
    let day = Duration::from_secs(24 * 3600);
    for (folder, own) in [&ours, &theirs, &unmarked] {
        age(folder, day);
        age(own, day);
    }
    assert_eq!(house.tick(&store).await, JanitorTick { removed: 2, kept: 0 });
    assert!(!ours.0.exists() && !ours.1.exists());
    assert_eq!(entries(&house.root.path().join(".runs")).len(), 2, "theirs, and its mark");
    assert!(theirs.1.exists() && unmarked.0.exists());

    // A week later whoever it was does not need it any more; a mark of another cluster holds for ever.
    let mut house = Household::new(RETENTION, &store).in_root(&house);
    for (folder, own) in [&theirs, &unmarked] {
        age(folder, 10 * day);
        age(own, 10 * day);
    }
    assert_eq!(house.tick(&store).await, JanitorTick { removed: 1, kept: 0 });
    assert!(theirs.0.exists() && theirs.1.exists() && !unmarked.0.exists());
}

fn git(folder: &Path, words: &[&str]) {
    let identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"];
    let status =
        Command::new("git").args(identity).args(words).current_dir(folder).output().expect("git runs");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
}

#[tokio::test]
async fn unclean_git_trees_stay_and_nothing_that_they_name_is_started() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let mut house = Household::new(RETENTION, &store);
    let run = RunId::random(0);
    let trees = ["clean", "packed", "changed", "new-file", "staged", "unborn", "nested"];
    let mut folders = Vec::new();
    let trap = house.root.path().join("sprung");
    for (index, kind) in trees.iter().enumerate() {
        let (folder, own) = house.attempt(&run, index as u32, 1, WorkspacePlace::Task);
        // The link to the log lies in each of them, and is no change of the agent's.
        let tree = if *kind == "nested" { folder.join("a/b") } else { folder.clone() };
        fs::create_dir_all(&tree).expect("made");
        git(&tree, &["init", "--quiet"]);
        fs::write(tree.join("kept"), "1\n").expect("written");
        if *kind != "unborn" {
            git(&tree, &["add", "--", ":!agent.log"]);
            git(&tree, &["commit", "--quiet", "-m", "x"]);
        }
        match *kind {
            "packed" => git(&tree, &["gc", "--quiet"]),
            "changed" | "nested" => fs::write(tree.join("kept"), "2\n").expect("written"),
            "new-file" => fs::write(tree.join("new"), "2\n").expect("written"),
            "staged" => {
                fs::write(tree.join("kept"), "2\n").expect("written");
                git(&tree, &["add", "--", ":!agent.log"]);
            }
            _ => {}
        }
        // Programs that the tree would have git start.
        let program = format!("touch {}", trap.display());
        fs::write(tree.join(".git/info/attributes"), "* filter=trap\n").expect("written");
        git(&tree, &["config", "core.fsmonitor", &program]);
        git(&tree, &["config", "filter.trap.clean", &program]);
        age(&folder, Duration::from_secs(100));
        age(&own, Duration::from_secs(100));
        folders.push(folder);
    }
    let tick = house.tick(&store).await;
    let left: Vec<&str> =
        trees.iter().zip(&folders).filter(|(_, folder)| folder.exists()).map(|(kind, _)| *kind).collect();
    assert_eq!(left, ["changed", "new-file", "staged", "unborn", "nested"]);
    assert_eq!(tick, JanitorTick { removed: 2, kept: 5 });
    assert!(!trap.exists(), "a program that the tree names was started");
    assert_eq!(house.tick(&store).await, JanitorTick::default(), "not looked at again at once");
    let lying_about: Vec<String> =
        entries(house.root.path()).into_iter().filter(|name| name.starts_with(".git-")).collect();
    assert_eq!(lying_about, [] as [&str; 0]);
}
