//! Checks of this host: settings, workspace root, programs.

use std::path::{Path, PathBuf};

use maestro_worker::launch::find_program;
use rustix::fs::{Access, StatVfsMountFlags, access, statfs, statvfs};

use super::CheckEntry;
use super::redis::shown_size;
use crate::config::settings::Settings;

/// What a tmpfs calls itself in `statfs`.
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// Room one running task should have.
const BYTES_PER_TASK: u64 = 10 << 30;
/// Programs of which one is needed for a cluster of this host's own.
const REDIS_SERVERS: [&str; 2] = ["redis-server", "valkey-server"];

/// Looks at it.
pub(super) fn checks(settings: &Settings) -> Vec<CheckEntry> {
    let root = settings.workspace_root();
    let mut entries = vec![lease(settings)];
    match existing_ancestor(&root) {
        Some(place) => {
            entries.push(workspace_root(&root, &place));
            entries.extend(room(&place, settings.max_concurrent()));
        }
        None => entries.push(CheckEntry::fail(
            "workspaces",
            format!("no part of `{}` exists", root.display()),
            "set `MAESTRO_WORKSPACE_ROOT` to a folder",
        )),
    }
    entries.push(redis_server());
    entries.push(containers(settings));
    entries
}

/// Only agent types with `isolate_with: docker` need an engine; theirs is the line that fails without one.
fn containers(settings: &Settings) -> CheckEntry {
    match settings.container_engine().ask() {
        Ok(engine) => CheckEntry::ok("docker", engine.to_string()),
        Err(why) => CheckEntry {
            mend: Some("for types with `isolate_with: docker` start it, or set `DOCKER_HOST`".to_owned()),
            ..CheckEntry::ok("docker", why)
        },
    }
}

fn lease(settings: &Settings) -> CheckEntry {
    match settings.check_lease() {
        Ok(()) => CheckEntry::ok("settings", "the lease leaves time to end agents before it runs out"),
        Err(failure) => CheckEntry::fail(
            "settings",
            failure.one_line(),
            failure.hint_text().unwrap_or("raise `MAESTRO_LEASE`").to_owned(),
        ),
    }
}

/// The path itself, or what is there of the way to it.
fn existing_ancestor(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|part| part.exists()).map(Path::to_owned)
}

fn workspace_root(root: &Path, place: &Path) -> CheckEntry {
    let shown = root.display();
    let is_folder = place.is_dir();
    let read_only = statvfs(place).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    let writable = access(place, Access::WRITE_OK | Access::EXEC_OK).is_ok() && !read_only;
    let mend = "give it to the worker's user, or set `MAESTRO_WORKSPACE_ROOT` to another folder";
    if !is_folder {
        return CheckEntry::fail("workspaces", format!("`{}` is not a folder", place.display()), mend);
    }
    if !writable {
        return CheckEntry::fail("workspaces", format!("`{}` cannot be written", place.display()), mend);
    }
    let found = if place == root {
        format!("`{shown}` can be written")
    } else {
        format!("`{shown}` is not there yet and will be made in `{}`", place.display())
    };
    // The magic number has the kernel's own width, which differs between machines.
    #[expect(clippy::useless_conversion, reason = "the type of `f_type` differs between processors")]
    let on_tmpfs = statfs(place).is_ok_and(|fs| i64::try_from(fs.f_type) == Ok(TMPFS_MAGIC));
    if on_tmpfs {
        return CheckEntry::warn(
            "workspaces",
            format!("{found}, on a tmpfs"),
            "its files take memory and end with the machine: set `MAESTRO_WORKSPACE_ROOT` to a disk",
        );
    }
    CheckEntry::ok("workspaces", found)
}

fn room(place: &Path, concurrency: u32) -> Option<CheckEntry> {
    let fs = statvfs(place).ok()?;
    let free = fs.f_bavail.saturating_mul(fs.f_frsize);
    let wanted = BYTES_PER_TASK.saturating_mul(u64::from(concurrency));
    let found = format!(
        "{} free for {concurrency} tasks at a time ({} wanted)",
        shown_size(free),
        shown_size(wanted)
    );
    if free < wanted {
        return Some(CheckEntry::warn(
            "disk",
            found,
            "free some, use another `MAESTRO_WORKSPACE_ROOT`, or lower `MAESTRO_MAX_CONCURRENT`",
        ));
    }
    Some(CheckEntry::ok("disk", found))
}

fn redis_server() -> CheckEntry {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = REDIS_SERVERS.iter().find_map(|name| find_program(name.as_ref(), &path, Path::new("/")));
    match found {
        Some(program) => CheckEntry::ok("private redis", format!("`{}` is there", program.display())),
        None => CheckEntry::warn(
            "private redis",
            "neither redis-server nor valkey-server is installed: `up` and `--local` cannot start one",
            "`apt-get install redis-server`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Health;
    use super::*;

    #[test]
    fn a_root_that_is_to_be_made_is_looked_for_upwards() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("a/b/c");
        assert_eq!(existing_ancestor(&root).as_deref(), Some(folder.path()));
        let entry = workspace_root(&root, folder.path());
        assert_ne!(entry.status, Health::Fail);
        assert!(entry.found.contains("will be made"), "{entry:?}");
    }

    #[test]
    fn a_root_that_is_a_file_fails() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a file");
        let entry = workspace_root(&file, &file);
        assert_eq!(entry.status, Health::Fail);
        assert!(entry.found.ends_with("is not a folder"), "{entry:?}");
    }

    #[test]
    fn little_room_for_many_tasks_is_warned_about() {
        let folder = tempfile::tempdir().expect("a folder");
        let entry = room(folder.path(), u32::MAX).expect("a disk");
        assert_eq!(entry.status, Health::Warn);
    }
}
