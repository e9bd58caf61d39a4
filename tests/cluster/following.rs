//! A run that is followed: what Ctrl-C does, and what is shown of a run while it goes on and afterwards.

use std::time::Duration;

use maestro_store::runs::RunStatus;
use rustix::process::Signal;

use crate::graphs::{layers, long_at_first, napping, step, workflow};
use crate::records::{clean_audit, wait_until_busy};
use crate::support::{ClusterSetup, TestCluster};

fn newest_run(cluster: &TestCluster) -> maestro_model::ids::RunId {
    cluster.wait_until("a run", Duration::from_secs(20), |observer| {
        let runs = observer.ask(async |store| store.run_ids(1).await).map_err(|error| error.to_string())?;
        runs.into_iter().next().ok_or_else(|| "no run".to_owned())
    })
}

#[test]
fn an_interrupted_follower_leaves_its_run_going() {
    let mut cluster = TestCluster::start(ClusterSetup::default());
    let text = workflow("layers", &cluster.witness(), layers(3, 3, &napping(0.6)));
    let path = cluster.write_workflow("layers", &text);
    cluster.start_command("follower", &["workflow", "run", path.to_str().expect("a plain path")]);
    let run = newest_run(&cluster);
    wait_until_busy(&cluster, &run, "w0", 1);
    cluster.member("follower").signal(Signal::INT);
    assert_eq!(cluster.member("follower").wait(Duration::from_secs(5)), Ok(130));
    let said = cluster.member("follower").log();
    for command in ["workflow logs", "workflow status", "workflow stop"] {
        assert!(said.contains(command), "it says how to go on:\n{said}");
    }
    let end = cluster.wait_for_run(&run, Duration::from_secs(30));
    assert_eq!(end.status, RunStatus::Completed);
    clean_audit(&cluster);
}

#[test]
fn the_follower_of_a_stopped_run_ends_with_130() {
    let mut cluster = TestCluster::start(ClusterSetup::default());
    let steps = vec![step("a", &[], &long_at_first()), step("b", &["a".to_owned()], &napping(0.1))];
    let text = workflow("long", &cluster.witness(), steps);
    let path = cluster.write_workflow("long", &text);
    cluster.start_command("follower", &["workflow", "run", path.to_str().expect("a plain path")]);
    let run = newest_run(&cluster);
    wait_until_busy(&cluster, &run, "w0", 1);
    let stopped = cluster.maestro(&["workflow", "stop", run.as_str()]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert_eq!(cluster.member("follower").wait(Duration::from_secs(10)), Ok(130));
    let again = cluster.maestro(&["workflow", "status", run.as_str(), "--format", "json"]);
    assert_eq!(again.code, 0, "{again:?}");
    let status: serde_json::Value = serde_json::from_str(&again.out).expect("JSON");
    assert_eq!(status["status"], "cancelled", "{again:?}");
    clean_audit(&cluster);
}
