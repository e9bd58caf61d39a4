//! `--key`: however often and from wherever it is said, there is one dispatch.

use std::collections::BTreeSet;

use crate::support::{ClusterSetup, TestCluster};

/// Processes that dispatch at the same time, and how often each does.
const PROCESSES: usize = 8;
const TIMES: usize = 125;

#[test]
fn a_thousand_dispatches_with_one_key_make_one_task() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let script = format!(
        r#"set -eu
        for process in $(seq {PROCESSES}); do
          (for time in $(seq {TIMES}); do
            maestro task dispatch "echo once" --to probe --key deploy-42 --format name
          done > "ids.$process") &
        done
        wait
        cat ids.*"#
    );
    let answer = cluster.shell(&script);
    assert_eq!(answer.code, 0, "{answer:?}");
    let ids: Vec<&str> = answer.out.lines().collect();
    assert_eq!(ids.len(), PROCESSES * TIMES);
    let different: BTreeSet<&str> = ids.into_iter().collect();
    assert_eq!(different.len(), 1, "{different:?}");
    let runs = cluster.observer().ask(async |store| store.run_ids(10).await).expect("redis answers");
    assert_eq!(runs.len(), 1);
    let other = cluster.maestro(&["task", "dispatch", "echo other", "--to", "probe", "--key", "deploy-42"]);
    assert_eq!(other.code, 0, "{other:?}");
    assert!(other.err.contains("was for something else"), "{other:?}");
    assert!(other.out.contains("\"repeated\":true"), "{other:?}");
}
