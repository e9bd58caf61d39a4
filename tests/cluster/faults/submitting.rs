//! A command that dies while it submits a run: nothing of it starts before all of it is there, and the same
//! submission carries on.

use std::time::Duration;

use maestro_store::runs::RunStatus;
use serde_json::json;

use crate::graphs::{noting, step, workflow};
use crate::records::notes;
use crate::support::{ClusterSetup, TestCluster};

const LONG: Duration = Duration::from_secs(60);
/// Prompts so large that a chunk of a submission holds few of them.
const PADDING: usize = 38_000;

/// Many chunks: each step prints a line, after a comment that fills the chunk.
fn large(cluster: &TestCluster) -> String {
    let prompt = format!("{}\n# {}", noting("S"), "x".repeat(PADDING));
    let mut steps = Vec::new();
    for index in 0..24 {
        let mut step = step(&format!("s{index}"), &[], &format!("# {index}\n{prompt}"));
        step["timeout"] = json!(60);
        steps.push(step);
    }
    workflow("large", &cluster.witness(), steps)
}

#[test]
fn a_submission_that_was_cut_off_starts_nothing_and_the_next_one_is_whole() {
    let mut cluster = TestCluster::start(ClusterSetup { workers: 2, ..ClusterSetup::default() });
    let file = cluster.write_workflow("large", &large(&cluster));
    let path = file.to_str().expect("a plain path").to_owned();
    let words = ["workflow", "run", path.as_str(), "--detach", "--format", "json"];
    let mut cut = 0;
    for (number, delay_ms) in [0_u64, 40, 20, 60].into_iter().enumerate() {
        let road = cluster.proxy();
        road.delay(Duration::from_millis(30));
        let name = format!("submitter{number}");
        cluster.start_command_by(&name, &words, &road.url());
        // From the first chunk on it may die at any moment.
        let seen = cluster.wait_until("a run that is loading, or is there", LONG, |observer| {
            let ids =
                observer.ask(async |store| store.run_ids(100).await).map_err(|error| error.to_string())?;
            if ids.len() > number { Ok(ids) } else { Err(format!("{ids:?}")) }
        });
        // The moment is what differs from one round to the next.
        std::thread::sleep(Duration::from_millis(delay_ms));
        cluster.member(&name).kill();
        let newest = &seen[0];
        cut += u32::from(cluster.observer().run(newest).status == RunStatus::Loading);
    }
    assert!(cut >= 1, "no submission was cut off in the middle");
    let whole = cluster.submit(&path, &[]);
    assert_eq!(cluster.wait_for_run(&whole, LONG).status, RunStatus::Completed);
    let runs = cluster.observer().ask(async |store| store.run_ids(100).await).expect("redis is there");
    let mut expected = 0;
    for run in runs {
        let record = cluster.observer().run(&run);
        if record.status == RunStatus::Loading {
            let ran = cluster.observer().tasks(&run).into_iter().filter(|task| task.record.is_some()).count();
            assert_eq!(ran, 0, "nothing of a run that is not all there has begun");
            continue;
        }
        cluster.wait_for_run(&run, LONG);
        expected += 24;
    }
    assert_eq!(notes(&cluster).len(), expected, "each step of each whole run once");
    // What is not whole goes with time, an hour; here with the rest.
    let mut connection = cluster.redis.connection().expect("redis is there");
    redis::cmd("FLUSHALL").exec(&mut connection).expect("flushed");
}
