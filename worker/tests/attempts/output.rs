//! Output of every odd kind: all of it in the log, nothing hangs, memory stays bounded.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use maestro_model::attempt::AttemptOutcome;
use maestro_worker::log_capture::{LOG_CHUNK_BYTES_MAX, OutputStream, log_channel};

use crate::support::{DEADLINE, Site, eventually, result};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_megabytes_are_kept_whole() {
    let site = Site::new();
    let order = site.script("yes 0123456789abcde | head -c 200000000; echo end");
    let paths = site.paths(&order);
    let before = resident_kib();
    let end = site.run(order).await;
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "memory grew by {grown} KiB");
    assert_eq!(end.output_bytes, 200_000_004);
    let log = fs::read(paths.log()).expect("there");
    assert_eq!(log.len(), 200_000_004);
    let unit = b"0123456789abcde\n";
    assert!(log[..200_000_000].chunks(16).all(|line| line == unit));
    assert!(log.ends_with(b"end\n"));
    assert!(result(&end).len() <= 65_536 && result(&end).ends_with("\nend"));
}

fn resident_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("listed");
    line.split_ascii_whitespace().nth(1).expect("a number").parse().expect("a number")
}

#[tokio::test]
async fn a_line_of_ten_megabytes_and_a_missing_newline_lose_no_byte() {
    let site = Site::new();
    let order = site.script("head -c 10000000 /dev/zero | tr '\\0' x; echo; printf 'no newline'");
    let paths = site.paths(&order);
    let end = site.run(order).await;
    assert_eq!(fs::metadata(paths.log()).expect("there").size(), 10_000_011);
    assert!(result(&end).ends_with("xxx\nno newline"));
}

#[tokio::test]
async fn invalid_utf8_is_kept_in_the_log_and_replaced_in_the_result() {
    let site = Site::new();
    let order = site.script(r"printf 'a\377\376b\303'");
    let paths = site.paths(&order);
    let end = site.run(order).await;
    assert_eq!(fs::read(paths.log()).expect("there"), b"a\xff\xfeb\xc3");
    assert_eq!(result(&end), "a\u{FFFD}\u{FFFD}b\u{FFFD}");
}

#[tokio::test]
async fn random_bytes_on_both_streams_arrive_whole() {
    let site = Site::new();
    let order = site.script("head -c 3000000 /dev/urandom > noise; cat noise; cat noise >&2; cat noise");
    let paths = site.paths(&order);
    let end = site.run(order).await;
    assert_eq!(end.report.outcome, AttemptOutcome::Completed);
    let noise = fs::read(paths.folder.join("noise")).expect("there");
    let log = fs::read(paths.log()).expect("there");
    assert_eq!(log.len(), 3 * noise.len());
    // Two streams, read as they come: their pieces may change places, but none is lost or made up.
    let counts = |bytes: &[u8]| {
        let mut counts = [0_usize; 256];
        bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        counts
    };
    assert!(counts(&log) == counts(&noise).map(|count| 3 * count), "bytes were lost or made up");
}

#[tokio::test]
async fn an_agent_may_close_its_output_and_go_on() {
    let site = Site::new();
    let started = Instant::now();
    let end = site.run(site.script("echo said; exec >&- 2>&-; sleep 0.4; echo x > still; exit 0")).await;
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert_eq!(result(&end), "said");
}

#[tokio::test]
async fn a_daemon_that_holds_the_pipe_holds_nobody_up() {
    let site = Site::new();
    for daemon in ["sleep 1000 &", "setsid sleep 1000 &", "(setsid sh -c 'sleep 1000 & sleep 1000' &)"] {
        let started = Instant::now();
        let end = site.run(site.script(&format!("{daemon}\n echo said; exit 0"))).await;
        assert!(started.elapsed() < Duration::from_secs(10), "{daemon}");
        assert_eq!(result(&end), "said", "{daemon}");
        let tree = end.tree.expect("it ran");
        assert!(tree.leftovers >= 1 || !crate::isolation::COUNTS_PROCESSES, "{daemon}");
    }
}

#[tokio::test]
async fn output_is_streamed_in_pieces_as_it_comes() {
    let site = Site::new();
    let (sender, mut receiver) = log_channel();
    let order = site.script(
        "echo out; echo err >&2; head -c 100000 /dev/zero; while ! [ -e go ]; do sleep 0.01; done; echo last",
    );
    let paths = site.paths(&order);
    let task = order.task.clone();
    let attempt = site.runner.attempt(order, Some(sender));
    let handle = attempt.handle();
    let running = tokio::spawn(attempt.run());
    let mut streams = [Vec::new(), Vec::new()];
    while streams[0].len() < 100_004 || streams[1].len() < 4 {
        let chunk = tokio::time::timeout(DEADLINE, receiver.recv()).await.expect("in time").expect("it runs");
        assert!(chunk.bytes.len() <= LOG_CHUNK_BYTES_MAX);
        assert_eq!((&chunk.task, chunk.attempt.0, chunk.dropped_bytes), (&task, 1, 0));
        streams[usize::from(chunk.stream == OutputStream::Stderr)].extend(chunk.bytes);
    }
    assert_eq!(streams[1], b"err\n");
    eventually("the count of bytes", || (handle.live().output_bytes == 100_008).then_some(())).await;
    assert!(handle.live().pid.is_some());
    fs::write(paths.folder.join("go"), "").expect("ours");
    let end = tokio::time::timeout(DEADLINE, running).await.expect("it ends").expect("no panic");
    assert_eq!(end.dropped_bytes, 0);
    while let Some(chunk) = receiver.recv().await {
        streams[0].extend(chunk.bytes);
    }
    assert!(streams[0].starts_with(b"out\n\0") && streams[0].ends_with(b"\0last\n"));
    assert_eq!(streams[0].len(), 100_009);
}

#[tokio::test]
async fn a_slow_reader_loses_pieces_but_the_log_does_not() {
    let site = Site::new();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let order = site.script("head -c 1000000 /dev/zero; echo; echo last");
    let paths = site.paths(&order);
    let end = site.runner.attempt(order, Some(sender)).run().await;
    assert_eq!(fs::metadata(paths.log()).expect("there").size(), 1_000_006);
    let mut received = 0;
    while let Some(chunk) = receiver.recv().await {
        received += chunk.bytes.len() as u64;
    }
    assert!(received <= 4 * LOG_CHUNK_BYTES_MAX as u64);
    assert_eq!(received + end.dropped_bytes, 1_000_006);
}

#[tokio::test]
async fn the_last_line_can_be_seen_while_it_runs() {
    let site = Site::new();
    let attempt = site.runner.attempt(site.script("printf 'step 1\\nstep 2 of 9\\n\\n'; sleep 1000"), None);
    let handle = attempt.handle();
    let running = tokio::spawn(attempt.run());
    eventually("the line", || (handle.live().last_line == "step 2 of 9").then_some(())).await;
    handle.stop_now(maestro_worker::attempt::StopKind::Cancel);
    let end = tokio::time::timeout(DEADLINE, running).await.expect("it ends").expect("no panic");
    assert_eq!(end.report.outcome, AttemptOutcome::Cancelled);
    assert_eq!(handle.live().pid, None);
    site.assert_no_survivors();
}
