//! Prompts and folders as they come in real life: what is odd reaches the agent whole or is refused in words.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use maestro_model::task::{Reason, TaskStatus};
use maestro_store::runs::RunStatus;

use crate::support::{ClusterSetup, TestCluster, skip};

/// Until a run of a few quick steps must have ended.
const SOON: Duration = Duration::from_secs(20);
/// Most bytes a prompt may have.
const PROMPT_MAX: usize = 256 << 10;

/// A workflow of one step with this prompt, written as JSON so that nothing has to be quoted.
fn one_step(agent: &str, prompt: &str) -> String {
    serde_json::json!({"name": "odd", "steps": [{"id": "a", "agent": agent, "prompt": prompt}]}).to_string()
}

/// Runs a prompt by each way in which one can reach an agent; what the agent saw of it.
fn seen(cluster: &TestCluster, prompt: &str, ways: &[&str]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for way in ways {
        let run = cluster.submit_text("odd", &one_step(way, prompt));
        let record = cluster.wait_for_run(&run, SOON);
        assert_eq!(record.status, RunStatus::Completed, "{way}: {:?}", cluster.observer().tasks(&run));
        let file = cluster.root().join(format!("{way}/{run}.0/seen"));
        found.push(fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
    }
    found
}

fn with_ways() -> TestCluster {
    let cluster = TestCluster::start(ClusterSetup::default());
    cluster.write_agent("by-arg", "command: [sh, -c, 'printf %s \"$1\" > seen', sh, \"<< prompt >>\"]\n");
    cluster.write_agent("by-stdin", "command: [sh, -c, 'cat > seen']\nprompt_via: stdin\n");
    cluster.write_agent(
        "by-file",
        "command: [sh, -c, 'cat \"$1\" > seen', sh, \"<< prompt >>\"]\nprompt_via: file\n",
    );
    cluster
}

#[test]
fn a_prompt_reaches_its_agent_byte_by_byte() {
    let cluster = with_ways();
    let odd = [
        "it's \"quoted\" `twice` and $(touch /tmp/pwned) ${HOME} %s \\n \\\\ 'x",
        "\n\nlines\r\n\tand tabs\n",
        "cat <<EOF >> out.txt\n$x << 3\nEOF",
        "-n --help -- *",
        "naïve ☃ \u{1f980} \u{202e}right to left",
    ];
    for prompt in odd {
        for bytes in seen(&cluster, prompt, &["by-arg", "by-stdin", "by-file"]) {
            assert_eq!(String::from_utf8_lossy(&bytes), prompt);
        }
    }
    assert!(!Path::new("/tmp/pwned").exists());
}

#[test]
fn the_largest_prompt_goes_by_stdin_and_by_file_and_one_byte_more_is_refused() {
    let cluster = with_ways();
    let largest = "x".repeat(PROMPT_MAX);
    for bytes in seen(&cluster, &largest, &["by-stdin", "by-file"]) {
        assert_eq!(bytes.len(), PROMPT_MAX);
    }
    let path = cluster.write_workflow("odd", &one_step("by-stdin", &format!("{largest}x")));
    let answer = cluster.maestro(&["workflow", "run", path.to_str().expect("text"), "--detach"]);
    assert_eq!((answer.code, answer.out.as_str()), (65, ""), "{answer:?}");
    assert!(answer.err.contains("256 KiB"), "{}", answer.err);
}

#[test]
fn what_no_argument_can_carry_fails_with_the_way_that_can() {
    let cluster = with_ways();
    for prompt in ["a \0 inside".to_owned(), "x".repeat(131_072)] {
        let run = cluster.submit_text("odd", &one_step("by-arg", &prompt));
        assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Failed);
        let record = cluster.observer().tasks(&run)[0].record.clone().expect("it was tried");
        assert_eq!((record.status, record.reason), (TaskStatus::Failed, Some(Reason::Config)));
        assert_eq!(record.attempt.0, 1, "a mistake is not tried again");
        let status = cluster.maestro(&["task", "status", &format!("{run}.0"), "--format", "table"]);
        assert!(status.out.contains("prompt_via"), "{}", status.out);
    }
}

/// A small file system that goes with the value.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// None where this process may not mount.
    fn mount(at: &'a Path) -> Option<SmallDisk<'a>> {
        let words = ["-t", "tmpfs", "-o", "size=512k,mode=700", "tmpfs"];
        let mounted = Command::new("mount").args(words).arg(at).status();
        mounted.is_ok_and(|status| status.success()).then_some(SmallDisk(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_path_that_a_task_brings_is_its_own_fault_and_others_are_served() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let bad =
        cluster.maestro(&["task", "dispatch", "true", "--to", "shell", "--env", "PATH=/nope", "--sync"]);
    assert_eq!(bad.code, 1, "{bad:?}");
    let record = cluster.maestro(&["task", "list", "--last", "--format", "json"]).out;
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    assert_eq!((&record["reason"], &record["attempt"]), (&"config".into(), &1.into()), "{record}");
    let workers = cluster.maestro(&["worker", "list", "--format", "json"]).out;
    let workers: serde_json::Value = serde_json::from_str(&workers).expect("JSON");
    assert_eq!(workers[0]["trouble"], serde_json::Value::Null, "{workers}");
    assert_eq!(cluster.maestro(&["task", "dispatch", "true", "--to", "shell", "--sync"]).code, 0);
}

#[test]
fn a_full_disk_is_the_hosts_failure_and_others_are_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        return skip("a_full_disk_is_the_hosts_failure_and_others_are_served", "mounting is not allowed");
    };
    let small = folder.path().to_str().expect("text").to_owned();
    let mut cluster = TestCluster::start(ClusterSetup { workers: 0, ..ClusterSetup::default() });
    cluster.start_worker_in("w0", &small);
    cluster.wait_for_worker("w0");
    let flood = "yes flood | head -c 700000";
    let run = cluster.submit_text("odd", &one_step("probe", flood));
    let trouble = cluster.wait_until("the worker says what is wrong", SOON, |observer| {
        let alive = observer.alive();
        let worker = alive.iter().find(|process| process.name == "w0").ok_or("no worker")?;
        worker.status.trouble.clone().ok_or_else(|| format!("{:?}", worker.status))
    });
    assert!(trouble.contains("No space left on device"), "{trouble}");
    let record = cluster.observer().tasks(&run)[0].record.clone().expect("it was tried");
    assert_eq!((record.failures, record.losses), (0, 0), "a host's failure is nobody else's: {record:?}");
    cluster.start_worker("w1");
    assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Completed);
    let story = cluster.story(&run);
    assert!(story.tasks[0].record.as_ref().is_some_and(|record| record.attempt.0 > 1), "{story:?}");
    cluster.member("w0").kill();
    drop(cluster);
    drop(disk);
}

#[test]
fn a_root_that_is_no_folder_is_refused_before_anything_starts() {
    let mut cluster = TestCluster::start(ClusterSetup { workers: 0, ..ClusterSetup::default() });
    let file = cluster.scratch("roots").join("file");
    fs::write(&file, "").expect("written");
    cluster.start_worker_in("w0", file.to_str().expect("text"));
    let code = cluster.member("w0").wait(SOON).expect("it ends");
    let log = cluster.member("w0").log();
    assert_eq!(code, 69, "{log}");
    assert!(log.contains("not a directory") && log.contains("roots/file"), "{log}");
}
