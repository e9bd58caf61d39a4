//! Worker, launcher and supervisors killed in the middle: their agents die with them.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use maestro_model::attempt::AttemptOutcome;
use maestro_model::task::Reason;
use maestro_worker::attempt::{AttemptEnd, BrokenPart, StopKind};
use maestro_worker::confinement::NamespacesFound;
use tokio::task::JoinHandle;

use crate::confined::skipped;
use crate::host::{WORKER_COMMAND, host_program};
use crate::support::{
    DEADLINE, Site, command_line, descendants, eventually, failed, file_appears, is_alive, kill_hard, marked,
    result,
};

/// An agent with a tree of several sessions, which makes a file when all of it is there.
const TREE: &str =
    "setsid sleep 1000 & (setsid sh -c 'sleep 1000 & sleep 1000' &) ; sleep 0.1; touch ready; sleep 1000";

async fn start_tree(site: &Site) -> JoinHandle<AttemptEnd> {
    let order = site.script(TREE);
    let ready = site.paths(&order).folder.join("ready");
    let running = tokio::spawn(site.runner.attempt(order, None).run());
    file_appears(&ready).await;
    eventually("a tree of five", || (marked(&site.mark).len() >= 5).then_some(())).await;
    running
}

async fn infra_end(running: JoinHandle<AttemptEnd>) -> AttemptEnd {
    let end = tokio::time::timeout(DEADLINE, running).await.expect("it ends").expect("no panic");
    let expected = "the launcher of agent processes was lost, and the agent ended with it";
    assert_eq!(failed(&end), (Reason::Infra, None, expected));
    assert_eq!(end.broken, Some(BrokenPart::Launcher));
    end
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_survives_the_launcher_and_the_next_attempt_has_another() {
    let site = Site::new();
    let running = start_tree(&site).await;
    let launcher = site.launcher.pid().await.expect("it runs");
    let below = descendants(launcher);
    kill_hard(launcher);
    infra_end(running).await;
    site.assert_no_survivors();
    eventually("its supervisors to go", || below.iter().all(|pid| !is_alive(*pid)).then_some(())).await;

    assert_eq!(result(&site.run(site.script("echo again")).await), "again");
    assert_ne!(site.launcher.pid().await, Some(launcher));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_survives_a_supervisor() {
    let site = Site::new();
    let running = start_tree(&site).await;
    let launcher = site.launcher.pid().await.expect("it runs");
    let supervisor = descendants(launcher)[0];
    assert_eq!(command_line(supervisor), command_line(launcher), "forked, not executed");
    kill_hard(supervisor);
    let end = infra_end(running).await;
    assert_eq!(end.tree, None);
    site.assert_no_survivors();
    assert_eq!(result(&site.run(site.script("echo again")).await), "again");
    assert_eq!(site.launcher.pid().await, Some(launcher), "it goes on");
}

/// An unconfined agent may stop its supervisor as it may stop itself: they belong to one user. One that does so
/// at once is never seen to have started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_does_not_answer_is_given_up() {
    let site = Site::new();
    for moment in ["", "sleep 0.3;"] {
        let mut order =
            site.script(&format!("{moment} kill -STOP $PPID; setsid sleep 1000 & touch ready; sleep 1000"));
        order.agent = site.agent("none");
        order.grace = Duration::from_millis(100);
        let ready = site.paths(&order).folder.join("ready");
        let attempt = site.runner.attempt(order, None);
        let handle = attempt.handle();
        let running = tokio::spawn(attempt.run());
        file_appears(&ready).await;
        handle.stop(StopKind::Cancel);
        let end = tokio::time::timeout(DEADLINE, running).await.expect("it ends").expect("no panic");
        assert_eq!((end.report.outcome, end.tree), (AttemptOutcome::Cancelled, None), "{moment}");
        site.assert_no_survivors();
        assert_eq!(result(&site.run(site.script("echo again")).await), "again");
    }
}

/// A worker process of its own, running a tree; it is killed when dropped.
struct Worker(Child);

impl Worker {
    fn start(site: &Site, script: &str) -> Worker {
        let child = Command::new(host_program())
            .args([WORKER_COMMAND.as_ref(), site.runner.root().path().as_os_str(), script.as_ref()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        Worker(child.expect("it starts"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The host passes no mark on, so the script sets it.
fn with_mark(site: &Site, script: &str) -> String {
    format!("export TEST_MARK={}; {script}", site.mark)
}

#[tokio::test]
async fn nothing_survives_the_worker() {
    let site = Site::new();
    let worker = Worker::start(&site, &with_mark(&site, TREE));
    let folder = site.runner.root().path().join("shell/0k3v9x2mqf1a.0");
    file_appears(&folder.join("ready")).await;
    eventually("all its sleepers", || (marked(&site.mark).len() >= 4).then_some(())).await;
    // Launcher, supervisor, shell and at least those.
    let below = descendants(worker.0.id());
    assert!(below.len() >= 7, "{below:?}");
    kill_hard(worker.0.id());
    eventually("all of it to go", || below.iter().all(|pid| !is_alive(*pid)).then_some(())).await;
    site.assert_no_survivors();
}

/// Stopped first, so that none of them can react to the end of another.
#[tokio::test]
async fn nothing_survives_worker_launcher_and_supervisors_killed_together() {
    let site = Site::new();
    if let NamespacesFound::Refused(why) = site.runner.confinement().await.namespaces() {
        return skipped(&format!("without a process namespace grandchildren stay: {why}"));
    }
    let worker = Worker::start(&site, &with_mark(&site, TREE));
    file_appears(&site.runner.root().path().join("shell/0k3v9x2mqf1a.0/ready")).await;
    eventually("all its sleepers", || (marked(&site.mark).len() >= 4).then_some(())).await;
    let below = descendants(worker.0.id());
    let is_ours = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with("maestro-")
    };
    let ours: Vec<u32> = below.iter().copied().filter(is_ours).chain([worker.0.id()]).collect();
    assert!(ours.len() >= 3, "launcher, supervisors, worker: {ours:?} of {below:?}");
    for pid in &ours {
        let pid = rustix::process::Pid::from_raw(*pid as i32).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it is there and ours");
    }
    for pid in &ours {
        kill_hard(*pid);
    }
    eventually("all of it to go", || below.iter().all(|pid| !is_alive(*pid)).then_some(())).await;
    site.assert_no_survivors();
}

#[tokio::test]
async fn a_worker_that_ends_in_order_leaves_no_process() {
    let site = Site::new();
    let mut worker = Worker::start(&site, "echo hello");
    let mut stdout = worker.0.stdout.take().expect("piped");
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text).map(|_| text)
    });
    let text =
        tokio::time::timeout(DEADLINE, text).await.expect("it ends").expect("no panic").expect("UTF-8");
    assert!(text.contains("Completed") && text.contains("hello"), "{text}");
    assert!(worker.0.wait().expect("it is ours").success());
}

/// A limit on the size of files stands for a full disk: the log can be written no further.
#[tokio::test]
async fn a_log_that_cannot_be_written_is_the_hosts_failure() {
    let site = Site::new();
    let host = host_program();
    let limited = format!(
        "trap '' XFSZ; ulimit -f 200; exec {} {WORKER_COMMAND} {} \"$0\"",
        host.display(),
        site.runner.root().path().display()
    );
    let script = with_mark(&site, "yes flood; sleep 1000");
    let running = Command::new("sh")
        .args(["-c", &limited, &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut worker = Worker(running.expect("a shell"));
    let mut stdout = worker.0.stdout.take().expect("piped");
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text).map(|_| text)
    });
    let text =
        tokio::time::timeout(DEADLINE, text).await.expect("it ends").expect("no panic").expect("UTF-8");
    assert!(text.contains("reason: Infra") && text.contains("broken: Some(Workspaces)"), "{text}");
    assert!(text.contains("cannot write `") && text.contains("agent.log`: File too large"), "{text}");
    let log = site.runner.root().path().join("shell/0k3v9x2mqf1a.0.maestro/agent.log");
    assert_eq!(fs::metadata(log).expect("there").len(), 200 * 512);
    site.assert_no_survivors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_the_launcher_ends_what_runs() {
    let site = Site::new();
    let running = start_tree(&site).await;
    tokio::time::timeout(Duration::from_secs(20), site.launcher.close()).await.expect("it closes");
    site.assert_no_survivors();
    infra_end(running).await;
    assert_eq!(site.launcher.pid().await, None);
}
