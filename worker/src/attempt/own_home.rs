//! What an agent's own HOME holds before it starts.
//!
//! Paths of the type that lie in the home of the worker's user are brought along to the same place: what it may
//! write is a link to the user's own, a file it may only read is a copy, so that a program finds its login and
//! its settings where it looks for them. Kilo finds the modes that come with Maestro.
//!
//! An assigned agent keeps its HOME and may have put links into it. No link on the way is followed, and what is
//! in the way stays: such a file is then left out and said in the log.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use maestro_model::agent_type::AgentType;
use maestro_model::template::is_plain_text;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::environment::HostEnvironment;
use crate::kilo_modes::{DEFINITIONS_FOLDER, KILO_MODES};

/// Largest settings file that is copied, bytes; a larger one is linked.
const COPIED_BYTES_MAX: u64 = 1024 * 1024;

/// Puts into a HOME what the type's program looks for there.
///
/// # Errors
/// If the HOME itself cannot be opened.
pub(super) fn furnish_home(home: &Path, agent: &AgentType, host: &HostEnvironment) -> io::Result<()> {
    let folder = open_folder(CWD.as_fd(), home.as_os_str())?;
    let brought = agent.paths.read.iter().map(|path| (path, Right::Read));
    let brought = brought.chain(agent.paths.write.iter().map(|path| (path, Right::Write)));
    for (path, right) in brought {
        let Some(inside) = path.strip_prefix("~/").filter(|inside| is_plain_text(inside)) else { continue };
        let source = host.expanded(path);
        tell(&source, bring(&folder, Path::new(inside), &source, right));
    }
    if agent.is_kilo() {
        for mode in KILO_MODES {
            let place = Path::new(DEFINITIONS_FOLDER).join(format!("{}.md", mode.name));
            tell(&place, write_new(&folder, &place, mode.text.as_bytes()));
        }
    }
    Ok(())
}

/// What the agent may do with something that is brought along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Read,
    Write,
}

fn tell(path: &Path, done: io::Result<()>) {
    if let Err(error) = done {
        tracing::warn!(path = %path.display(), "not put into the agent's home: {error}");
    }
}

/// Brings one path along; one that is not there is not missed.
fn bring(home: &OwnedFd, inside: &Path, source: &Path, right: Right) -> io::Result<()> {
    let Ok(metadata) = source.metadata() else { return Ok(()) };
    if right == Right::Read && metadata.is_file() && metadata.len() <= COPIED_BYTES_MAX {
        let mut bytes = Vec::new();
        std::fs::File::open(source)?.take(COPIED_BYTES_MAX).read_to_end(&mut bytes)?;
        return write_new(home, inside, &bytes);
    }
    let (folder, name) = parent(home, inside)?;
    match symlinkat(source, &folder, name) {
        // From an earlier task of the same agent.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes a file anew; a folder in its place stays.
fn write_new(home: &OwnedFd, inside: &Path, bytes: &[u8]) -> io::Result<()> {
    let (folder, name) = parent(home, inside)?;
    match unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&folder, name, flags, Mode::from_raw_mode(0o600))?;
    std::fs::File::from(file).write_all(bytes)
}

/// The folder of a path below HOME, made if it is not there, and the name in it.
fn parent<'p>(home: &OwnedFd, inside: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
    let refuse = || io::Error::new(io::ErrorKind::InvalidInput, "expected a path below the home");
    let mut names = Vec::new();
    for component in inside.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            _ => return Err(refuse()),
        }
    }
    let name = names.pop().ok_or_else(refuse)?;
    let mut folder = home.try_clone()?;
    for part in names {
        match mkdirat(&folder, part, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        folder = open_folder(folder.as_fd(), part)?;
    }
    Ok((folder, name))
}

fn open_folder(at: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Place {
        _folder: tempfile::TempDir,
        user: std::path::PathBuf,
        home: std::path::PathBuf,
        host: HostEnvironment,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let (user, home) = (folder.path().join("user"), folder.path().join("home"));
        fs::create_dir_all(user.join(".config/kilo")).expect("a folder");
        fs::create_dir(&home).expect("a folder");
        let host = HostEnvironment::from_iter([("HOME".into(), user.clone().into_os_string())]);
        Place { _folder: folder, user, home, host }
    }

    fn agent(command: &str, read: &[&str], write: &[&str]) -> AgentType {
        let owned = |paths: &[&str]| paths.iter().map(|path| path.to_string()).collect::<Vec<_>>();
        let json = serde_json::json!({
            "slug": "probe", "mode": "probe", "command": [command],
            "paths": {"read": owned(read), "write": owned(write)},
        });
        serde_json::from_value(json).expect("an agent type")
    }

    #[test]
    fn settings_are_copied_and_what_may_be_written_is_linked() {
        let Place { user, home, host, _folder } = place();
        fs::write(user.join(".config/kilo/kilo.json"), "{}").expect("a file");
        fs::write(user.join("auth.json"), "login").expect("a file");
        let read = ["~/.config/kilo/kilo.json", "~/no/such", "~/.config", "/usr"];
        let agent = agent("sh", &read, &["~/auth.json", "~/<< vars.x >>"]);
        furnish_home(&home, &agent, &host).expect("furnished");
        fs::write(home.join(".config/kilo/kilo.json"), "changed").expect("a copy");
        assert_eq!(fs::read_to_string(user.join(".config/kilo/kilo.json")).expect("there"), "{}");
        fs::write(home.join("auth.json"), "renewed").expect("a link");
        assert_eq!(fs::read_to_string(user.join("auth.json")).expect("there"), "renewed");
        assert_eq!(home.read_dir().expect("a folder").count(), 2, "nothing else: no mode, no empty folder");
        furnish_home(&home, &agent, &host).expect("the same again");
        assert_eq!(fs::read_to_string(home.join(".config/kilo/kilo.json")).expect("there"), "{}");
    }

    #[test]
    fn kilo_finds_the_modes_that_come_with_maestro() {
        let Place { home, host, _folder, .. } = place();
        furnish_home(&home, &agent("kilo", &[], &[]), &host).expect("furnished");
        let found = home.join(DEFINITIONS_FOLDER).read_dir().expect("a folder").count();
        assert_eq!(found, KILO_MODES.len());
        let text = fs::read_to_string(home.join(".config/kilo/agent/vps-ops.md")).expect("a mode");
        assert!(text.starts_with("---\n"), "{text}");
    }

    #[test]
    fn links_that_an_agent_left_are_not_followed() {
        let Place { user, home, host, _folder } = place();
        symlink(&user, home.join(".config")).expect("a link");
        furnish_home(&home, &agent("kilo", &[], &[]), &host).expect("it is said and left out");
        assert!(!user.join("kilo").exists(), "nothing was written behind the link");
        fs::remove_file(home.join(".config")).expect("the link");
        fs::create_dir_all(home.join(DEFINITIONS_FOLDER)).expect("a folder");
        let victim = user.join("victim");
        fs::write(&victim, "mine").expect("a file");
        symlink(&victim, home.join(DEFINITIONS_FOLDER).join("vps-ops.md")).expect("a link");
        furnish_home(&home, &agent("kilo", &[], &[]), &host).expect("furnished");
        assert_eq!(fs::read_to_string(victim).expect("there"), "mine");
        let bad = agent("sh", &["~/../victim"], &[]);
        furnish_home(&home, &bad, &host).expect("left out");
    }
}
