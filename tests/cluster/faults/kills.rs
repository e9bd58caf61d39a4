//! Processes that die.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use maestro_model::task::{Reason, TaskStatus};
use maestro_store::runs::RunStatus;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::graphs::{layers, napping, noting, step, workflow};
use crate::records::{
    assert_all_completed, assert_layers_in_order, clean_audit, notes, record, redis_now_ms, restarts_after,
    running_on, wait_until_busy,
};
use crate::support::{ClusterSetup, TestCluster};

/// Until another coordinator leads.
const LEADER_WITHIN: Duration = Duration::from_secs(15);

#[test]
fn a_run_survives_the_death_of_a_worker_and_of_the_leader() {
    let setup = ClusterSetup { coordinators: 2, workers: 3, concurrency: 3, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    let steps = layers(6, 5, &napping(0.7));
    let run = cluster.submit_text("layers", &workflow("layers", &cluster.witness(), steps));
    let leader = cluster.wait_for_leader(Duration::from_secs(10));
    let held = wait_until_busy(&cluster, &run, "w1", 1);
    cluster.member("w1").kill();
    cluster.member(&leader).kill();
    let killed_at = redis_now_ms(&cluster);
    assert_ne!(cluster.wait_for_leader(LEADER_WITHIN), leader, "another one leads");

    let record = cluster.wait_for_run(&run, Duration::from_secs(60));
    assert_eq!(record.status, RunStatus::Completed);
    let report = assert_all_completed(&cluster, &run);
    assert!(report.lost >= 1 && report.lost <= 3, "w1 held {held:?} and {} were lost", report.lost);
    assert!(report.repeated() <= 3, "{} attempts beyond the first", report.repeated());
    let waits = restarts_after(&cluster.story(&run), killed_at);
    let longest = waits.values().max().copied().unwrap_or(0);
    assert!(longest <= ClusterSetup::RECOVERY.as_millis() as u64, "started again after {waits:?} ms");
    assert_layers_in_order(&notes(&cluster), 6);
}

/// A repository with a little of everything, so that an audit of it takes some steps.
fn small_repository(folder: &Path) {
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]).args(words);
        command
            .current_dir(folder)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        assert!(command.status().expect("git is installed").success(), "git {words:?}");
    };
    git(&["init", "--initial-branch", "main"]);
    for number in 0..12 {
        std::fs::write(
            folder.join(format!("part{number}.rs")),
            format!("// TODO: part {number}\nfn part() {{}}\n"),
        )
        .expect("a file");
        git(&["add", "."]);
        git(&["commit", "--message", &format!("part {number}")]);
    }
}

#[test]
fn a_repo_audit_survives_the_death_of_a_worker_and_of_the_leader() {
    let setup = ClusterSetup { coordinators: 2, workers: 3, concurrency: 2, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    let repository = cluster.scratch("repository");
    small_repository(&repository);
    let leader = cluster.wait_for_leader(Duration::from_secs(10));
    let repo = format!("repo={}", repository.display());
    let words = ["workflow", "run", "repo-audit", "--param", &repo, "--result", "report"];
    cluster.start_command("follower", &words);
    let run = cluster.wait_until("the run", Duration::from_secs(20), |observer| {
        let runs = observer.ask(async |store| store.run_ids(1).await).map_err(|error| error.to_string())?;
        runs.into_iter().next().ok_or_else(|| "no run".to_owned())
    });
    let victim = cluster.wait_until("a worker in the middle", Duration::from_secs(30), |_| {
        let busy = |name: &&str| running_on(&cluster, &run, name).iter().any(|step| step != "fix-commit");
        ["w0", "w1", "w2"].into_iter().find(busy).ok_or_else(|| "none is".to_owned())
    });
    cluster.member(victim).kill();
    cluster.member(&leader).kill();
    let killed_at = redis_now_ms(&cluster);
    let code = cluster.member("follower").wait(Duration::from_secs(60));
    assert_eq!(code, Ok(0), "{}", cluster.tails());
    let shown = cluster.member("follower").log();
    assert!(shown.contains("part0.rs"), "the report names files:\n{shown}");
    let report = assert_all_completed(&cluster, &run);
    assert!(report.lost >= 1, "`{victim}` was in the middle of something");
    let waits = restarts_after(&cluster.story(&run), killed_at);
    let longest = waits.values().max().copied().unwrap_or(0);
    assert!(longest <= ClusterSetup::RECOVERY.as_millis() as u64, "started again after {waits:?} ms");
}

#[test]
fn workers_may_die_at_any_moment() {
    let seed = std::env::var("MAESTRO_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    let mut dice = StdRng::seed_from_u64(seed);
    let slots = 4;
    let env = vec![("MAESTRO_MAX_ATTEMPTS", "50".to_owned())];
    let setup = ClusterSetup { workers: 2, concurrency: slots, env, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    let text = workflow("layers", &cluster.witness(), layers(8, 10, &napping(0.15)));
    let run = cluster.submit_text("layers", &text);
    let mut kills = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !cluster.observer().run(&run).status.is_final() && Instant::now() < deadline {
        let pause = Duration::from_millis(dice.random_range(50..900));
        // The moment is the random part of this test; the deadline is above.
        std::thread::sleep(pause);
        let name = ["w0", "w1"][dice.random_range(0..2usize)];
        cluster.member(name).kill();
        kills += 1;
        // The name is taken over at once: its holder is known to be dead.
        cluster.start_worker(name);
        cluster.wait_for_worker(name);
    }
    let record = cluster.wait_for_run(&run, Duration::from_secs(30));
    assert_eq!(record.status, RunStatus::Completed, "MAESTRO_SEED={seed}");
    let report = assert_all_completed(&cluster, &run);
    assert!(kills >= 3, "MAESTRO_SEED={seed}: the run was over after {kills} kills");
    let most = kills * slots as u32;
    assert!(
        report.repeated() <= most,
        "MAESTRO_SEED={seed}: {} repeated after {kills} kills",
        report.repeated()
    );
    assert_layers_in_order(&notes(&cluster), 8);
}

#[test]
fn work_goes_on_without_any_coordinator() {
    let setup = ClusterSetup { coordinators: 0, workers: 0, concurrency: 3, ..ClusterSetup::default() };
    let mut cluster = TestCluster::start(setup);
    let mut steps = layers(4, 4, &napping(0.4));
    let again = format!("{}\n[ \"$MAESTRO_ATTEMPT\" -gt 1 ]\n{}", noting("S"), noting("E"));
    let mut parked = step("parked", &[], &again);
    parked["retry"] = serde_json::json!({"max_attempts": 2, "delay": "100ms"});
    steps.push(parked);
    // Queued before there is anybody at all.
    let run = cluster.submit_text("layers", &workflow("layers", &cluster.witness(), steps));
    cluster.start_worker("w0");
    cluster.start_worker("w1");
    wait_until_busy(&cluster, &run, "w0", 1);
    cluster.member("w0").kill();
    let killed_at = redis_now_ms(&cluster);
    let end = cluster.wait_for_run(&run, Duration::from_secs(60));
    assert_eq!(end.status, RunStatus::Completed);
    let report = clean_audit(&cluster);
    assert!(report.lost >= 1, "w0 held something");
    let waits = restarts_after(&cluster.story(&run), killed_at);
    let longest = waits.values().max().copied().unwrap_or(0);
    assert!(longest <= ClusterSetup::RECOVERY.as_millis() as u64, "started again after {waits:?} ms");
}

#[test]
fn a_foreach_over_an_output_waits_for_a_coordinator() {
    let mut cluster = TestCluster::start(ClusterSetup { coordinators: 0, ..ClusterSetup::default() });
    let source = step("source", &[], "printf 'list=[\"x\",\"y\",\"z\"]\\n' > \"$MAESTRO_OUTPUT_FILE\"");
    let mut each = step("each", &[], &napping(0.1));
    each["foreach"] = serde_json::json!("<< steps.source.outputs.list >>");
    let last = step("last", &["each".to_owned()], &napping(0.1));
    let beside = step("beside", &["source".to_owned()], &napping(0.1));
    let text = workflow("expansion", &cluster.witness(), vec![source, each, last, beside]);
    let run = cluster.submit_text("expansion", &text);
    cluster.wait_until("the other branch", Duration::from_secs(20), |observer| {
        let tasks = observer.tasks(&run);
        let status = |name: &str| tasks.iter().find(|task| task.own.step == name).map(|task| task.status);
        let waits =
            (status("beside"), status("each")) == (Some(TaskStatus::Completed), Some(TaskStatus::Queued));
        if waits { Ok(()) } else { Err(format!("{:?} {:?}", status("beside"), status("each"))) }
    });
    cluster.start_coordinator("c0");
    assert_eq!(cluster.wait_for_run(&run, Duration::from_secs(20)).status, RunStatus::Completed);
    assert_all_completed(&cluster, &run);
    let ran = notes(&cluster).iter().filter(|note| note.letter == "E" && note.step == "each").count();
    assert_eq!(ran, 3);
}

#[test]
fn a_task_that_kills_its_workers_is_given_up() {
    let env = vec![("MAESTRO_MAX_ATTEMPTS", "3".to_owned())];
    let mut cluster = TestCluster::start(ClusterSetup { env, ..ClusterSetup::default() });
    let bystander = step("bystander", &[], &napping(0.1));
    let after = step("after", &["bystander".to_owned()], &napping(0.1));
    let poison = step("poison", &[], &napping(30.0));
    let behind = step("behind", &["poison".to_owned()], &napping(0.1));
    let text = workflow("poison", &cluster.witness(), vec![poison, bystander, after, behind]);
    let run = cluster.submit_text("poison", &text);
    for attempt in 1..=3 {
        cluster.wait_until(&format!("attempt {attempt}"), Duration::from_secs(20), |observer| {
            let notes = notes(&cluster);
            let began = notes.iter().any(|note| note.step == "poison" && note.attempt == attempt);
            // What its agent has done is not yet what its worker has said.
            let tasks = observer.tasks(&run);
            let heard = tasks.iter().filter(|task| task.status == TaskStatus::Completed).count() == 2;
            if began && heard { Ok(()) } else { Err(format!("{notes:?}")) }
        });
        cluster.member("w0").kill();
        cluster.start_worker("w0");
    }
    let end = cluster.wait_for_run(&run, Duration::from_secs(20));
    assert_eq!(end.status, RunStatus::Failed);
    let story = cluster.story(&run);
    let poison = record(&story, "poison");
    assert_eq!((poison.status, poison.reason, poison.losses), (TaskStatus::Failed, Some(Reason::Lost), 3));
    assert_eq!(poison.failures, 0, "losses are no failures");
    let behind = story.tasks.iter().find(|task| task.own.step == "behind").expect("it is there");
    assert_eq!(behind.status, TaskStatus::Skipped);
    for name in ["bystander", "after"] {
        let other = record(&story, name);
        assert_eq!((other.status, other.attempt.0), (TaskStatus::Completed, 1), "{name}");
    }
    clean_audit(&cluster);
    cluster.wait_for_worker("w0");
}
