//! `maestro task logs` and `maestro workflow logs`.

use std::io::{BufRead, BufReader, Read};
use std::process::Child;

use maestro_model::ids::{Attempt, RunId};
use maestro_store::logs::LogStream;

use super::cluster::{COMPLETED, Cluster, failed, picture, task_id};
use crate::support::PlanSketch;

fn write(cluster: &Cluster, run: &RunId, index: u32, attempt: u32, pieces: &[(LogStream, &[u8])]) {
    let id = task_id(run, index);
    cluster.wait(cluster.store.append_log(&id, Attempt(attempt), pieces, None)).expect("written");
}

/// A task that has printed and completed.
fn printed(pieces: &[(LogStream, &[u8])]) -> Cluster {
    let cluster = Cluster::new();
    let run = cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::new(1));
    let worker = cluster.worker("alpha", &["noop"], 4);
    let grant = cluster.claim(&worker, 1).remove(0);
    write(&cluster, &run, 0, 1, pieces);
    cluster.report(&worker, &grant, COMPLETED, "");
    cluster
}

#[test]
fn bytes_come_out_of_a_pipe_as_they_were_printed() {
    let text = "grün \u{1b}[31mrot\r\n\u{0}".as_bytes();
    let whole: Vec<u8> = [text, b"\xff\xfe no newline at the end"].concat();
    // Pieces end in the middle of a character, of a line, of an escape sequence.
    let pieces: Vec<(LogStream, &[u8])> = whole.chunks(3).map(|piece| (LogStream::Stdout, piece)).collect();
    let cluster = printed(&pieces);
    let output = cluster.command(&["task", "logs", "last"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, whole);
}

#[test]
fn streams_do_not_share_a_line_and_can_be_told_apart() {
    let cluster = printed(&[
        (LogStream::Stdout, b"out "),
        (LogStream::Stderr, b"err 1\nerr "),
        (LogStream::Stdout, b"1\nout 2"),
        (LogStream::Stderr, b"2\n"),
    ]);
    let logs = |words: &[&str]| cluster.ask(&[&["task", "logs", "last"], words].concat()).out;
    assert_eq!(logs(&[]), "err 1\nout 1\nerr 2\nout 2");
    assert_eq!(logs(&["--stream", "stdout"]), "out 1\nout 2");
    assert_eq!(logs(&["--stream", "stderr"]), "err 1\nerr 2\n");
    assert_eq!(logs(&["--tail", "2"]), "out 1\nerr 2\nout 2");
    assert_eq!(logs(&["--tail", "0", "--stream", "stderr"]), "");
    assert_eq!(logs(&["--since", "1h", "--stream", "stderr"]), "err 1\nerr 2\n");
    assert_eq!(logs(&["--since", "2099-01-01T00:00:00Z"]), "");
}

#[test]
fn what_is_missing_is_said_beside_the_log() {
    let cluster =
        printed(&[(LogStream::Note, b"[12 bytes are only in agent.log]\n"), (LogStream::Stdout, b"rest\n")]);
    insta::assert_snapshot!(picture(&cluster.ask(&["task", "logs", "last"])), @r"
    exit 0
    --- stdout
    rest
    --- stderr
    step0: [12 bytes are only in agent.log]
    ");
}

#[test]
fn lines_are_records_where_that_is_asked_for() {
    let cluster = printed(&[(LogStream::Stdout, b"one\ntw"), (LogStream::Stdout, b"o\n")]);
    let answer = cluster.ask(&["task", "logs", "last", "--format", "jsonl"]);
    let lines: Vec<serde_json::Value> =
        answer.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((lines.len(), lines[1]["line"].as_str()), (2, Some("two")));
    assert_eq!((lines[0]["stream"].as_str(), lines[0]["attempt"].as_u64()), (Some("stdout"), Some(1)));
}

#[test]
fn a_log_that_is_not_there_is_explained() {
    let cluster = Cluster::new();
    cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::chain(2));
    let logs = |words: &[&str]| picture(&cluster.ask(&[&["task", "logs"], words].concat()));
    insta::assert_snapshot!(logs(&["last/step1"]), @r"
    exit 0
    --- stderr
    task `0aaaaaaaaaa1.1` has not started: it is blocked; `maestro task explain 0aaaaaaaaaa1.1` says why
    ");
    insta::assert_snapshot!(logs(&["last/step1", "--attempt", "2"]), @r"
    exit 66
    --- stderr
    error: task `0aaaaaaaaaa1.1` has no attempt 2

    hint: it has not started: `maestro task explain 0aaaaaaaaaa1.1` says why
    ");
    insta::assert_snapshot!(logs(&["last/step1", "--since", "yesterday"]), @r"
    exit 2
    --- stderr
    error: `yesterday` is no time: write how long ago (`90s`, `1h30m`) or when (`2026-11-20T09:00:00Z`)
    ");
    cluster.work(&cluster.worker("alpha", &["noop"], 4), COMPLETED, "");
    insta::assert_snapshot!(logs(&["last/step0"]), @r"
    exit 0
    --- stderr
    task `0aaaaaaaaaa1.0` has printed nothing
    ");
    insta::assert_snapshot!(logs(&["last/step0", "--attempt", "2"]), @r"
    exit 66
    --- stderr
    error: task `0aaaaaaaaaa1.0` has no attempt 2

    hint: it has had one attempt
    ");
}

#[test]
fn a_foreach_has_the_logs_of_its_items() {
    let cluster = Cluster::new();
    let mut sketch = PlanSketch::new(1);
    sketch.tasks[0].items = Some((2, None));
    cluster.submit_sketch("0aaaaaaaaaa1", sketch);
    insta::assert_snapshot!(picture(&cluster.ask(&["task", "logs", "last/step0"])), @r"
    exit 2
    --- stderr
    error: step `step0` is a `foreach`: its items have the logs

    hint: `maestro task logs 0aaaaaaaaaa1/step0[0]` is the first one's, `maestro workflow logs 0aaaaaaaaaa1 --step step0` all
    ");
}

/// The next line a child prints; the test runner ends a test that waits for ever.
fn next_line(child: &mut BufReader<std::process::ChildStdout>) -> String {
    let mut line = String::new();
    child.read_line(&mut line).expect("text");
    line
}

fn ended(mut child: Child) -> (i32, String) {
    let status = child.wait().expect("it ends");
    let mut errors = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
    (status.code().unwrap_or(-1), errors)
}

#[test]
fn following_shows_lines_as_they_come_and_ends_with_the_task() {
    let cluster = Cluster::new();
    let run = cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::new(1));
    let worker = cluster.worker("alpha", &["noop"], 4);
    let grant = cluster.claim(&worker, 1).remove(0);
    write(&cluster, &run, 0, 1, &[(LogStream::Stdout, b"first\n")]);
    let mut child = cluster.start(&["task", "logs", "last", "-f"]);
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    assert_eq!(next_line(&mut lines), "first\n");
    write(&cluster, &run, 0, 1, &[(LogStream::Stdout, b"second\nthi")]);
    assert_eq!(next_line(&mut lines), "second\n");
    cluster.report(&worker, &grant, failed(1), "");
    // The last piece comes a moment behind the report.
    write(&cluster, &run, 0, 1, &[(LogStream::Stdout, b"rd")]);
    assert_eq!(next_line(&mut lines), "third");
    assert_eq!(ended(child), (0, String::new()));
}

#[test]
fn following_goes_on_with_the_next_attempt() {
    let cluster = Cluster::new();
    let run = cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::new(1));
    let worker = cluster.worker("alpha", &["noop"], 4);
    let first = cluster.claim(&worker, 1).remove(0);
    write(&cluster, &run, 0, 1, &[(LogStream::Stdout, b"one\n")]);
    let mut child = cluster.start(&["task", "logs", "last", "--follow"]);
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    assert_eq!(next_line(&mut lines), "one\n");
    let returned = maestro_store::step::Ending::Returned { host_failed: false };
    cluster.report(&worker, &first, returned, "");
    let second = cluster.claim(&worker, 1).remove(0);
    write(&cluster, &run, 0, 2, &[(LogStream::Stdout, b"two\n")]);
    assert_eq!(next_line(&mut lines), "two\n");
    cluster.report(&worker, &second, COMPLETED, "");
    assert_eq!(ended(child), (0, "attempt 2 of `0aaaaaaaaaa1.0`\n".to_owned()));
    let pinned = cluster.ask(&["task", "logs", "last", "-f", "--attempt", "1"]);
    assert_eq!((pinned.code, pinned.out.as_str()), (0, "one\n"));
}

#[test]
fn a_run_shows_the_logs_of_its_steps_by_name() {
    let cluster = Cluster::new();
    let run = cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::chain(2));
    let worker = cluster.worker("alpha", &["noop"], 4);
    for index in 0..2 {
        let grant = cluster.claim(&worker, 1).remove(0);
        write(&cluster, &run, index, 1, &[(LogStream::Stdout, format!("by {index}\n\nend").as_bytes())]);
        cluster.report(&worker, &grant, COMPLETED, "");
    }
    let logs = |words: &[&str]| picture(&cluster.ask(&[&["workflow", "logs", "last"], words].concat()));
    insta::assert_snapshot!(logs(&[]), @r"
    exit 0
    --- stdout
    step0 | by 0
    step0 |
    step0 | end
    step1 | by 1
    step1 |
    step1 | end
    ");
    assert_eq!(logs(&["-f"]).lines().count(), logs(&[]).lines().count());
    insta::assert_snapshot!(logs(&["--step", "step1"]), @r"
    exit 0
    --- stdout
    by 1

    end
    ");
    insta::assert_snapshot!(logs(&["--step", "stp1"]), @r"
    exit 66
    --- stderr
    error: run `0aaaaaaaaaa1` has no step `stp1`

    hint: did you mean `step1`?
    ");
}

#[test]
fn following_a_run_ends_with_it() {
    let cluster = Cluster::new();
    let run = cluster.submit_sketch("0aaaaaaaaaa1", PlanSketch::chain(2));
    let worker = cluster.worker("alpha", &["noop"], 4);
    let mut child = cluster.start(&["workflow", "logs", "0aa", "-f"]);
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    for index in 0..2 {
        let grant = cluster.claim(&worker, 1).remove(0);
        write(&cluster, &run, index, 1, &[(LogStream::Stdout, b"hello\n")]);
        assert_eq!(next_line(&mut lines), format!("step{index} | hello\n"));
        cluster.report(&worker, &grant, COMPLETED, "");
    }
    assert_eq!(next_line(&mut lines), "");
    assert_eq!(ended(child), (0, String::new()));
}

#[test]
fn a_run_that_was_local_is_found_by_its_files() {
    let cluster = Cluster::new();
    let folder = "data/maestro/runs/0aaaaaaaaaa9";
    let list = r#"{"version": 1, "tasks": [
        {"id": "0aaaaaaaaaa9.0", "step": "build", "status": "completed", "attempt": 2},
        {"id": "0aaaaaaaaaa9.1", "step": "sweep", "status": "completed", "attempt": 1},
        {"id": "0aaaaaaaaaa9.2", "step": "sweep[0]", "status": "completed", "attempt": 1}]}"#;
    cluster.sandbox.write(&format!("{folder}/run.json"), list);
    cluster.sandbox.write(&format!("{folder}/build.1.log"), "first try\n");
    cluster.sandbox.write(&format!("{folder}/build.2.log"), "built\nno newline");
    cluster.sandbox.write(&format!("{folder}/sweep[0].1.log"), "swept\n");
    let logs = |words: &[&str]| {
        let mut command = cluster.command(&[&["workflow", "logs"], words].concat());
        command.env("XDG_DATA_HOME", cluster.sandbox.path("data"));
        picture(&cluster.answer(command))
    };
    insta::assert_snapshot!(logs(&["0aaaaaaaaaa9"]), @r"
    exit 0
    --- stdout
    build    | built
    build    | no newline
    sweep[0] | swept
    ");
    insta::assert_snapshot!(logs(&["0aaa", "--step", "build"]), @r"
    exit 0
    --- stdout
    built
    no newline
    ");
    insta::assert_snapshot!(logs(&["last", "--step", "swep"]), @r"
    exit 66
    --- stderr
    error: the run has no step `swep` that was ready to start

    hint: did you mean `sweep`?
    ");
    let nowhere = format!("unix://{}", cluster.sandbox.path("nowhere.sock").display());
    assert_eq!(logs(&["last", "--redis-url", &nowhere]), logs(&["0aaaaaaaaaa9"]), "no cluster is needed");
    cluster.submit_sketch("0bbbbbbbbbb1", PlanSketch::new(1));
    assert!(
        logs(&["last"]).contains("no lines of run `0bbbbbbbbbb1` are kept"),
        "the cluster's own comes first"
    );
}
