//! What the tests share: a runner in a folder of its own, orders for shell scripts, and looking for survivors.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use maestro_model::agent_type::AgentType;
use maestro_model::attempt::{AttemptOutcome, AttemptReport};
use maestro_model::ids::{Attempt, RunId, TaskId};
use maestro_model::task::Reason;
use maestro_worker::attempt::{AttemptEnd, AttemptOrder, AttemptRunner, HostEnvironment};
use maestro_worker::launch::{Launcher, LauncherCommand};
use maestro_worker::workspace::{WorkspacePaths, WorkspacePlace, WorkspaceRoot};

use crate::host::host_program;

/// Longest that anything in these tests may take; far more than it needs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The name of the variable that marks a test's processes.
const MARK: &str = "TEST_MARK";

/// A worker without a cluster.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) launcher: Launcher,
    pub(crate) runner: AttemptRunner,
    pub(crate) mark: String,
}

impl Site {
    pub(crate) fn new() -> Site {
        Site::with_environment([("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/root"), ("SECRET", "x")])
    }

    pub(crate) fn with_environment<const N: usize>(variables: [(&str, &str); N]) -> Site {
        Site::make("root", variables)
    }

    /// One whose workspace root lies at this place in its folder.
    pub(crate) fn below(place: &str) -> Site {
        Site::make(place, [("PATH", "/usr/local/bin:/usr/bin:/bin")])
    }

    fn make<const N: usize>(place: &str, variables: [(&str, &str); N]) -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        let root = WorkspaceRoot::open(&folder.path().join(place)).expect("a root");
        let launcher = Launcher::new(LauncherCommand::of(host_program()));
        let host: HostEnvironment = variables
            .into_iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect();
        let runner = AttemptRunner::new(launcher.clone(), root, host).expect("/dev/null is there");
        let runner = crate::isolation::equipped(runner);
        fs::create_dir(folder.path().join("common")).expect("a folder");
        Site { folder, launcher, runner, mark: RunId::random(0).to_string() }
    }

    /// An order for a shell script, with the mark.
    pub(crate) fn script(&self, script: &str) -> AttemptOrder {
        self.command(&["sh", "-c", script])
    }

    pub(crate) fn command(&self, argv: &[&str]) -> AttemptOrder {
        AttemptOrder {
            task: TaskId { run: RunId::random(0), index: 7 },
            attempt: Attempt(1),
            step: "build".parse().expect("a lawful id"),
            workflow: "deploy".to_owned(),
            worker: "w1".parse().expect("a lawful name"),
            agent: self.agent_with(serde_json::json!({})),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: [(MARK.to_owned(), self.mark.clone())].into(),
            prompt: String::new(),
            place: WorkspacePlace::Task,
            template: None,
            copy_of: None,
            timeout: DEADLINE,
            stall_timeout: None,
            grace: Duration::from_secs(5),
        }
    }

    /// The one folder beside its own to which agents of this site may write.
    pub(crate) fn shared(&self) -> PathBuf {
        self.folder.path().join("common")
    }

    /// The agent type of this site's orders, isolated in this way.
    pub(crate) fn agent(&self, isolation: &str) -> Arc<AgentType> {
        self.agent_with(serde_json::json!({"isolate_with": isolation}))
    }

    fn agent_with(&self, mut keys: serde_json::Value) -> Arc<AgentType> {
        keys["paths"] = serde_json::json!({"write": [self.shared()]});
        Arc::new(agent_type(&keys.to_string()))
    }

    pub(crate) fn paths(&self, order: &AttemptOrder) -> WorkspacePaths {
        self.runner.root().paths(&order.agent.slug, &order.task, order.attempt, order.place.clone())
    }

    /// Runs an order to its end and checks that nothing of it is left.
    pub(crate) async fn run(&self, order: AttemptOrder) -> AttemptEnd {
        let run = self.runner.attempt(order, None).run();
        let end = tokio::time::timeout(DEADLINE, run).await.expect("it ends");
        self.assert_no_survivors();
        end
    }

    /// When an attempt has ended nothing may be left: there is nothing to wait for.
    pub(crate) fn assert_no_survivors(&self) {
        assert_eq!(marked(&self.mark), Vec::<String>::new());
    }
}

/// An agent type with these keys, the rest as it comes.
pub(crate) fn agent_type(keys: &str) -> AgentType {
    let mut value = serde_json::json!({"slug": "shell", "mode": "shell", "command": []});
    let keys: serde_json::Value = serde_json::from_str(keys).expect("JSON");
    for keys in [crate::isolation::keys(), keys] {
        for (name, key) in keys.as_object().expect("an object") {
            value[name] = key.clone();
        }
    }
    serde_json::from_value(value).expect("an agent type")
}

/// Command lines of the processes whose environment holds the mark. One that is dead has none.
pub(crate) fn marked(mark: &str) -> Vec<String> {
    let wanted = format!("{MARK}={mark}");
    pids_where(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))
        .into_iter()
        .map(|pid| format!("{pid}: {}", command_line(pid)))
        .collect()
}

fn pids_where(matches: impl Fn(&[u8]) -> bool) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc is mounted");
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| matches(&environ)))
        .collect()
}

pub(crate) fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

/// Processes below a process, by the kernel's lists.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<u32> = list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    children.iter().flat_map(|child| [vec![*child], descendants(*child)].concat()).collect()
}

/// Whether there is such a process that is not dead.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .is_some_and(|state| state != "Z")
}

pub(crate) fn kill_hard(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is there and ours");
}

/// Waits until a question has an answer, and says what it was waiting for if it never has.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn file_appears(path: &Path) {
    eventually(&format!("`{}`", path.display()), || path.exists().then_some(())).await;
}

pub(crate) fn failed(end: &AttemptEnd) -> (Reason, Option<i32>, &str) {
    match &end.report {
        AttemptReport { outcome: AttemptOutcome::Failed { reason, exit_code }, message, .. } => {
            (*reason, *exit_code, message.as_deref().unwrap_or_default())
        }
        other => panic!("expected a failure, found {other:?}"),
    }
}

pub(crate) fn result(end: &AttemptEnd) -> &str {
    assert_eq!(end.report.outcome, AttemptOutcome::Completed, "{:?}", end.report);
    let outputs = end.report.outputs.as_ref().expect("a completed attempt has outputs");
    outputs.result.as_str().expect("text")
}
