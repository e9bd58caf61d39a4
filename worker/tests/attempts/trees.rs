//! Trees of processes: whatever an agent starts, nothing of it is left when the attempt has ended.

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use maestro_model::attempt::AttemptOutcome;
use maestro_worker::attempt::StopKind;
use maestro_worker::launch::{LaunchFds, LaunchSpec, MainEnd, ProcessEnd};

use crate::support::{DEADLINE, Site, eventually, marked, result};

#[tokio::test]
async fn a_tree_of_daemons_ends_with_its_first_process() {
    let site = Site::new();
    let script = "i=0; while [ $i -lt 40 ]; do (setsid sh -c 'sleep 1000 & (sleep 1000 &) ; sleep 1000' &); \
                  i=$((i+1)); done; echo started; exit 0";
    let end = site.run(site.script(script)).await;
    assert_eq!(result(&end), "started");
    assert!(end.tree.expect("it ran").leftovers >= 40);
}

#[tokio::test]
async fn processes_that_ignore_everything_end_too() {
    let site = Site::new();
    let script =
        "trap '' TERM HUP INT; (trap '' TERM HUP INT; setsid sleep 1000 & sleep 1000) & sleep 0.1; exit 5";
    let end = site.run(site.script(script)).await;
    assert_eq!(end.tree.expect("it ran").main, MainEnd::Exited(5));
}

/// Each generation starts the next and ends at once, so that no listing of processes is ever up to date.
#[tokio::test]
async fn a_chain_of_processes_that_runs_ahead_is_caught() {
    let site = Site::new();
    let script = "cat > hop <<'EOF'\n#!/bin/sh\n[ -e stop ] && exit\n./hop &\nEOF\nchmod +x hop; \
                  ./hop & ./hop & ./hop & sleep 0.3; exit 0";
    let end = site.run(site.script(script)).await;
    assert_eq!(end.report.outcome, AttemptOutcome::Completed);
}

#[tokio::test]
async fn a_modest_fork_bomb_is_cancelled_whole() {
    let site = Site::new();
    // Every process starts others as fast as it can, until there are about two hundred of them.
    let script = "cat > bomb <<'EOF'\n#!/bin/sh\ntrap '' TERM\nn=0\nwhile [ $n -lt 4 ]; do \
                  [ $1 -lt 3 ] && ./bomb $(($1+1)) & n=$((n+1)); done\nwhile :; do sleep 0.02 & wait; done\nEOF\n\
                  chmod +x bomb; exec ./bomb 0";
    let mut order = site.script(script);
    order.grace = Duration::from_millis(100);
    let attempt = site.runner.attempt(order, None);
    let handle = attempt.handle();
    let running = tokio::spawn(attempt.run());
    eventually("eighty processes", || (marked(&site.mark).len() > 80).then_some(())).await;
    handle.stop(StopKind::Cancel);
    let end = tokio::time::timeout(DEADLINE, running).await.expect("it ends").expect("no panic");
    assert_eq!(end.report.outcome, AttemptOutcome::Cancelled);
    assert_eq!(end.tree.expect("it ran").survivors, 0);
    site.assert_no_survivors();
}

#[tokio::test]
async fn a_supervisor_serves_one_agent_after_another() {
    let site = Site::new();
    let mut parents = Vec::new();
    for _ in 0..5 {
        let end = site.run(site.script("echo $PPID; sleep 1000 &")).await;
        parents.push(result(&end).to_owned());
    }
    parents.dedup();
    assert_eq!(parents.len(), 1, "{parents:?}");
}

#[tokio::test]
async fn a_paused_tree_stands_still_and_goes_on() {
    let site = Site::new();
    let null = fs::File::open("/dev/null").expect("there");
    let spec = LaunchSpec {
        argv: ["sh", "-c", "(while :; do echo x >> count; sleep 0.01; done) & wait"].map(Into::into).to_vec(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("TEST_MARK".into(), site.mark.clone().into())],
        cwd: site.folder.path().to_owned(),
    };
    let fds = LaunchFds { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() };
    let mut process = site.launcher.launch(&spec, fds).await.expect("it starts");
    let count = site.folder.path().join("count");
    let size = || fs::metadata(&count).map_or(0, |found| found.len());
    eventually("the first lines", || (size() > 4).then_some(())).await;
    process.pause();
    // A hundred looks in a row that find the same: it would have grown at every second one.
    let (mut paused, mut looks) = (0, 0);
    eventually("it to stand still", || {
        looks = if size() == paused { looks + 1 } else { 0 };
        paused = size();
        (looks >= 100).then_some(())
    })
    .await;
    // Stopped, or waiting in the kernel for a child that is stopped before it executes its program.
    let states: String = marked(&site.mark).iter().filter_map(|line| state_of(line)).collect();
    assert!(states.contains('T') && states.chars().all(|state| "TD".contains(state)), "{states}");
    process.resume();
    eventually("it to go on", || (size() > paused + 4).then_some(())).await;
    process.pause();
    process.kill();
    let end = tokio::time::timeout(DEADLINE, process.ended()).await.expect("also when paused");
    assert!(matches!(end, ProcessEnd::Ended(tree) if tree.main == MainEnd::Signaled(9)), "{end:?}");
    site.assert_no_survivors();
}

fn state_of(marked: &str) -> Option<char> {
    let pid = marked.split(':').next()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim().chars().next()
}
