//! Where no cluster is started, and what one says that does start.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::sandbox::Sandbox;

/// Until a cluster serves; the machine may be busy.
const SERVES_WITHIN: Duration = Duration::from_secs(50);

/// All that starts a worker or a coordinator. None of them asks Redis before it is refused.
const STARTS: [&[&str]; 6] = [
    &["up"],
    &["up", "--detach"],
    &["worker", "start"],
    &["coordinator", "start"],
    &["workflow", "run", "hello", "--local"],
    &["bench"],
];

#[test]
fn no_cluster_is_started_inside_a_task_nor_in_its_folder() {
    let sandbox = Sandbox::new();
    let root = sandbox.path("root");
    fs::create_dir_all(root.join("q/sub")).expect("ours");
    fs::create_dir_all(sandbox.path("else/shell/0k3v9x2mqf1a.7/src")).expect("ours");
    fs::create_dir_all(sandbox.path("else/shell/0k3v9x2mqf1a.7.maestro")).expect("ours");
    for words in STARTS {
        let answer = sandbox.maestro_with(&[("MAESTRO_TASK_ID", "0k3v9x2mqf1a.7")], words);
        assert_eq!((answer.code, answer.out.as_str()), (77, ""), "{words:?}: {}", answer.err);
        let text = "error: no cluster is started inside a task (`0k3v9x2mqf1a.7`)\n\nhint: start it outside; \
                    if this is no task's process, unset `MAESTRO_TASK_ID`\n";
        assert_eq!(answer.err, text, "{words:?}");

        for folder in ["root/q/sub", "else/shell/0k3v9x2mqf1a.7/src"] {
            let mut command = sandbox.command(words);
            command.current_dir(sandbox.path(folder)).env("MAESTRO_WORKSPACE_ROOT", &root);
            let answer = sandbox.answer(command.output().expect("the binary starts"));
            assert_eq!(answer.code, 77, "{words:?} in {folder}: {}", answer.err);
            let text = format!("no cluster is started in a task's folder (`[FOLDER]/{folder}`)");
            assert!(answer.err.contains(&text), "{}", answer.err);
        }
    }
}

#[test]
fn a_cluster_says_what_confines_its_agents_and_which_nothing_confines() {
    let sandbox = Sandbox::new();
    sandbox.write("here/agents.d/open.yaml", "command: [sh, -c, \"<< prompt >>\"]\nisolate_with: none\n");
    sandbox.write("here/job.yaml", "name: job\nsteps:\n  - {id: a, agent: open, prompt: 'true'}\n");
    let warning = "agents of this type are not confined";
    let planned = sandbox.maestro(&["workflow", "run", "job.yaml", "--local", "--dry-run"]);
    assert_eq!((planned.code, planned.err.contains(warning)), (0, false), "{}", planned.picture());

    let said = sandbox.path("said");
    let mut command = sandbox.command(&["up"]);
    command.env("MAESTRO_WORKSPACE_ROOT", sandbox.path("root")).stdout(Stdio::null());
    let mut up = command.stderr(fs::File::create(&said).expect("ours")).spawn().expect("the binary starts");
    let begun = Instant::now();
    let text = loop {
        let text = fs::read_to_string(&said).expect("ours");
        if text.contains("the cluster is up") || begun.elapsed() > SERVES_WITHIN {
            break text;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    kill_process(Pid::from_child(&up), Signal::TERM).expect("it is ours");
    assert!(up.wait().expect("it is ours").success(), "{text}");
    let line = text.lines().find(|line| line.contains("serving; agents are ")).unwrap_or_default();
    assert!(line.contains("confined") && line.contains("containers"), "{text}");
    assert_eq!(text.matches(warning).count(), 1, "{text}");
}
