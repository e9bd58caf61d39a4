//! Limits that hold for all of an attempt together, and that an attempt's groups go with it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use maestro_model::attempt::AttemptOutcome;
use maestro_model::task::Reason;
use maestro_worker::attempt::AttemptOrder;
use maestro_worker::confinement::{Confinement, ControlGroups, Limited};

use crate::confined::skipped;
use crate::support::{Site, agent_type, eventually, failed, file_appears, result};

/// More than the limit, kept in memory by the last of two processes.
const HUNGRY: &str = "head -c 300000000 /dev/zero | tail -c 300000000 > /dev/null";

/// A site whose worker has control groups; none if this host cannot limit this by them.
async fn site(limited: Limited) -> Option<Site> {
    let site = Site::new();
    let groups = ControlGroups::open(&site.mark);
    if !groups.can_limit(limited) {
        skipped(&format!("no control group for {} may be made here", limited.key()));
        return None;
    }
    let confinement = Confinement::find(&site.launcher).await.with_groups(groups);
    site.runner.confine_with(confinement);
    Some(site)
}

fn limited(site: &Site, script: &str, resources: &str) -> AttemptOrder {
    let mut order = site.script(script);
    order.agent = Arc::new(agent_type(&format!(r#"{{"resources": {resources}}}"#)));
    order
}

/// Groups that are named after a task, wherever they are mounted.
fn groups_of(order: &AttemptOrder) -> Vec<PathBuf> {
    let name = format!("{}.{}", order.task, order.attempt);
    let mut found = Vec::new();
    let mut waiting = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((folder, depth)) = waiting.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth < 8 {
                if *entry.file_name() == *name {
                    found.push(entry.path());
                }
                waiting.push((entry.path(), depth + 1));
            }
        }
    }
    found
}

#[tokio::test]
async fn an_agent_at_its_limit_on_memory_ends_as_oom_and_its_neighbour_does_not_notice() {
    let Some(site) = site(Limited::Memory).await else { return };
    let order = limited(&site, HUNGRY, r#"{"memory_bytes": 67108864}"#);
    let end = site.run(order.clone()).await;
    let (reason, code, message) = failed(&end);
    assert_eq!((reason, code), (Reason::Oom, None), "{message}");
    assert!(message.contains("limit on memory"), "{message}");
    eventually("its groups to go", || groups_of(&order).is_empty().then_some(())).await;
    let end = site.run(limited(&site, HUNGRY, r#"{"memory_bytes": 1073741824}"#)).await;
    assert_eq!(end.report.outcome, AttemptOutcome::Completed, "{:?}", end.report);
}

#[tokio::test]
async fn an_agent_that_survives_the_loss_of_a_child_is_judged_by_its_own_end() {
    let Some(site) = site(Limited::Memory).await else { return };
    let script = format!("({HUNGRY}); echo went on");
    let end = site.run(limited(&site, &script, r#"{"memory_bytes": 67108864}"#)).await;
    match site.runner.confinement().await.groups().name() {
        Some("cgroup v1") => assert_eq!(result(&end), "went on"),
        // There the whole group ends at once.
        _ => assert_eq!(failed(&end).0, Reason::Oom),
    }
}

#[tokio::test]
async fn an_agent_makes_no_more_processes_than_it_may() {
    let Some(site) = site(Limited::Pids).await else { return };
    let script = "for i in $(seq 60); do sleep 100 & done; echo never";
    let order = limited(&site, script, r#"{"pids": 20}"#);
    let end = site.run(order.clone()).await;
    let (reason, _, message) = failed(&end);
    assert_eq!(reason, Reason::Exit, "{message}");
    assert!(message.contains("fork"), "{message}");
    eventually("its groups to go", || groups_of(&order).is_empty().then_some(())).await;
    let end =
        site.run(limited(&site, "for i in 1 2 3; do sleep 0.1 & done; wait; echo all", r#"{"pids": 20}"#));
    assert_eq!(result(&end.await), "all");
}

#[tokio::test]
async fn an_agent_gets_no_more_of_the_processors_than_it_may() {
    let Some(site) = site(Limited::Cpus).await else { return };
    let script = "end=$(($(date +%s) + 3)); while [ $(date +%s) -lt $end ]; do :; done";
    let end = site.run(limited(&site, script, r#"{"cpus": 0.1}"#)).await;
    let tree = end.tree.expect("it ran");
    let (used, ran_for) = (tree.user_us + tree.system_us, end.ran_for.as_micros() as u64);
    // A tenth of the time, and what one span gives at the start.
    assert!(used < ran_for / 10 + 200_000, "{used} µs in {ran_for} µs");
}

#[tokio::test]
async fn without_control_groups_each_process_is_limited_by_itself() {
    let site = Site::new();
    let confinement = Confinement::find(&site.launcher).await;
    assert_eq!(confinement.limiter(Limited::Memory), Some("rlimit"));
    assert_eq!(confinement.limiter(Limited::Pids), None);
    site.runner.confine_with(confinement);
    let end = site.run(limited(&site, HUNGRY, r#"{"memory_bytes": 67108864}"#)).await;
    let (reason, code, message) = failed(&end);
    assert_eq!((reason, code), (Reason::Exit, Some(1)), "{message}");
    assert!(message.contains("memory exhausted"), "{message}");
}

#[tokio::test]
async fn what_an_earlier_life_left_in_its_groups_is_ended_and_removed() {
    let Some(site) = site(Limited::Pids).await else { return };
    let order = limited(&site, "touch ready; sleep 1000", r#"{"pids": 20}"#);
    let running = tokio::spawn(site.runner.attempt(order.clone(), None).run());
    file_appears(&site.paths(&order).folder.join("ready")).await;
    assert_eq!(groups_of(&order).len(), 1);
    // As the next life of the same worker would, whose predecessor was killed.
    let _next = ControlGroups::open(&site.mark);
    let end = running.await.expect("no panic");
    assert_eq!(failed(&end).0, Reason::Exit, "it was killed: {:?}", end.report);
    eventually("its groups to go", || groups_of(&order).is_empty().then_some(())).await;
    site.assert_no_survivors();
}
