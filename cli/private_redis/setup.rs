//! What a server needs before it starts: the program, its configuration, the right to its data.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, FlockOperation, access, flock};

use super::{ASK_EVERY, Keeping, PrivateRedisPlan};
use crate::failure::Failure;

/// The programs that will do, best known first.
const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];
/// Folders searched beside those of `PATH`: some distributions install servers where users do not look.
pub(super) const FOLDERS: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/opt/homebrew/bin"];
/// How long the last server of a data folder may take to let go of it.
pub(super) const FOLDER_FREE_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn config_text(plan: &PrivateRedisPlan, password: &str) -> String {
    let quoted = |path: &Path| {
        let text = path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{text}\"")
    };
    let mut lines = vec![
        "port 0".to_owned(),
        format!("unixsocket {}", quoted(&plan.socket)),
        "unixsocketperm 700".to_owned(),
        format!("requirepass {password}"),
        "daemonize no".to_owned(),
        "supervised no".to_owned(),
        "databases 1".to_owned(),
        "maxmemory 0".to_owned(),
        "maxmemory-policy noeviction".to_owned(),
        "save \"\"".to_owned(),
        "always-show-logo no".to_owned(),
    ];
    match &plan.keeping {
        Keeping::Folder(folder) => {
            let folder = format!("dir {}", quoted(folder));
            lines.extend([folder, "appendonly yes".to_owned(), "appendfsync everysec".to_owned()]);
        }
        Keeping::Nothing => {
            let folder = plan.socket.parent().unwrap_or(Path::new("/"));
            lines.extend([format!("dir {}", quoted(folder)), "appendonly no".to_owned()]);
        }
    }
    lines.join("\n") + "\n"
}

/// Makes the data folder and locks it. The last server of the folder may still be writing its data.
pub(super) fn lock_data(keeping: &Keeping, free_within: Duration) -> Result<Option<File>, Failure> {
    let Keeping::Folder(folder) = keeping else { return Ok(None) };
    let cannot = |error: &io::Error| {
        Failure::usage(format!("cannot use the data folder `{}`", folder.display()))
            .caused_by(error)
            .hint("set `XDG_DATA_HOME` to a folder that you can write to")
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| cannot(&error))?;
    let path = folder.join("lock");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let lock = lock.map_err(|error| cannot(&error))?;
    let deadline = Instant::now() + free_within;
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(lock)),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(ASK_EVERY),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Failure::refused(format!(
                    "another Redis uses the data in `{}`",
                    folder.display()
                ))
                .hint("end it, or choose another `--namespace`"));
            }
            Err(error) => return Err(cannot(&error.into())),
        }
    }
}

/// The first server program on the path, or where servers are usually installed.
pub(super) fn find_server(path_variable: &str, more_folders: &[&str]) -> Option<PathBuf> {
    let on_path = path_variable.split(':').filter(|folder| folder.starts_with('/'));
    let folders: Vec<&str> = on_path.chain(more_folders.iter().copied()).collect();
    let found_in = |folder: &&str, server: &str| {
        let path = Path::new(folder).join(server);
        let runs = path.is_file() && access(&path, Access::EXEC_OK).is_ok();
        runs.then_some(path)
    };
    SERVERS.iter().find_map(|server| folders.iter().find_map(|folder| found_in(folder, server)))
}

pub(super) fn not_installed() -> Failure {
    Failure::unavailable("cannot start a private Redis")
        .cause("neither `redis-server` nor `valkey-server` is installed")
        .hint(
            "install one (`apt-get install redis-server`, `dnf install valkey`, `brew install redis`), \
             or name a running one with `--redis-url`",
        )
}

/// 160 bits from a generator fit for secrets, in letters that need no quoting anywhere.
pub(super) fn random_password() -> String {
    (0..5).map(|_| format!("{:08x}", rand::random::<u32>())).collect()
}

pub(super) fn percent_encoded(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    let encode = |byte: &u8| {
        if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }
    };
    path.as_os_str().as_bytes().iter().map(encode).collect()
}
