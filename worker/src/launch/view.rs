//! What a supervisor with walls makes for its agents: namespaces with a root that holds what every agent may
//! see, and for each agent the steps to its own part.
//!
//! ```text
//! made once per supervisor       /usr /bin /lib… /opt /sys        the host's, to be read
//! (a tmpfs, the future root)     /etc                             a copy of what every user may read
//!                                /proc                            of these processes alone
//!                                /dev                             null zero full random urandom tty, pts of its own
//! made by each agent, on its     /tmp /dev/shm                    empty
//! way to exec, for itself        workspace, home, …               the host's, at the same paths
//! ```
//!
//! A supervisor has one agent at a time, and the process namespace, the root and its places for mounts serve
//! one after the other; what an agent can write to is made anew. What may be seen is decided in `confinement`.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::Pid;

use super::settings::{SETTINGS_FOLDER, SettingsFound};
use super::sys;
use super::sys_walls::{MountDepth, set_mount_read_only};
use super::system::SYSTEM_FOLDERS;
use super::walls::{EntryNumber, Spot, ViewStep};
use super::wire::{WallKind, WallStep};
use super::wire_order::{ViewEntry, ViewKind};

/// Where the future root is put together: in the supervisor's own `/proc`, so that it hides nothing of the host.
pub(super) const ROOT: &CStr = c"/proc/driver";
/// The copy of `/etc` in it.
pub(super) const SETTINGS: &CStr = c"/proc/driver/etc";
/// Room in a folder whose contents go with the agent: memory, until they are removed.
pub(super) const SCRATCH_OPTIONS: &CStr = c"mode=1777,size=256m,nr_inodes=65536";
/// Room for places to mount at.
const ROOT_OPTIONS: &CStr = c"mode=755,size=4m";
/// Devices without which hardly a program runs.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Links that programs expect beside them.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
/// Room for the copy of `/etc`: what is copied, each file in whole pages.
const SETTINGS_OPTIONS: &CStr = c"mode=755,size=128m,nr_inodes=32768";
/// How long a copy of `/etc` is taken for true without another look.
const SETTINGS_FRESH: Duration = Duration::from_secs(2);
/// What is new for every agent.
const SCRATCH: [&str; 2] = ["/tmp", "/dev/shm"];

/// What an agent does to come to its part, and for which entry of its order.
pub(super) type Steps = Vec<(EntryNumber, ViewStep)>;

/// Why walls could not be built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unwalled {
    pub(super) step: WallStep,
    pub(super) errno: i32,
}

fn at(step: WallStep) -> impl Fn(Errno) -> Unwalled {
    move |errno| Unwalled { step, errno: errno.raw_os_error() }
}

fn on_disk(step: WallStep) -> impl Fn(io::Error) -> Unwalled {
    move |error| Unwalled { step, errno: error.raw_os_error().unwrap_or(libc::EIO) }
}

/// The user that a supervisor stands for in a user namespace: the worker's.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkerUser {
    uid: u32,
    gid: u32,
}

impl WorkerUser {
    pub(super) fn of_this_process() -> WorkerUser {
        WorkerUser { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    /// The same numbers inside as outside, and no others.
    fn map(self) -> io::Result<()> {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{0} {0} 1", self.uid))?;
        fs::write("/proc/self/gid_map", format!("{0} {0} 1", self.gid))
    }
}

/// A supervisor's root, and what it holds for the present agent.
pub(super) struct View {
    /// Places made for the present agent, outermost first.
    made: Vec<PathBuf>,
    settings: ShownSettings,
}

/// The copy of `/etc` that is shown.
struct ShownSettings {
    mark: u64,
    looked_at: Instant,
}

impl View {
    /// Builds the walls around this process, which was forked into new namespaces by `launcher`.
    pub(super) fn set_up(kind: WallKind, user: WorkerUser, launcher: Pid) -> Result<View, Unwalled> {
        if kind == WallKind::UserNamespaces {
            user.map().map_err(on_disk(WallStep::User))?;
        }
        sys::die_with_parent(sys::PARENT_DIED).map_err(at(WallStep::Parent))?;
        // The host's `/proc` is still there, and says who the parent is even across namespaces.
        let me = fs::read("/proc/self/stat").map_err(on_disk(WallStep::Parent))?;
        if super::tree::parent_in(&me) != Some(launcher) {
            return Err(Unwalled { step: WallStep::Parent, errno: libc::ESRCH });
        }
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", private).map_err(at(WallStep::Private))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount(c"proc", c"/proc", c"proc", flags, None).map_err(at(WallStep::Proc))?;
        let flags = MountFlags::NOSUID;
        rustix::mount::mount(c"maestro", ROOT, c"tmpfs", flags, ROOT_OPTIONS).map_err(at(WallStep::Root))?;
        show_proc().map_err(at(WallStep::Proc))?;
        show_system(kind).map_err(on_disk(WallStep::System))?;
        let settings = ShownSettings::make().map_err(on_disk(WallStep::System))?;
        make_devices().map_err(on_disk(WallStep::Devices))?;
        for folder in SCRATCH {
            make_folders(Path::new(folder), &mut Vec::new()).map_err(on_disk(WallStep::Root))?;
        }
        Ok(View { made: Vec::new(), settings })
    }

    /// The steps that bring an agent to its part. `entries` name a folder before what lies in it.
    ///
    /// # Errors
    /// With the number of the entry that cannot be shown, if it is one.
    pub(super) fn prepare(&mut self, entries: &[ViewEntry]) -> Result<Steps, (EntryNumber, io::Error)> {
        self.settings.renew().map_err(|error| (None, error))?;
        let mut fresh: Vec<PathBuf> = SCRATCH.map(PathBuf::from).to_vec();
        let mut steps = Vec::with_capacity(SCRATCH.len() + entries.len());
        for folder in SCRATCH {
            let target = below_root(Path::new(folder)).map_err(|error| (None, error))?;
            steps.push((None, ViewStep::Scratch { target }));
        }
        for (number, entry) in (0..).zip(entries) {
            let mut part = Vec::new();
            let prepared = self.prepare_entry(entry, &mut fresh, &mut part);
            prepared.map_err(|error| (Some(number), error))?;
            steps.extend(part.into_iter().map(|step| (Some(number), step)));
        }
        Ok(steps)
    }

    fn prepare_entry(
        &mut self,
        entry: &ViewEntry,
        fresh: &mut Vec<PathBuf>,
        steps: &mut Vec<ViewStep>,
    ) -> io::Result<()> {
        let path = Path::new(OsStr::from_bytes(&entry.path));
        let cover =
            fresh.iter().filter(|folder| path.starts_with(folder)).max_by_key(|f| f.as_os_str().len());
        let parent = path.parent().unwrap_or(Path::new("/"));
        match cover {
            Some(cover) => folder_steps(cover, parent, steps)?,
            None => make_folders(parent, &mut self.made)?,
        }
        match entry.kind {
            ViewKind::Hidden => {
                steps.push(ViewStep::Cover { target: below_root(path)? });
                fresh.push(path.to_owned());
            }
            ViewKind::Link => {
                steps.push(ViewStep::Link { text: c_string(&entry.text)?, target: spot(path)? })
            }
            ViewKind::Read | ViewKind::Write => {
                let is_folder = Path::new(OsStr::from_bytes(&entry.text)).symlink_metadata()?.is_dir();
                match (cover.is_some(), is_folder) {
                    (true, true) => steps.push(ViewStep::Folder { target: spot(path)? }),
                    (true, false) => steps.push(ViewStep::File { target: spot(path)? }),
                    (false, true) => make_folders(path, &mut self.made)?,
                    (false, false) => make_file(path, &mut self.made)?,
                }
                let writable = entry.kind == ViewKind::Write;
                let (source, target) = (c_string(&entry.text)?, within_root(path)?);
                steps.push(ViewStep::Bind { source, target, writable });
            }
        }
        Ok(())
    }

    /// Removes the places of an agent that is gone: the next one is not to learn even their names.
    pub(super) fn clear(&mut self) {
        for path in self.made.drain(..).rev() {
            let _ = match path.symlink_metadata() {
                Ok(found) if found.is_dir() => fs::remove_dir(path),
                _ => fs::remove_file(path),
            };
        }
    }
}

impl ShownSettings {
    fn make() -> io::Result<ShownSettings> {
        fs::create_dir(in_root(Path::new(SETTINGS_FOLDER)))?;
        let found = SettingsFound::look();
        fill_settings(&found)?;
        Ok(ShownSettings { mark: found.mark(), looked_at: Instant::now() })
    }

    /// Made anew for the next agent if the host's have changed, as far as somebody looked.
    fn renew(&mut self) -> io::Result<()> {
        if self.looked_at.elapsed() < SETTINGS_FRESH {
            return Ok(());
        }
        let found = SettingsFound::look();
        if found.mark() != self.mark {
            // None is there if an earlier try failed half-way.
            let _ = rustix::mount::unmount(in_root(Path::new(SETTINGS_FOLDER)), UnmountFlags::DETACH);
            fill_settings(&found)?;
        }
        *self = ShownSettings { mark: found.mark(), looked_at: Instant::now() };
        Ok(())
    }
}

/// An agent finds it read-only: what its type names below `/etc` beside needs a place until then.
fn fill_settings(found: &SettingsFound) -> io::Result<()> {
    let place = in_root(Path::new(SETTINGS_FOLDER));
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(c"maestro", &place, c"tmpfs", flags, SETTINGS_OPTIONS)?;
    found.copy(in_root)
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn root() -> &'static Path {
    Path::new(OsStr::from_bytes(ROOT.to_bytes()))
}

/// The place of a host's path in the future root.
fn in_root(path: &Path) -> PathBuf {
    root().join(path.strip_prefix("/").unwrap_or(path))
}

fn below_root(path: &Path) -> io::Result<CString> {
    let lawful = path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
    if !lawful {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    c_string(in_root(path).as_os_str().as_bytes())
}

/// The same, relative to the root.
fn within_root(path: &Path) -> io::Result<CString> {
    below_root(path)?;
    let inside = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
    c_string(if inside.is_empty() { b"." } else { inside })
}

fn spot(path: &Path) -> io::Result<Spot> {
    let folder = within_root(path.parent().unwrap_or(Path::new("/")))?;
    Ok(Spot { folder, name: c_string(path.file_name().unwrap_or(OsStr::new(".")).as_bytes())? })
}

/// Makes a path of folders in the root and notes those that were missing.
fn make_folders(path: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut place = root().to_owned();
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        place.push(name);
        match fs::DirBuilder::new().mode(0o755).create(&place) {
            Ok(()) => made.push(place.clone()),
            // Within the system's folders everything is there, and nothing may be made.
            Err(_) if place.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn make_file(path: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let place = in_root(path);
    match fs::OpenOptions::new().write(true).create_new(true).open(&place) {
        Ok(_) => made.push(place),
        Err(_) if place.exists() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The same for a path in a folder that only the agent itself will have: from below `cover` down.
fn folder_steps(cover: &Path, path: &Path, steps: &mut Vec<ViewStep>) -> io::Result<()> {
    let Ok(inside) = path.strip_prefix(cover) else { return Ok(()) };
    let mut place = cover.to_owned();
    for part in inside.components() {
        place.push(part);
        steps.push(ViewStep::Folder { target: spot(&place)? });
    }
    Ok(())
}

/// The mount of these processes alone, to be read: root's own files in it would let even a root without
/// capabilities change the host.
fn show_proc() -> Result<(), Errno> {
    let place = c"/proc/driver/proc";
    rustix::fs::mkdirat(CWD, place, Mode::from_raw_mode(0o555))?;
    rustix::mount::mount_bind(c"/proc", place)?;
    set_mount_read_only(place, MountDepth::Alone)
}

fn show_system(kind: WallKind) -> io::Result<()> {
    for folder in SYSTEM_FOLDERS.into_iter().filter(|folder| *folder != SETTINGS_FOLDER) {
        let (path, place) = (Path::new(folder), in_root(Path::new(folder)));
        let Ok(found) = path.symlink_metadata() else { continue };
        if found.is_symlink() {
            symlink(fs::read_link(path)?, &place)?;
        } else if found.is_dir() {
            fs::create_dir(&place)?;
            // What else is mounted in there (debugging, control groups) is not for agents; within a user
            // namespace the kernel does not let the two be separated, and an ordinary user sees little in it.
            let with_others = folder != "/sys" || kind == WallKind::UserNamespaces;
            show(path, &place, if with_others { MountDepth::Whole } else { MountDepth::Alone })?;
        }
    }
    Ok(())
}

fn show(source: &Path, place: &Path, depth: MountDepth) -> io::Result<()> {
    match depth {
        MountDepth::Whole => rustix::mount::mount_bind_recursive(source, place)?,
        MountDepth::Alone => rustix::mount::mount_bind(source, place)?,
    }
    Ok(set_mount_read_only(&c_string(place.as_os_str().as_bytes())?, depth)?)
}

fn make_devices() -> io::Result<()> {
    let folder = in_root(Path::new("/dev"));
    fs::create_dir(&folder)?;
    for (name, major, minor) in DEVICES {
        let place = folder.join(name);
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(0o666);
        // What a user namespace may not make is shown.
        if rustix::fs::mknodat(CWD, &place, FileType::CharacterDevice, mode, device).is_err() {
            fs::write(&place, "")?;
            rustix::mount::mount_bind(Path::new("/dev").join(name), &place)?;
            // The device works as before; its mode and times are the host's, and stay.
            set_mount_read_only(&c_string(place.as_os_str().as_bytes())?, MountDepth::Alone)?;
        }
    }
    for (name, text) in DEVICE_LINKS {
        symlink(text, folder.join(name))?;
    }
    let terminals = folder.join("pts");
    fs::create_dir(&terminals)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let options = c"newinstance,ptmxmode=0666,mode=620";
    Ok(rustix::mount::mount(c"devpts", terminals, c"devpts", flags, options)?)
}
