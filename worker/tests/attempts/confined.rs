//! Two agents side by side: each tries everything to reach the other, and what it reaches is listed.
//!
//! The same script runs without confinement, where it must reach all of it: a way that leads nowhere for
//! another reason would prove nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use maestro_worker::attempt::AttemptOrder;
use maestro_worker::confinement::{Confinement, NamespacesFound};
use maestro_worker::launch::WallKind;

use crate::host::{TRY_COMMAND, WORKER_COMMAND, host_program};
use crate::support::{DEADLINE, Site, eventually, file_appears, marked, result};

/// Each line of its output names a way that led to the victim. `$V` is the victim's folder, `$P` its process.
const ATTACK: &str = r#"
leak() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name"; fi; }
leak read cat "$V/secret"
leak list ls "$V"
leak list-root ls "$V/../.."
leak write sh -c 'echo x > "$V/planted"'
leak dotdot cat "../${V##*/}/secret"
leak symlink sh -c 'ln -s "$V/secret" l && cat l'
leak hardlink ln "$V/secret" h
leak rename mv "$V/other" stolen
leak chmod chmod 640 "$V/secret"
leak utime sh -c '[ -e "$V/secret" ] && touch -c -d 2001-01-01 "$V/secret"'
leak proc-root cat "/proc/$P/root$V/secret"
leak proc-cwd cat "/proc/$P/cwd/secret"
leak environ cat "/proc/$P/environ"
leak proc-fd readlink "/proc/$P/fd/1"
leak process-list grep -q "$VICTIM_WORD" "/proc/$P/cmdline"
leak signal kill -0 "$P"
leak ptrace "$PROBE" __try ptrace "$P"
leak priority "$PROBE" __try priority "$P"
leak limits "$PROBE" __try limits "$P"
leak shared-memory "$PROBE" __try shared "$P"
leak redis-socket "$PROBE" __try connect "$SOCKETS/redis.sock"
leak docker-socket "$PROBE" __try connect "$SOCKETS/docker.sock"
leak abstract-socket "$PROBE" __try abstract "$SOCKETS"
leak shadow grep -q . /etc/shadow
echo done
"#;

/// All names in [`ATTACK`].
const EVERYTHING: [&str; 24] = [
    "abstract-socket",
    "chmod",
    "docker-socket",
    "dotdot",
    "environ",
    "hardlink",
    "limits",
    "list",
    "list-root",
    "priority",
    "proc-cwd",
    "proc-fd",
    "proc-root",
    "process-list",
    "ptrace",
    "read",
    "redis-socket",
    "rename",
    "shadow",
    "shared-memory",
    "signal",
    "symlink",
    "utime",
    "write",
];

/// What Landlock alone does not keep from an agent, as `docs/operating.md` says.
const WITHOUT_NAMESPACES: [&str; 8] = [
    "chmod",
    "docker-socket",
    "limits",
    "priority",
    "process-list",
    "redis-socket",
    "shared-memory",
    "utime",
];

/// The same in the words of `maestro doctor`, where Landlock has scopes and the kernel filters system calls.
const GAPS_WITHOUT_NAMESPACES: [&str; 6] = [
    "path-named sockets",
    "the process list",
    "modes and times of files",
    "System V shared memory",
    "priorities and resource limits of processes of the same user",
    "loopback",
];

/// Sockets as Redis and Docker have them, in a folder outside of any workspace.
struct Sockets {
    _listeners: Vec<UnixListener>,
}

impl Sockets {
    fn listen(folder: &Path) -> Sockets {
        let name = SocketAddr::from_abstract_name(folder.as_os_str().as_encoded_bytes()).expect("short");
        let abstract_one = UnixListener::bind_addr(&name).expect("a name of our own");
        let paths = ["redis.sock", "docker.sock"].map(|name| folder.join(name));
        let mut listeners = vec![abstract_one];
        listeners.extend(paths.map(|path| UnixListener::bind(path).expect("a path of our own")));
        Sockets { _listeners: listeners }
    }
}

/// One of two orders, whose victim is the other.
fn attacker(site: &Site, isolation: &str, index: u32) -> AttemptOrder {
    let script = format!(
        "echo mine > secret; echo mine > other; : > ready; while [ ! -e $GO ]; do sleep 0.02; done
        P=$(cat $GO.$VICTIM); export V P; \"$PROBE\" __try share $(cat $GO.$ME); : > $GO.$ME.shared
        while [ ! -e $GO.$VICTIM.shared ]; do sleep 0.02; done; {ATTACK} while [ ! -e $GO.end ]; do sleep 0.02; done"
    );
    let mut order = site.command(&["sh", "-c", &script, &format!("word-{index}")]);
    let mut victim = order.clone();
    (order.task.index, victim.task.index) = (index, 15 - index);
    victim.task.run = order.task.run.clone();
    order.agent = site.agent(isolation);
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    order.env.insert("V".to_owned(), text(&site.paths(&victim).folder));
    order.env.insert("VICTIM".to_owned(), (15 - index).to_string());
    order.env.insert("ME".to_owned(), index.to_string());
    order.env.insert("VICTIM_WORD".to_owned(), format!("word-{}", 15 - index));
    order.env.insert("GO".to_owned(), text(&site.shared().join("go")));
    order.env.insert("PROBE".to_owned(), text(&host_program()));
    order.env.insert("SOCKETS".to_owned(), text(site.folder.path()));
    order
}

/// What each of the two reached of the other.
async fn reached(site: &Site, isolation: &str) -> [BTreeSet<String>; 2] {
    assert_eq!(TRY_COMMAND, "__try");
    let _sockets = Sockets::listen(site.folder.path());
    let run = attacker(site, isolation, 7).task.run;
    let start = |index| {
        let mut order = attacker(site, isolation, index);
        let old = std::mem::replace(&mut order.task.run, run.clone());
        let victim = &mut order.env["V"];
        *victim = victim.replace(old.as_str(), run.as_str());
        let ready = site.paths(&order).folder.join("ready");
        let attempt = site.runner.attempt(order, None);
        (attempt.handle(), ready, tokio::spawn(attempt.run()))
    };
    let both = [start(7), start(8)];
    for ((handle, ready, _), index) in both.iter().zip([7, 8]) {
        file_appears(ready).await;
        let pid = eventually("its process", || handle.live().pid).await;
        fs::write(site.shared().join(format!("go.{index}")), pid.to_string()).expect("ours");
    }
    fs::write(site.shared().join("go"), "").expect("ours");
    for (handle, ..) in &both {
        eventually("both are done", || (handle.live().last_line == "done").then_some(())).await;
    }
    fs::write(site.shared().join("go.end"), "").expect("ours");
    let [first, second] = both.map(|(_, _, running)| running);
    let mut sets = Vec::new();
    for running in [first, second] {
        let end = tokio::time::timeout(DEADLINE, running).await.expect("it ends").expect("no panic");
        let lines = result(&end).lines().map(str::to_owned);
        sets.push(lines.filter(|line| line != "done").collect());
    }
    site.assert_no_survivors();
    sets.try_into().expect("two")
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn every_way_leads_to_a_neighbour_that_nothing_confines() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root may take all of these ways");
    }
    let site = Site::new();
    let reached = reached(&site, "none").await;
    // Each has moved a file of the other, and changed modes: what one did first the other may not find.
    for reached in reached {
        assert_eq!(reached, set(&EVERYTHING));
    }
}

#[tokio::test]
async fn no_way_leads_to_a_neighbour_through_namespaces_and_landlock() {
    for kind in [WallKind::Namespaces, WallKind::UserNamespaces] {
        let site = Site::new();
        let found = Confinement::find_among(&site.launcher, &[kind]).await;
        if let NamespacesFound::Refused(why) = found.namespaces() {
            skipped(&format!("{kind:?} cannot be made here: {why}"));
            continue;
        }
        site.runner.confine_with(found);
        assert_eq!(reached(&site, "process").await, [set(&[]), set(&[])], "{kind:?}");
    }
}

#[tokio::test]
async fn landlock_alone_leaves_the_gaps_that_are_documented() {
    let site = Site::new();
    let found = Confinement::find_among(&site.launcher, &[]).await;
    if found.landlock_version() < 6 {
        return skipped("this kernel's Landlock is older than version 6");
    }
    assert_eq!(found.gaps(), GAPS_WITHOUT_NAMESPACES);
    site.runner.confine_with(found);
    let expected = set(&WITHOUT_NAMESPACES);
    assert_eq!(reached(&site, "process").await, [expected.clone(), expected]);
}

/// The worker itself as an ordinary user: namespaces only within a user namespace.
#[tokio::test]
async fn an_ordinary_users_worker_confines_its_agents_as_well() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return skipped("only root may start another user's worker");
    }
    let site = Site::new();
    let _sockets = Sockets::listen(site.folder.path());
    let root = site.folder.path().join("root");
    let foreign = root.join("shell/foreign");
    fs::create_dir_all(&foreign).expect("ours");
    for file in ["secret", "other"] {
        fs::write(foreign.join(file), "x").expect("ours");
    }
    for path in [&root, &root.join("shell"), &foreign, &foreign.join("secret"), &foreign.join("other")] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("we are root");
    }
    for name in ["redis.sock", "docker.sock", ""] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(site.folder.path().join(name), mode).expect("ours");
    }
    let as_nobody = |program: &Path| {
        let mut command = Command::new(program);
        command.uid(NOBODY).gid(NOBODY).current_dir(&foreign).stdin(Stdio::null());
        command
    };
    let mut victim = as_nobody(Path::new("sleep")).args(["1000"]).spawn().expect("sleep exists");
    let script = format!(
        "id -u; grep -c . /proc/self/uid_map; {} {ATTACK}",
        [
            ("V", foreign.display().to_string()),
            ("P", victim.id().to_string()),
            ("VICTIM_WORD", "sleep".to_owned()),
            ("PROBE", host_program().display().to_string()),
            ("SOCKETS", site.folder.path().display().to_string()),
            ("TEST_MARK", site.mark.clone()),
        ]
        .map(|(name, value)| format!("export {name}='{value}';"))
        .concat()
    );
    let output = as_nobody(&host_program()).arg(WORKER_COMMAND).arg(&root).arg(&script).output();
    let output = output.expect("it starts");
    victim.kill().expect("ours");
    victim.wait().expect("ours");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(marked(&site.mark), Vec::<String>::new());
    assert!(text.contains(&format!("\"{NOBODY}\\n1\\ndone\"")), "{text} {output:?}");
}

#[tokio::test]
async fn an_agent_starts_without_capabilities_and_gains_none() {
    let site = Site::new();
    let end = site.run(site.script("grep -E '^(Cap|NoNewPrivs|NSpid)' /proc/self/status; echo $$")).await;
    let lines: Vec<&str> = result(&end).lines().collect();
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let line = lines.iter().find(|line| line.starts_with(name)).expect("it is listed");
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    assert!(lines.contains(&"NoNewPrivs:\t1"), "{lines:?}");
}

#[tokio::test]
async fn an_agent_finds_devices_terminals_and_room_for_scratch() {
    let site = Site::new();
    let script = "echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c
        echo x > /tmp/x; mkdir /dev/shm/y; cat /tmp/x; ls /tmp /dev/shm
        echo x > $TMPDIR/t; echo x > $HOME/h; echo said=yes > $MAESTRO_OUTPUT_FILE
        : < /dev/ptmx && echo terminal; cat /proc/1/comm; ls -d /proc/[0-9]* | wc -l; cat agent.log | head -1";
    for round in ["first", "second"] {
        let end = site.run(site.script(script)).await;
        let lines: Vec<&str> = result(&end).lines().collect();
        let expected = ["4", "3", "x", "/dev/shm:", "y", "", "/tmp:", "x"];
        assert_eq!(lines[..8], expected, "{round}: nothing is left of the one before");
        assert_eq!(lines[8..10], ["terminal", "maestro-super"], "{round}");
        assert_eq!(lines[11], "4", "{round}: its log can be read");
        let outputs = end.report.outputs.expect("it completed");
        assert_eq!(outputs.outputs["said"], "yes");
    }
}

#[tokio::test]
async fn the_host_cannot_be_changed_from_within() {
    let site = Site::new();
    let script = "for path in /usr/bin/env /etc/passwd /etc /sys/kernel /usr /proc/sys/kernel/core_pattern agent.log; do
            chmod 755 $path 2>/dev/null && echo chmod $path
            touch -c $path 2>/dev/null && echo touch $path
        done
        (echo x > /proc/sys/kernel/core_pattern) 2>/dev/null && echo core_pattern
        (: > /usr/bin/planted) 2>/dev/null && echo planted
        (: > agent.log) 2>/dev/null && echo log
        mount -t tmpfs x /mnt 2>/dev/null && echo mount
        ls /var /home /root /run 2>/dev/null | grep -v :
        echo end";
    assert_eq!(result(&site.run(site.script(script)).await), "end");
}

/// Says that a test did not run, where the list of such is kept.
pub(crate) fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let Some(list) = std::env::var_os("MAESTRO_SKIPPED") else { return };
    let file = fs::OpenOptions::new().append(true).create(true).open(list);
    std::io::Write::write_all(&mut file.expect("a list"), format!("{name}: {why}\n").as_bytes())
        .expect("room for a line");
}
