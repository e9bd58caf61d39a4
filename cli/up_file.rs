//! The note that a running `maestro up` leaves for the command line: where its Redis is.
//!
//! `up-<namespace>.json` in the runtime folder names the address (with the password: mode 600), the
//! process and when that started. The note counts only while that very process lives: a number alone
//! could have gone to another. A lock on the file, held by the process, keeps a second `up` away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::config::folders;
use crate::config::surroundings::Surroundings;
use crate::failure::Failure;

/// How often the file is opened anew because its last owner removed it meanwhile.
const CLAIM_TRIES_MAX: u32 = 16;
/// Largest note that is read, bytes.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// What the note says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UpRecord {
    /// The address of the private Redis, password included.
    pub(crate) address: String,
    /// The process of `maestro up`.
    pub(crate) pid: u32,
    /// When that process started, in clock ticks since the machine did (`/proc/<pid>/stat`, field 22).
    pub(crate) started: u64,
}

/// A note found in the runtime folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpFile {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) record: UpRecord,
}

impl UpFile {
    /// The note of a cluster that runs now. Anything doubtful (a folder or file of somebody else, a
    /// process that is gone or another) is no note.
    pub(crate) fn read_living(folder: &Path, namespace: &str, uid: u32) -> Option<UpFile> {
        if folders::foreign_hand(folder, uid).is_some() {
            return None;
        }
        let path = note_path(folder, namespace);
        let no_links = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).ok()?;
        let file = OpenOptions::new().read(true).custom_flags(no_links).open(&path).ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.uid() != uid {
            return None;
        }
        let mut text = String::new();
        file.take(NOTE_BYTES_MAX).read_to_string(&mut text).ok()?;
        let record: UpRecord = serde_json::from_str(&text).ok()?;
        (process_start(record.pid) == Some(record.started)).then_some(UpFile { path, record })
    }
}

/// The right to be the one `up` of a namespace on this host; ends with the process, however it ends.
#[derive(Debug)]
pub(crate) struct UpClaim {
    path: PathBuf,
    file: File,
}

impl UpClaim {
    /// Claims the namespace, before anything is started.
    ///
    /// # Errors
    /// 77 if a cluster of that namespace runs already.
    pub(crate) fn claim(surroundings: &Surroundings, namespace: &str) -> Result<UpClaim, Failure> {
        let folder = folders::own_runtime_folder(surroundings)?;
        let path = note_path(&folder, namespace);
        let cannot =
            |error: &io::Error| Failure::usage(format!("cannot write `{}`", path.display())).caused_by(error);
        for _ in 0..CLAIM_TRIES_MAX {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(|error| cannot(&error))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(already_up(&folder, namespace, surroundings));
                }
                Err(error) => return Err(cannot(&error.into())),
            }
            // Its last owner removes the file while it holds the lock: then ours is a file without a name.
            let ours = file.metadata().map_err(|error| cannot(&error))?.ino();
            if fs::symlink_metadata(&path).is_ok_and(|named| named.ino() == ours) {
                file.set_len(0).map_err(|error| cannot(&error))?;
                return Ok(UpClaim { path, file });
            }
        }
        Err(Failure::refused(format!("cannot claim `{}`", path.display()))
            .cause("others keep starting and ending there")
            .hint("try again"))
    }

    /// Where the note lies.
    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the command line where the Redis is. To be called once it answers.
    pub(crate) fn announce(&mut self, address: &str) -> Result<(), Failure> {
        let cannot = |error: &io::Error| {
            Failure::usage(format!("cannot write `{}`", self.path.display())).caused_by(error)
        };
        let pid = std::process::id();
        let started = process_start(pid).ok_or_else(|| {
            Failure::unavailable("cannot tell when this process started").hint("mount `/proc`")
        })?;
        let record = UpRecord { address: address.to_owned(), pid, started };
        let text = serde_json::to_string(&record).expect("the record has text keys");
        self.file.set_len(0).map_err(|error| cannot(&error))?;
        self.file.write_all(text.as_bytes()).map_err(|error| cannot(&error))
    }
}

impl Drop for UpClaim {
    fn drop(&mut self) {
        // Removed before the lock goes, so that no newer note is removed. If it stays, it names a process
        // that is gone, and nobody believes it.
        let _stays_harmless = fs::remove_file(&self.path);
    }
}

fn note_path(folder: &Path, namespace: &str) -> PathBuf {
    folder.join(format!("up-{namespace}.json"))
}

fn already_up(folder: &Path, namespace: &str, surroundings: &Surroundings) -> Failure {
    let failure =
        Failure::refused(format!("a cluster of the namespace `{namespace}` is already up on this host"));
    let failure = match UpFile::read_living(folder, namespace, surroundings.uid()) {
        Some(up) => failure.cause(format!("process {} has started it", up.record.pid)),
        None => failure.cause("another process is about to start it"),
    };
    failure.hint("commands use that cluster by themselves; for a second one choose another `--namespace`")
}

/// When a process started, in clock ticks since the machine did; none if there is no such process.
fn process_start(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold spaces and parentheses itself.
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?;
    // A zombie does nothing any more; only its parent has not looked yet.
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::exit::Exit;

    fn surroundings(folder: &Path) -> Surroundings {
        let uid = rustix::process::geteuid().as_raw();
        Surroundings::made_up(&[("XDG_RUNTIME_DIR", folder.to_str().expect("text"))], folder, uid)
    }

    fn read(folder: &Path) -> Option<UpRecord> {
        let uid = rustix::process::geteuid().as_raw();
        UpFile::read_living(&folder.join("maestro"), "demo", uid).map(|up| up.record)
    }

    #[test]
    fn a_note_counts_while_its_process_lives() {
        let root = tempfile::tempdir().expect("a folder");
        let mut claim = UpClaim::claim(&surroundings(root.path()), "demo").expect("nobody else");
        assert_eq!(read(root.path()), None, "nothing has been announced");
        claim.announce("unix:///run/x.sock?pass=secret").expect("written");
        let note = read(root.path()).expect("we live");
        assert_eq!(note.address, "unix:///run/x.sock?pass=secret");
        assert_eq!(fs::metadata(claim.path()).expect("there").mode() & 0o777, 0o600);

        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep");
        let started = process_start(child.id()).expect("it runs");
        let of_child = UpRecord { pid: child.id(), started, ..note.clone() };
        fs::write(claim.path(), serde_json::to_string(&of_child).expect("JSON")).expect("written");
        assert_eq!(read(root.path()), Some(of_child.clone()));
        let reused = UpRecord { started: started + 1, ..of_child };
        fs::write(claim.path(), serde_json::to_string(&reused).expect("JSON")).expect("written");
        assert_eq!(read(root.path()), None, "the number belongs to another process now");
        child.kill().expect("killed");
        let deadline = Instant::now() + Duration::from_secs(10);
        while process_start(child.id()).is_some() {
            assert!(Instant::now() < deadline, "a zombie is no process");
        }
        child.wait().expect("reaped");

        let path = claim.path().to_owned();
        drop(claim);
        assert!(!path.exists());
    }

    #[test]
    fn a_second_up_is_refused_until_the_first_has_ended() {
        let root = tempfile::tempdir().expect("a folder");
        let first = UpClaim::claim(&surroundings(root.path()), "demo").expect("nobody else");
        let refused = UpClaim::claim(&surroundings(root.path()), "demo").expect_err("one is enough");
        assert_eq!(refused.exit(), Exit::Refused);
        UpClaim::claim(&surroundings(root.path()), "other").expect("another namespace is free");
        drop(first);
        UpClaim::claim(&surroundings(root.path()), "demo").expect("free again");
    }

    #[test]
    fn a_note_in_a_folder_of_others_is_not_read() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().expect("a folder");
        let mut claim = UpClaim::claim(&surroundings(root.path()), "demo").expect("nobody else");
        claim.announce("unix:///run/x.sock").expect("written");
        assert!(read(root.path()).is_some());
        let folder = root.path().join("maestro");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("chmod");
        assert_eq!(read(root.path()), None);
    }
}
