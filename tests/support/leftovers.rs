//! What must be gone at the end of a test: processes, keys, files; and what must not be in a log.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

/// Pids below a process, at whatever depth, as long as the links between them stand.
pub fn descendants(of: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in all_pids() {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut open) = (Vec::new(), vec![of]);
    while let Some(pid) = open.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            found.push(*child);
            open.push(*child);
        }
    }
    found
}

fn all_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("this is Linux");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The parent, from the field behind the name, which may itself hold blanks and brackets.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Living processes whose environment, command line or working folder names the folder; with what they are.
pub fn processes_with(folder: &Path) -> Vec<(u32, String)> {
    let marker = folder.to_str().expect("a plain path").as_bytes();
    let names_it = |text: &[u8]| text.windows(marker.len()).any(|window| window == marker);
    let mut found = Vec::new();
    for pid in all_pids().into_iter().filter(|pid| *pid != std::process::id()) {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let works_in_it = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        let line = read("cmdline");
        let zombie =
            read("stat").rsplit(|byte| *byte == b')').next().is_some_and(|rest| rest.starts_with(b" Z"));
        if !zombie && (works_in_it || names_it(&line) || names_it(&read("environ"))) {
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push((pid, line.chars().take(160).collect()));
        }
    }
    found
}

/// Keys that a cluster at rest may have, after its prefix: it has no worker, no work and no finished run.
/// `*` stands for any end. Wake-up tokens of a queue are a hint that may be left over, a few for each agent
/// type; those of a worker go with it.
const AT_REST: [&str; 17] = [
    "agents",
    "alerts:*",
    "assignments",
    "bell:a:*",
    "bell:c:expand",
    "bell:i:*",
    "ctl",
    "events",
    "leader",
    "limits",
    "lost",
    "runs",
    "state:*",
    "states",
    "vt",
    "workflow:*",
    "workflows",
];

/// Keys that should be gone.
pub fn unexpected_keys(keys: &HashSet<String>, namespace: &str) -> Vec<String> {
    let mut found: Vec<String> = keys.iter().filter(|key| !is_expected(key, namespace)).cloned().collect();
    found.sort();
    found
}

fn is_expected(key: &str, namespace: &str) -> bool {
    let Some(rest) = key.strip_prefix(namespace).and_then(|rest| rest.strip_prefix(':')) else {
        return false;
    };
    if rest == "ctl" || rest == "restore" {
        return true;
    }
    let Some((_, name)) = rest.strip_prefix('{').and_then(|rest| rest.split_once("}:")) else { return false };
    AT_REST.iter().any(|known| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *known,
    })
}

/// Files below a folder that nobody should have made.
pub fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            found.push(entry.path().display().to_string());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
    found
}
