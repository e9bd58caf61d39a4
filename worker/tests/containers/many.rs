//! Many containers: nothing of them is left, and they cost little more than the bare calls.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use maestro_model::attempt::AttemptOutcome;
use maestro_worker::attempt::AttemptOrder;

use crate::calls::{bare, in_lanes};
use crate::engine::{IMAGE, TestEngine};
use crate::support::{Site, agent_type};

/// Tasks at one time.
const LANES: usize = 8;
/// Tasks in all, and how many of them have a network of their own, which takes the engine longest.
const TASKS: (usize, usize) = (500, 100);
/// Tasks before the first look at what may leak.
const WARM_UP: usize = LANES * 2;
/// Tasks of each of the runs that are compared, and how many such runs.
const COMPARED: (usize, usize) = (24, 3);
/// How often the two are compared, if the first times say it is too much.
const COMPARISONS_MAX: usize = 3;
/// The most that a task may cost, by the bare calls.
const MOST: f64 = 1.1;

async fn attempt(runner: maestro_worker::attempt::AttemptRunner, order: AttemptOrder) {
    let end = runner.attempt(order, None).run().await;
    assert_eq!(end.report.outcome, AttemptOutcome::Completed, "{:?}", end.report);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("listed");
    line.split_ascii_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// Containers and networks of a cluster, by the engine's word.
fn left(engine: &TestEngine, cluster: &str) -> BTreeMap<&'static str, usize> {
    let filter = format!("label=maestro.cluster={cluster}");
    let count = |text: String| text.lines().filter(|line| !line.is_empty()).count();
    BTreeMap::from([
        ("containers", count(engine.docker(&["ps", "--all", "--quiet", "--filter", &filter]))),
        ("networks", count(engine.docker(&["network", "ls", "--quiet", "--filter", &filter]))),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_thousand_leave_nothing_and_cost_little_more_than_the_bare_calls() {
    let site = Site::new();
    let engine = TestEngine::shared("worker::containers").expect("the site has it");
    let cluster = site.runner.root().path().display().to_string();
    let with = |keys: &str| {
        let agent = Arc::new(agent_type(keys));
        let (runner, command) = (site.runner.clone(), site.command(&["true"]));
        move || {
            let task = maestro_model::ids::TaskId { run: maestro_model::ids::RunId::random(0), index: 0 };
            attempt(runner.clone(), AttemptOrder { agent: agent.clone(), task, ..command.clone() })
        }
    };
    let (alone, connected) = (with("{}"), with(r#"{"network": "own"}"#));
    let socket = engine.socket();
    let docker = Docker::connect_with_unix(socket.to_str().expect("UTF-8"), 60, API_DEFAULT_VERSION);
    let docker = docker.expect("it is there").negotiate_version().await.expect("it answers");

    // In turn, so that what else the machine does falls on both.
    in_lanes(LANES, LANES, &alone).await;
    // What else goes on can only make it look worse: the best of a few counts.
    let (mut ours, mut theirs, mut ratio) = (Duration::ZERO, Duration::ZERO, f64::INFINITY);
    for _ in 0..COMPARISONS_MAX {
        (ours, theirs) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..COMPARED.1 {
            theirs += in_lanes(COMPARED.0, LANES, || {
                let one = bare(docker.clone(), IMAGE.to_owned());
                async { one.await.expect("the engine makes, runs and removes it") }
            })
            .await;
            ours += in_lanes(COMPARED.0, LANES, &alone).await;
        }
        ratio = ratio.min(ours.as_secs_f64() / theirs.as_secs_f64());
        if ratio <= MOST {
            break;
        }
    }

    in_lanes(WARM_UP, LANES, &connected).await;
    let before = (descriptors(), resident_kib());
    let took = in_lanes(TASKS.1 - WARM_UP, LANES, &connected).await;
    let so_far = LANES + COMPARED.0 * COMPARED.1 + TASKS.1;
    in_lanes(TASKS.0 - so_far, LANES, &alone).await;
    let containers = site.runner.containers().expect("it has one");
    let (after, grown) = (descriptors(), resident_kib().saturating_sub(before.1));
    containers.close().await;
    let compared = (COMPARED.0 * COMPARED.1) as f64;
    let told = writeln!(
        std::io::stderr(),
        "with a network of its own {:.1}/s; without one {:.1}/s, bare calls {:.1}/s, {ratio:.3} times",
        (TASKS.1 - WARM_UP) as f64 / took.as_secs_f64(),
        compared / ours.as_secs_f64(),
        compared / theirs.as_secs_f64(),
    );
    told.expect("somebody may read it");
    assert_eq!(left(engine, &cluster), BTreeMap::from([("containers", 0), ("networks", 0)]));
    assert!(after <= before.0 + 2 * LANES, "descriptors: {} before, {after} after", before.0);
    assert!(grown < 8 * 1024, "memory grew by {grown} KiB");
    assert!(ratio <= MOST, "a task costs {ratio:.3} times the bare calls");
    site.assert_no_survivors();
}
