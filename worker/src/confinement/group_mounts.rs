//! Where on this host control groups can be made: found in the kernel's lists and by trying.

use std::fs;
use std::path::{Path, PathBuf};

use super::groups::Limited;

/// Which control groups a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupVersion {
    /// One hierarchy for each controller.
    One,
    /// One for all.
    Two,
}

/// For each thing that can be limited, the folder below which groups may be made.
pub(super) fn controller_folders() -> (GroupVersion, Vec<(Limited, PathBuf)>) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let places = GroupPlaces { mounts: read("/proc/self/mountinfo"), own: read("/proc/self/cgroup") };
    if let Some(folder) = places.unified().filter(|folder| is_delegated(folder)) {
        return (GroupVersion::Two, Limited::ALL.map(|limited| (limited, folder.clone())).to_vec());
    }
    let found =
        Limited::ALL.into_iter().filter_map(|limited| Some((limited, places.old(limited.controller())?)));
    (GroupVersion::One, found.collect())
}

/// Whether groups below this one can have all limits. A group with processes of its own cannot be divided, so a
/// worker that is alone in its group moves into one below it first.
fn is_delegated(folder: &Path) -> bool {
    let offered = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    let offered: Vec<&str> = offered.split_ascii_whitespace().collect();
    if !Limited::ALL.iter().all(|limited| offered.contains(&limited.controller())) {
        return false;
    }
    let all = Limited::ALL.map(|limited| format!("+{}", limited.controller())).join(" ");
    let divide = || fs::write(folder.join("cgroup.subtree_control"), &all);
    if divide().is_ok() {
        return true;
    }
    let own = folder.join("maestro-itself");
    let moved = fs::create_dir(&own).is_ok() || own.is_dir();
    if !moved || fs::write(own.join("cgroup.procs"), "0").is_err() {
        return false;
    }
    if divide().is_ok() {
        return true;
    }
    // Others are in the group as well, and it stays as it was.
    let _ = fs::write(folder.join("cgroup.procs"), "0");
    let _ = fs::remove_dir(own);
    false
}

/// The kernel's lists of what is mounted, and of which groups this process is in.
struct GroupPlaces {
    mounts: String,
    own: String,
}

impl GroupPlaces {
    /// The folder of this process' own group of version 2.
    fn unified(&self) -> Option<PathBuf> {
        let own = self.own.lines().find_map(|line| line.strip_prefix("0::"))?;
        self.mounts.lines().find_map(|line| folder_of(line, own, |kind, _| kind == "cgroup2"))
    }

    /// That of an old controller.
    fn old(&self, controller: &str) -> Option<PathBuf> {
        let named = |list: &str| list.split(',').any(|name| name == controller);
        let own = self.own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            named(controllers).then_some(path)
        })?;
        self.mounts
            .lines()
            .find_map(|line| folder_of(line, own, |kind, options| kind == "cgroup" && named(options)))
    }
}

/// The folder of a group below what one line of `mountinfo` says, if that is the right kind of mount.
fn folder_of(line: &str, own: &str, is_right: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    let (left, right) = line.split_once(" - ")?;
    let mut kinds = right.split(' ');
    let (kind, _source, options) = (kinds.next()?, kinds.next()?, kinds.next()?);
    if !is_right(kind, options) {
        return None;
    }
    let fields: Vec<&str> = left.split(' ').collect();
    let (root, place) = (fields.get(3)?, Path::new(fields.get(4)?));
    let inside = Path::new(own).strip_prefix(root).unwrap_or(Path::new(""));
    let folder = place.join(inside);
    // Within a container the path may be the host's.
    Some(if folder.is_dir() { folder } else { place.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "31 24 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n\
                       32 24 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                       33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const OWN: &str = "5:cpu,cpuacct:/no/such\n4:memory:/no/such\n0::/user.slice/x.scope\n";

    #[test]
    fn each_controller_is_found_where_it_is_mounted() {
        let places = GroupPlaces { mounts: OLD.to_owned(), own: OWN.to_owned() };
        assert_eq!(places.old("memory"), Some("/sys/fs/cgroup/memory".into()));
        assert_eq!(places.old("cpu"), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(places.old("pids"), None);
        assert_eq!(places.unified(), Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn a_path_that_is_there_is_taken_relative_to_what_is_mounted() {
        let place = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(place.path().join("app")).expect("a folder");
        let line = format!("1 2 0:3 /pod/x {} rw - cgroup2 cgroup2 rw", place.path().display());
        let folder = folder_of(&line, "/pod/x/app", |kind, _| kind == "cgroup2");
        assert_eq!(folder, Some(place.path().join("app")));
    }
}
