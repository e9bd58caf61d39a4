//! Plain tools agree with an archive, and a plain Redis holds exactly the keys.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::scene::{PATIENCE, SnapshotScene, json};
use crate::support::{ClusterSetup, TestServer};

/// Keys that change when the cluster goes on: what processes say of themselves, the cell's clock, and the audit.
const RESTLESS: [&str; 7] = ["ctl", "w:", "leases", "leader", "events", "bell:", "answer:"];
/// How much of a time to live may pass between a snapshot and a look.
const TTL_PASSES_MS: i64 = 60_000;

fn is_restless(key: &str) -> bool {
    let name = key.split_once("}:").map_or(key, |(_, name)| name);
    RESTLESS.iter().any(|start| name == *start || (start.ends_with(':') && name.starts_with(start)))
}

/// Each key with its type, its value and its time to live.
fn keys_of(server: &TestServer) -> BTreeMap<String, (String, i64)> {
    let mut connection = server.connection().expect("redis is there");
    let names: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).expect("keys");
    let read = |name: String| {
        let value = value_of(&mut connection, &name);
        let ttl = redis::cmd("PTTL").arg(&name).query(&mut connection).expect("there");
        (name, (value, ttl))
    };
    names.into_iter().map(read).collect()
}

/// A key's type and value; members of what has no order are sorted.
fn value_of(connection: &mut redis::Connection, key: &str) -> String {
    let kind: String = redis::cmd("TYPE").arg(key).query(connection).expect("there");
    let words: &[&str] = match kind.as_str() {
        "hash" => &["HGETALL"],
        "set" => &["SMEMBERS"],
        "zset" => &["ZRANGE", "0", "-1", "WITHSCORES"],
        "list" => &["LRANGE", "0", "-1"],
        "stream" => &["XRANGE", "-", "+"],
        _ => &["GET"],
    };
    let mut command = redis::cmd(words[0]);
    command.arg(key).arg(&words[1..]);
    let value: redis::Value = command.query(connection).expect("readable");
    let mut parts: Vec<String> = match (kind.as_str(), value) {
        ("hash", redis::Value::Array(parts)) => {
            parts.chunks(2).map(|pair| format!("{:?}={:?}", pair[0], pair[1])).collect()
        }
        (_, redis::Value::Array(parts)) => parts.iter().map(|part| format!("{part:?}")).collect(),
        (_, other) => vec![format!("{other:?}")],
    };
    if kind == "hash" || kind == "set" {
        parts.sort();
    }
    format!("{kind}: {}", parts.join(" "))
}

#[test]
fn a_plain_redis_holds_exactly_the_keys_and_plain_tools_read_the_archive() {
    let scene = SnapshotScene::start(ClusterSetup::default(), &[]);
    let cluster = &scene.cluster;
    let run = cluster.submit_text(
        "two",
        "name: two\nsteps:\n  - id: a\n    agent: probe\n    prompt: echo made > made; echo out\n  - id: b\n    agent: probe\n    prompt: echo two\n    depends_on: [a]\n",
    );
    cluster.wait_for_run(&run, PATIENCE);
    for words in [["state", "set", "plain", "x"], ["state", "set", "half", "{\"a\":[1,2]}"]] {
        assert_eq!(cluster.maestro(&words).code, 0);
    }
    assert_eq!(cluster.maestro(&["state", "set", "short", "y", "--ttl", "1h"]).code, 0);
    let answer = cluster.maestro(&["state", "snapshot", "--include-logs", "--format", "json"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let path = json(&answer)["file"].as_str().expect("a file").to_owned();
    // A note for those who watch is written once the archive is whole, so it is not in it.
    let mut connection = cluster.redis.connection().expect("redis is there");
    let mut note = redis::cmd("HDEL");
    note.arg("trial:ctl").arg(&["snapshot_at", "snapshot_bytes"]);
    assert_eq!(note.query::<u32>(&mut connection).expect("redis is there"), 2, "its time and its size");
    let live = keys_of(&cluster.redis);

    for words in [["gzip", "-t"], ["tar", "-tzf"]] {
        let output = Command::new(words[0]).arg(words[1]).arg(&path).output().expect("it is there");
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    }
    let unpacked = scene.unpack(Path::new(&path), "unpacked");
    let sums = cluster.maestro(&["state", "verify", &path, "--sums"]);
    assert_eq!(sums.code, 0, "{sums:?}");
    let mut check = Command::new("sha256sum")
        .args(["-c", "--quiet", "--strict"])
        .current_dir(unpacked.parent().expect("it lies in a folder"))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("sha256sum is there");
    check.stdin.take().expect("a pipe").write_all(sums.out.as_bytes()).expect("it reads");
    assert!(check.wait().expect("it ends").success());

    let plain = TestServer::start(&unpacked.join("redis"), false);
    let loaded = keys_of(&plain);
    for (key, (value, ttl)) in &live {
        if is_restless(key) {
            continue;
        }
        let (there, left) = loaded.get(key).unwrap_or_else(|| panic!("`{key}` is missing"));
        assert!(there == value, "`{key}` has another value");
        assert!((left - ttl).abs() < TTL_PASSES_MS && (*left < 0) == (*ttl < 0), "`{key}`: {left} and {ttl}");
    }
    let foreign: Vec<&String> =
        loaded.keys().filter(|key| !is_restless(key) && !live.contains_key(*key)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(loaded.keys().any(|key| key.ends_with(":log:") || key.contains(":log:")), "logs were wanted");
    let latest = fs::read_link(scene.path("all/latest")).expect("it is a good one");
    assert_eq!(Some(latest.as_os_str()), Path::new(&path).file_name());
    let listed = json(&cluster.maestro(&["state", "snapshots", "--format", "json"]));
    assert_eq!((listed[0]["latest"].as_bool(), listed[0]["state"].as_str()), (Some(true), Some("good")));
}

/// What a tree looks like: kind, mode, time and content of each entry, by its name as bytes.
fn tree_of(folder: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut tree = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        let found = fs::symlink_metadata(&path).expect("there");
        let name = path.strip_prefix(folder).expect("below").as_os_str().as_bytes().to_vec();
        let shown = if found.is_dir() {
            waiting
                .extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()));
            format!("folder {:o}", found.mode() & 0o777)
        } else if found.is_symlink() {
            format!("link {:?}", fs::read_link(&path).expect("a link"))
        } else {
            let content = fs::read(&path).expect("readable");
            let sum = sum_of(&content);
            let time = (found.mtime(), found.mtime_nsec());
            format!("file {:o} {} {sum:x} {time:?} {}", found.mode() & 0o777, content.len(), found.nlink())
        };
        tree.insert(name, shown);
    }
    tree
}

/// A sum of a content, to compare contents by.
fn sum_of(content: &[u8]) -> u64 {
    content
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn odd_files_survive_as_they_are() {
    let scene = SnapshotScene::start(ClusterSetup::default(), &[]);
    let cluster = &scene.cluster;
    let work = scene.path("work");
    fs::create_dir_all(work.join("sub/empty")).expect("folders");
    fs::write(work.join("zero"), "").expect("a file");
    fs::write(work.join("sub/run.sh"), "echo").expect("a file");
    fs::set_permissions(work.join("sub/run.sh"), fs::Permissions::from_mode(0o751)).expect("ours");
    fs::hard_link(work.join("sub/run.sh"), work.join("other name")).expect("a link");
    symlink("/etc/hostname", work.join("outside")).expect("a link");
    symlink("x".repeat(300), work.join("nowhere")).expect("a link");
    fs::write(work.join("n".repeat(255)), "long").expect("a file");
    fs::write(work.join(std::ffi::OsStr::from_bytes(b"raw-\xff\xfe")), "raw").expect("a file");
    let sparse = fs::File::create(work.join("sparse")).expect("a file");
    sparse.set_len(8 << 20).expect("a hole");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 5 << 20).expect("written");
    let noise: Vec<u8> = (0..2_500_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(work.join("large"), &noise).expect("a file");
    fs::create_dir(work.join("many")).expect("a folder");
    for number in 0..1000 {
        fs::write(work.join(format!("many/{number}")), number.to_string()).expect("a file");
    }
    let path = work.to_str().expect("a plain path");
    let assigned = cluster.maestro(&["agent", "assign", "probe", "--to-workspace", path, "--name", "smith"]);
    assert_eq!(assigned.code, 0, "{assigned:?}");
    let before = tree_of(&work);

    let (record, archive) = scene.take();

    assert_eq!(record["workspaces"], 1, "{record}");
    let unpacked = scene.unpack(&archive, "unpacked");
    let back = unpacked.join("workspaces/w0/smith/assigned");
    assert!(tree_of(&back) == before, "something is not as it was");
    let blocks = fs::metadata(back.join("sparse")).expect("there").blocks();
    assert!(blocks * 512 < 1 << 20, "holes are holes again");
    let verified = cluster.maestro(&["state", "verify", archive.to_str().expect("plain")]);
    assert_eq!(verified.code, 0, "{verified:?}");
}
