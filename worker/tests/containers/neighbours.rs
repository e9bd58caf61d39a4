//! Two agents side by side: one does what it can to reach the other, and what it tries works for the other itself.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use maestro_worker::attempt::{AttemptOrder, StopKind};

use crate::engine::TestEngine;
use crate::support::{DEADLINE, Site, agent_type, eventually, file_appears, result};

/// Words for both: `try NAME COMMAND…` prints the name if the command succeeds.
const WORDS: &str = r#"try() { name=$1; shift; if "$@" > /dev/null 2>&1; then echo "$name"; fi; }
spaces() { for kind in net pid mnt ipc uts; do readlink /proc/self/ns/$kind; done; }
"#;

/// What either tries, with the victim's folder, address and process id.
const ATTEMPTS: &str = r#"
try read cat "$FOLDER/mine"
try list ls "$FOLDER"
try write sh -c "echo x > '$FOLDER/mine.new'"
try parent sh -c "ls '$FOLDER/..' | grep ."
try by_root cat "/proc/$PID/root$FOLDER/mine"
try by_cwd cat "/proc/$PID/cwd/mine"
try memory sh -c "head -c 1 /proc/$PID/mem || ls -l /proc/$PID/exe"
try signal kill -0 "$PID"
try see sh -c "cat /proc/[0-9]*/cmdline | tr '\0' ' ' | grep -q '[h]ttpd -f'"
try network sh -c "printf 'GET /mine HTTP/1.0\r\n\r\n' | nc -w 3 $ADDRESS 7000 | grep -q secret"
ln -s "$FOLDER/mine" soft 2> /dev/null; try soft_link cat soft
ln "$FOLDER/mine" hard 2> /dev/null; try hard_link cat hard
"#;

fn with_network(order: AttemptOrder) -> AttemptOrder {
    AttemptOrder { agent: Arc::new(agent_type(r#"{"network": "own"}"#)), ..order }
}

fn lines(path: &Path) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(path).ok()?;
    text.ends_with("end\n").then(|| text.lines().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_reaches_the_others_files_processes_or_network() {
    let site = Site::new();
    let victim = r#"echo secret > mine; httpd -f -p 7000 & sleep 1
        ADDRESS=$(ip -4 addr show eth0 | sed -n 's/.*inet \([0-9.]*\).*/\1/p'); FOLDER=$PWD; PID=$!"#;
    let tell = "echo $ADDRESS > address; spaces > spaces; echo end >> spaces";
    let script = format!("{WORDS}{victim}\n{tell}\n{{ {ATTEMPTS} echo end; }} > reached; sleep 1000");
    let order = with_network(site.script(&script));
    let paths = site.paths(&order);
    let attempt = site.runner.attempt(order, None);
    let handle = attempt.handle();
    let running = tokio::spawn(attempt.run());
    let reached = eventually("the victim", || lines(&paths.folder.join("reached"))).await;
    // What is tried is possible: the victim can do all of it to itself.
    let all = [
        "read",
        "list",
        "write",
        "parent",
        "by_root",
        "by_cwd",
        "memory",
        "signal",
        "see",
        "network",
        "soft_link",
        "hard_link",
        "end",
    ];
    assert_eq!(reached, all);

    let address = std::fs::read_to_string(paths.folder.join("address")).expect("it told");
    let pid = handle.live().pid.expect("it runs, and is seen");
    let folder = paths.folder.to_str().expect("UTF-8");
    let known = format!("ADDRESS={} FOLDER={folder} PID={pid}", address.trim());
    let script = format!("{WORDS}{known}\n{ATTEMPTS}spaces > spaces; echo end >> spaces; echo end");
    let order = with_network(site.script(&script));
    let own_spaces = site.paths(&order).folder.join("spaces");
    let run = site.runner.attempt(order, None).run();
    let end = tokio::time::timeout(DEADLINE, run).await.expect("it ends");
    // Soft and hard links to nothing are made, and lead nowhere.
    assert_eq!(result(&end), "end");
    assert_eq!(std::fs::read_to_string(paths.folder.join("mine")).expect("there"), "secret\n");

    let (theirs, own) = (lines(&paths.folder.join("spaces")), lines(&own_spaces));
    let (theirs, own) = (theirs.expect("told"), own.expect("told"));
    for (kind, (a, b)) in theirs.iter().zip(&own).take(5).enumerate() {
        assert!(a != b, "namespace number {kind} is shared");
    }
    handle.stop_now(StopKind::Cancel);
    tokio::time::timeout(DEADLINE, running).await.expect("it ends").expect("no panic");
    site.assert_no_survivors();
}

#[tokio::test]
async fn no_socket_of_the_host_is_within_reach() {
    let site = Site::new();
    let engine = TestEngine::shared("worker::containers").expect("the site has it").socket();
    // As a private Redis has one, and as a service with an abstract one.
    let redis = site.folder.path().join("redis.sock");
    let _listening = UnixListener::bind(&redis).expect("a socket");
    let script = format!(
        "{WORDS}try redis ls {}\ntry engine ls {}\ntry usual ls /var/run/docker.sock /run/docker.sock\n\
         find / -xdev -type s 2>/dev/null; find $MAESTRO_WORKSPACE $HOME $TMPDIR -type s; \
         grep -c '@\\|/' /proc/net/unix; echo end",
        redis.display(),
        engine.display(),
    );
    let end = site.run(site.script(&script)).await;
    assert_eq!(result(&end), "0\nend");
}

#[tokio::test]
async fn an_agent_that_somebody_else_froze_is_ended_all_the_same() {
    let site = Site::new();
    let engine = TestEngine::shared("worker::containers").expect("the site has it");
    let order = site.script("touch ready; while :; do echo x >> count; sleep 0.02; done");
    let (paths, task) = (site.paths(&order), order.task.to_string());
    let attempt = site.runner.attempt(order, None);
    let handle = attempt.handle();
    let running = tokio::spawn(attempt.run());
    file_appears(&paths.folder.join("ready")).await;
    let filter = format!("label=maestro.task={task}");
    // What runs already is listed a moment later.
    let list = || engine.docker(&["ps", "--quiet", "--filter", &filter]);
    let id = eventually("the engine to list it", || Some(list()).filter(|id| !id.is_empty())).await;
    engine.docker(&["pause", &id]);
    handle.stop_now(StopKind::Cancel);
    tokio::time::timeout(DEADLINE, running).await.expect("also when frozen").expect("no panic");
    site.assert_no_survivors();
}
