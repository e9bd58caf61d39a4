//! What only processes of the launcher can be asked: their supervisors, their pipes, a missing binary by its kinds.

use std::fs;
use std::os::fd::AsFd;

use maestro_model::task::Reason;
use maestro_worker::attempt::BrokenPart;
use maestro_worker::launch::{LaunchFds, LaunchSpec, MainEnd, ProcessEnd};

use crate::support::{DEADLINE, Site, eventually, failed, marked, result};

#[tokio::test]
async fn a_missing_binary_is_named_and_is_the_hosts_failure() {
    let site = Site::new();
    let end = site.run(site.command(&["no-such-agent", "run"])).await;
    let expected = "binary not found: `no-such-agent`, looked for in /usr/local/bin:/usr/bin:/bin";
    assert_eq!(failed(&end), (Reason::Infra, None, expected));
    assert_eq!(end.broken, Some(BrokenPart::Binary));
    assert_eq!(end.tree, None);

    let tool = site.folder.path().join("tool");
    fs::write(&tool, "#!/no/such/interpreter\n").expect("ours");
    let name = tool.to_str().expect("UTF-8");
    let end = site.run(site.command(&[name])).await;
    let (_, _, message) = failed(&end);
    assert!(
        message.starts_with(&format!("binary `{name}` cannot be executed: Permission denied")),
        "{message}"
    );
    fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let end = site.run(site.command(&[name])).await;
    let expected = format!("binary not found: the interpreter or loader of `{name}`");
    assert_eq!(failed(&end), (Reason::Infra, None, expected.as_str()));
}

#[tokio::test]
async fn somebody_else_with_the_pipe_open_is_not_waited_for() {
    let site = Site::new();
    // Opened by way of /proc, the agent's pipe is in the hands of a process that is not below it.
    let attempt = site.runner.attempt(site.script("echo said; sleep 0.3"), None);
    let handle = attempt.handle();
    let running = tokio::spawn(attempt.run());
    let pid = eventually("the agent's pid", || handle.live().pid).await;
    let mut stranger = fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/fd/1")).expect("a pipe");
    let end = tokio::time::timeout(DEADLINE, running).await.expect("it ends").expect("no panic");
    assert_eq!(result(&end), "said");
    assert!(std::io::Write::write(&mut stranger, b"x").is_err(), "nobody reads any more");
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
        walls: None,
        data_bytes_max: None,
    };
    let fds = LaunchFds { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd(), groups: &[] };
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
