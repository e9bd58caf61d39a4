//! Where a door's socket lies: in Maestro's own folder of the attempt, or, where that path is too long for
//! a socket, in a short folder that nobody else can reach.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

/// Longest path of a socket: the kernel's field less the NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The socket in an attempt's own folder.
const SOCKET_NAME: &str = "socket";
/// Longest name of a socket in the short folder: a task's id and its attempt.
const SHORT_NAME_BYTES_MAX: usize = 40;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at `{}`", path.display())]
pub struct DoorPlaceError {
    /// Where it was to be.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// A short folder for one worker, made when it is first needed.
#[derive(Debug)]
pub(super) struct ShortFolder {
    bases: Vec<PathBuf>,
    name: String,
    made: OnceLock<PathBuf>,
}

impl ShortFolder {
    /// Below the first of `bases` that is short enough and ours alone. `owner` is what only one worker of
    /// this host is at a time, so that what an earlier life of it left may be removed.
    pub(super) fn new(bases: Vec<PathBuf>, owner: &str) -> ShortFolder {
        let digest = Sha256::digest(owner);
        let name = digest[..8].iter().fold("doors-".to_owned(), |name, byte| format!("{name}{byte:02x}"));
        ShortFolder { bases, name, made: OnceLock::new() }
    }

    fn path(&self) -> io::Result<&Path> {
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        let mut refused = io::Error::from(io::ErrorKind::InvalidFilename);
        for base in &self.bases {
            let folder = base.join(&self.name);
            if folder.as_os_str().len() + 1 + SHORT_NAME_BYTES_MAX > SOCKET_PATH_BYTES_MAX {
                continue;
            }
            match own_folder(base).and_then(|()| own_folder(&folder)) {
                // Another attempt may have been first: then what is there is already in use.
                Ok(()) => return Ok(self.made.get_or_init(|| emptied(folder))),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

impl Drop for ShortFolder {
    fn drop(&mut self) {
        if let Some(made) = self.made.get() {
            // A door that is still open keeps it; the worker's next life finds it.
            let _ = fs::remove_dir(made);
        }
    }
}

fn emptied(folder: PathBuf) -> PathBuf {
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
    folder
}

/// Makes a folder unless it is there, and refuses one that others could reach: it may lie in `/tmp`.
fn own_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
    if !ours || found.mode() & 0o022 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may write to the folder"));
    }
    Ok(())
}

/// A socket that is listened to; its file goes with the value.
#[derive(Debug)]
pub(super) struct BoundSocket {
    pub(super) listener: Option<UnixListener>,
    pub(super) path: PathBuf,
}

impl BoundSocket {
    /// Listens in `own`, or in the short folder under `name`.
    pub(super) fn bind(own: &Path, short: &ShortFolder, name: &str) -> Result<BoundSocket, DoorPlaceError> {
        let mut path = own.join(SOCKET_NAME);
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            match short.path() {
                Ok(folder) => path = folder.join(name),
                Err(source) => return Err(DoorPlaceError { path, source }),
            }
        }
        let bound = match UnixListener::bind(&path) {
            // An earlier life of the same attempt left it.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                fs::remove_file(&path).and_then(|()| UnixListener::bind(&path))
            }
            other => other,
        };
        match bound {
            Ok(listener) => Ok(BoundSocket { listener: Some(listener), path }),
            Err(source) => Err(DoorPlaceError { path, source }),
        }
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        // Gone already if its folder is.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_long_path_gets_a_short_place_that_only_we_can_reach() {
        let here = tempfile::tempdir().expect("a folder");
        let long = here.path().join("x".repeat(90));
        fs::create_dir(&long).expect("a folder");
        let (open, ours) = (here.path().join("open"), here.path().join("run"));
        fs::create_dir(&open).expect("a folder");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("ours");
        let stale = || {
            let short = ShortFolder::new(vec![long.clone(), open.clone(), ours.clone()], "w1");
            let folder = short.path().expect("the third will do").to_owned();
            (short, folder)
        };
        let (short, folder) = stale();
        fs::write(folder.join("left"), "").expect("ours");
        drop(short);
        let (short, folder) = stale();
        assert!(!folder.join("left").exists(), "what an earlier life left is removed");
        assert_eq!(fs::metadata(&folder).expect("made").mode() & 0o777, 0o700);

        let socket = BoundSocket::bind(&long, &short, "0k3v9x2mqf1a.7.1").expect("a socket");
        assert_eq!(socket.path, folder.join("0k3v9x2mqf1a.7.1"));
        UnixStream::connect(&socket.path).expect("somebody listens");
        let again = BoundSocket::bind(&long, &short, "0k3v9x2mqf1a.7.1").expect("it takes over");
        drop((socket, again));
        drop(short);
        assert!(!folder.exists(), "nothing is left");
    }

    #[test]
    fn a_short_path_stays_with_its_attempt() {
        let here = tempfile::tempdir().expect("a folder");
        let short = ShortFolder::new(vec![here.path().join("run")], "w1");
        let socket = BoundSocket::bind(here.path(), &short, "x").expect("a socket");
        assert_eq!(socket.path, here.path().join("socket"));
        drop(socket);
        assert!(!here.path().join("socket").exists() && !here.path().join("run").exists());
    }

    #[test]
    fn without_any_short_place_the_error_names_the_path() {
        let here = tempfile::tempdir().expect("a folder");
        let long = here.path().join("x".repeat(90));
        let short = ShortFolder::new(vec![long.clone()], "w1");
        let error = BoundSocket::bind(&long, &short, "x").expect_err("there is no place");
        assert!(error.to_string().starts_with("cannot listen at `"), "{error}");
    }
}
