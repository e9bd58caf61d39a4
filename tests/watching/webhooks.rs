//! A webhook that is broken in one way or another delays nothing but its own alerts.

use std::time::{Duration, Instant};

use crate::http::{Manner, Webhook, free_port, get};
use crate::support::{ClusterSetup, TestCluster};

/// Until something that was started does what it should.
const WITHIN: Duration = Duration::from_secs(20);

/// A worker with two agents, a monitor that looks after them, and no coordinator.
fn monitored(webhook: &Webhook) -> (TestCluster, u16) {
    let mut cluster = TestCluster::start(ClusterSetup { coordinators: 0, ..ClusterSetup::default() });
    let folder = cluster.scratch("agents");
    for name in ["smith", "jones"] {
        let path = folder.join(name);
        let path = path.to_str().expect("a plain path");
        let answer = cluster.maestro(&["agent", "assign", "probe", "--to-workspace", path, "--name", name]);
        assert_eq!(answer.code, 0, "{answer:?}");
    }
    let port = start_monitor(&mut cluster, "monitor", webhook);
    (cluster, port)
}

/// Starts a monitor and waits until it has looked.
fn start_monitor(cluster: &mut TestCluster, name: &str, webhook: &Webhook) -> u16 {
    let port = free_port();
    let url = webhook.url();
    let words = ["monitor", "start", "--interval", "1", "--alert-webhook", &url, "--metrics-port"];
    cluster.start_command(name, &[&words[..], &[&port.to_string()]].concat());
    cluster.wait_until("the first check", WITHIN, |_| match cluster.log(name) {
        log if log.contains("looked at ") => Ok(()),
        log => Err(log),
    });
    port
}

/// Lines that the monitor has printed of a change.
fn printed(cluster: &TestCluster, status: &str) -> usize {
    let word = format!("\"status\":\"{status}\"");
    cluster.log("monitor").lines().filter(|line| line.contains(&word)).count()
}

fn wait_for_printed(cluster: &TestCluster, status: &str, count: usize) {
    cluster.wait_until(&format!("{count} lines `{status}`"), WITHIN, |_| match printed(cluster, status) {
        found if found >= count => Ok(()),
        _ => Err(cluster.log("monitor")),
    });
}

#[test]
fn a_webhook_that_hangs_holds_up_neither_checks_nor_the_end() {
    let webhook = Webhook::start(Manner::Hangs);
    let (mut cluster, port) = monitored(&webhook);
    let folder = cluster.scratch("agents");
    for round in 1..=2 {
        std::fs::rename(folder.join("smith"), folder.join("aside")).expect("moved");
        wait_for_printed(&cluster, "firing", round);
        std::fs::rename(folder.join("aside"), folder.join("smith")).expect("moved back");
        wait_for_printed(&cluster, "resolved", round);
    }
    assert_eq!(webhook.told(), ["firing workspace smith"], "the first one is still being answered, or not");
    assert_eq!(get(port, "/healthz").0, 200);
    let begun = Instant::now();
    cluster.member("monitor").terminate();
    assert_eq!(cluster.member("monitor").wait(WITHIN), Ok(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn what_a_webhook_could_not_take_comes_again_and_what_it_refused_does_not() {
    let webhook = Webhook::start(Manner::Answers(500));
    let (mut cluster, _) = monitored(&webhook);
    let folder = cluster.scratch("agents");
    std::fs::rename(folder.join("smith"), folder.join("aside")).expect("moved");
    let told = |cluster: &TestCluster, what: &str, least: usize| {
        cluster.wait_until(what, WITHIN, |_| match webhook.told() {
            told if told.len() >= least => Ok(told),
            told => Err(format!("{told:?}")),
        })
    };
    let all = told(&cluster, "a second try", 2);
    assert!(all.iter().all(|one| one == "firing workspace smith"), "{all:?}");
    // A coordinator that leads looks as well, at once, and says so in its log.
    cluster.start_coordinator("c0");
    cluster.wait_until("a line of the leader", WITHIN, |_| match cluster.log("c0") {
        log if log.contains("firing: agent `smith`: workspace missing") => Ok(()),
        log => Err(log),
    });
    *webhook.manner.lock().expect("no holder panics") = Manner::Answers(400);
    let before = told(&cluster, "a refusal", webhook.told().len() + 1).len();
    std::fs::rename(folder.join("aside"), folder.join("smith")).expect("moved back");
    let all = told(&cluster, "the next alert", before + 1);
    assert_eq!(all[before], "resolved workspace smith", "what was refused is not sent again");
    let received = webhook.received();
    let ids: Vec<_> = received.iter().map(|one| one.json["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "beginning and end have one id: {ids:?}");
}

#[test]
fn neither_a_second_monitor_nor_one_that_starts_again_tells_anything_twice() {
    let webhook = Webhook::start(Manner::Takes);
    let (mut cluster, _) = monitored(&webhook);
    let folder = cluster.scratch("agents");
    std::fs::rename(folder.join("smith"), folder.join("aside")).expect("moved");
    wait_for_printed(&cluster, "firing", 1);
    start_monitor(&mut cluster, "second", &webhook);
    cluster.wait_until("all that is wrong, printed anew", WITHIN, |_| match cluster.log("second") {
        log if log.contains("workspace missing") => Ok(()),
        log => Err(log),
    });
    cluster.member("monitor").terminate();
    assert_eq!(cluster.member("monitor").wait(WITHIN), Ok(0));
    start_monitor(&mut cluster, "monitor", &webhook);
    std::fs::rename(folder.join("aside"), folder.join("smith")).expect("moved back");
    for monitor in ["monitor", "second"] {
        cluster.wait_until("the end of it", WITHIN, |_| match cluster.log(monitor) {
            log if log.contains("\"status\":\"resolved\"") => Ok(()),
            log => Err(log),
        });
    }
    cluster.wait_until("the last alert", WITHIN, |_| match webhook.told() {
        told if told.len() >= 2 => Ok(()),
        told => Err(format!("{told:?}")),
    });
    assert_eq!(webhook.told(), ["firing workspace smith", "resolved workspace smith"]);
    let ids: Vec<_> = webhook.received().iter().map(|one| one.json["id"].clone()).collect();
    assert_eq!(ids[0], ids[1], "the same problem, whoever tells of it");
}
