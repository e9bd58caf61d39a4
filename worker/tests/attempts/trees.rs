//! Trees of processes: whatever an agent starts, nothing of it is left when the attempt has ended.

use std::time::Duration;

use maestro_model::attempt::AttemptOutcome;
use maestro_worker::attempt::StopKind;
use maestro_worker::launch::MainEnd;

use crate::support::{DEADLINE, Site, eventually, marked, result};

#[tokio::test]
async fn a_tree_of_daemons_ends_with_its_first_process() {
    let site = Site::new();
    let script = "i=0; while [ $i -lt 40 ]; do (setsid sh -c 'sleep 1000 & (sleep 1000 &) ; sleep 1000' &); \
                  i=$((i+1)); done; echo started; exit 0";
    let end = site.run(site.script(script)).await;
    assert_eq!(result(&end), "started");
    let tree = end.tree.expect("it ran");
    assert!(tree.leftovers >= 40 || !crate::isolation::COUNTS_PROCESSES, "{tree:?}");
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
