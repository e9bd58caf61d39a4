//! From tar entries to a folder, without trusting them.
//!
//! Everything is made below one opened folder, and until the end there is no symbolic link in it: no entry can
//! lead another one out. Nothing is replaced: a name that comes twice is refused. What stands in a link is kept
//! as it is, because working trees have links to system folders; a reader of the tree must not follow them.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use maestro_model::snapshot::{ArchivedFile, ArchivedKind, EntryPath, FileDigest};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};

/// Bits of a mode that nobody may bring along: set-uid and set-gid.
const MODE_FORBIDDEN: u32 = 0o6000;
/// Mode of folders while they are being filled.
const FOLDER_MODE: u32 = 0o700;
/// Bytes read at one time; a block of zeros of this size becomes a hole.
const PORTION: usize = 64 << 10;
/// Longest path of an entry.
const PATH_MAX: usize = 64 << 10;
/// Longest content of a symbolic link.
const LINK_MAX: usize = 4095;

/// How much an archive may bring.
#[derive(Debug, Clone, Copy)]
pub struct UnpackLimits {
    /// Bytes of all files, holes included.
    pub bytes: u64,
    /// Entries of any kind.
    pub entries: u64,
}

/// What was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnpackSummary {
    /// Files, further names included.
    pub files: u64,
    /// Folders that have an entry of their own.
    pub folders: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Why unpacking stopped. What has been made so far is left for the caller to remove.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive tries what no archive of ours does.
    #[error("the archive is refused: `{}` {what}", entry.display())]
    Hostile { entry: PathBuf, what: &'static str },
    /// It brings more than was announced.
    #[error("the archive is refused: it has more than {most} {of}")]
    TooLarge { of: &'static str, most: u64 },
    /// It ends too soon, or is no archive.
    #[error("the archive cannot be read")]
    Unreadable(#[source] io::Error),
    /// The host fails.
    #[error("cannot make `{}`", path.display())]
    Host { path: PathBuf, source: io::Error },
}

/// Unpacks into a folder that is there and empty.
///
/// # Errors
/// `Hostile`, `TooLarge`, `Unreadable`, `Host`.
pub fn unpack_tree(
    archive: impl Read,
    into: &Path,
    limits: UnpackLimits,
) -> Result<UnpackSummary, UnpackError> {
    unpack(archive, into, limits, None)
}

/// Unpacks what an archive of a snapshot has below `entry`, and the folder's own mode and time, into a folder that is
/// there and empty. Each entry is told with the digest of what was written.
///
/// # Errors
/// As `unpack_tree`; `Hostile` also for what does not lie below `entry`.
pub fn unpack_archived(
    archive: impl Read,
    entry: &EntryPath,
    into: &Path,
    limits: UnpackLimits,
    on_file: &mut dyn FnMut(ArchivedFile),
) -> Result<UnpackSummary, UnpackError> {
    unpack(archive, into, limits, Some(Archived { below: entry, on_file }))
}

fn unpack(
    archive: impl Read,
    into: &Path,
    limits: UnpackLimits,
    archived: Option<Archived<'_>>,
) -> Result<UnpackSummary, UnpackError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(into, flags, Mode::empty())
        .map_err(|error| UnpackError::Host { path: into.to_owned(), source: error.into() })?;
    let mut unpacker = Unpacker {
        root,
        limits,
        archived,
        entries: 0,
        summary: UnpackSummary::default(),
        files: HashSet::new(),
        folders: Vec::new(),
        links: Vec::new(),
        top: None,
        buffer: vec![0; PORTION],
    };
    let mut archive = Archive::new(archive);
    for entry in archive.entries().map_err(UnpackError::Unreadable)? {
        unpacker.on_entry(&mut entry.map_err(UnpackError::Unreadable)?)?;
    }
    unpacker.finish()
}

/// What is unpacked of a larger archive, and who is told of it.
struct Archived<'a> {
    below: &'a EntryPath,
    on_file: &'a mut dyn FnMut(ArchivedFile),
}

impl Archived<'_> {
    /// The rest of a name below the folder that is unpacked.
    fn rest<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        match name.strip_prefix(self.below.as_bytes())? {
            b"" => Some(b""),
            rest => rest.strip_prefix(b"/"),
        }
    }

    fn tell(&mut self, name: &[u8], mode: u32, kind: ArchivedKind) -> Result<(), UnpackError> {
        let path = EntryPath::new(name).map_err(|_| hostile(name, "has an unlawful name"))?;
        (self.on_file)(ArchivedFile { path, mode, kind });
        Ok(())
    }
}

/// A change that waits for the end.
struct Pending {
    path: PathBuf,
    mode: u32,
    time: Timespec,
    /// What a symbolic link says.
    target: Vec<u8>,
}

struct Unpacker<'a> {
    root: OwnedFd,
    limits: UnpackLimits,
    archived: Option<Archived<'a>>,
    entries: u64,
    summary: UnpackSummary,
    /// Regular files so far: what a hard link may name.
    files: HashSet<PathBuf>,
    folders: Vec<Pending>,
    links: Vec<Pending>,
    /// Mode and time of the folder itself.
    top: Option<(u32, Timespec)>,
    buffer: Vec<u8>,
}

impl Unpacker<'_> {
    fn on_entry<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(UnpackError::TooLarge { of: "entries", most: self.limits.entries });
        }
        let bytes = entry.path_bytes().into_owned();
        let kind = entry.header().entry_type();
        let bytes = match kind {
            EntryType::Directory => bytes.strip_suffix(b"/").unwrap_or(&bytes),
            _ => &bytes,
        };
        let path = lawful_path(self.name_within(bytes)?)?;
        let mode = entry.header().mode().map_err(UnpackError::Unreadable)?;
        if mode & MODE_FORBIDDEN != 0 {
            return Err(hostile(bytes, "has a set-uid or set-gid bit"));
        }
        let time = time_of(entry)?;
        let made = match kind {
            EntryType::Directory if path.as_os_str().is_empty() => {
                // `./`, or the folder's own entry.
                self.top = self.archived.is_some().then_some((mode, time));
                ArchivedKind::Folder
            }
            _ if path.as_os_str().is_empty() => return Err(hostile(bytes, "has no name")),
            EntryType::Directory => self.on_folder(path, mode, time)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.on_file(entry, path, mode, time)?
            }
            EntryType::Symlink => {
                let target = link_of(entry, bytes)?;
                let kind = ArchivedKind::symlink(&target);
                self.links.push(Pending { path, mode, time, target });
                kind
            }
            EntryType::Link => {
                let target = link_of(entry, bytes)?;
                self.on_further_name(self.name_within(&target)?, path)?;
                let target = EntryPath::new(&target);
                // Only who is told of an entry needs its name as one of the archive.
                match target {
                    Ok(target) => ArchivedKind::HardLink { target },
                    Err(_) if self.archived.is_none() => return Ok(()),
                    Err(_) => return Err(hostile(bytes, "is a link to nothing that can be")),
                }
            }
            _ => return Err(hostile(bytes, "is neither file, folder nor link")),
        };
        match &mut self.archived {
            Some(archived) => archived.tell(bytes, mode, made),
            None => Ok(()),
        }
    }

    /// The part of an entry's name that counts here.
    fn name_within<'n>(&self, name: &'n [u8]) -> Result<&'n [u8], UnpackError> {
        match &self.archived {
            Some(archived) => archived.rest(name).ok_or_else(|| hostile(name, "is not of this workspace")),
            None => Ok(name),
        }
    }

    fn on_folder(&mut self, path: PathBuf, mode: u32, time: Timespec) -> Result<ArchivedKind, UnpackError> {
        let (parent, name) = self.place(&path)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(FOLDER_MODE)) {
            // Made already, on the way to something in it.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(host(&path, error)),
        }
        self.open_folder(&path).map_err(|error| refused(&path, error))?;
        self.summary.folders += 1;
        self.folders.push(Pending { path, mode, time, target: Vec::new() });
        Ok(ArchivedKind::Folder)
    }

    fn on_file<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        path: PathBuf,
        mode: u32,
        time: Timespec,
    ) -> Result<ArchivedKind, UnpackError> {
        let size = entry.size();
        self.summary.bytes = self.summary.bytes.saturating_add(size);
        if self.summary.bytes > self.limits.bytes {
            return Err(UnpackError::TooLarge { of: "bytes", most: self.limits.bytes });
        }
        let (parent, name) = self.place(&path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(made.map_err(|error| refused(&path, error))?);
        let sparse = entry.header().entry_type() == EntryType::GNUSparse;
        let sha256 = self.fill(entry, &mut file, &path, sparse)?;
        let set = rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))
            .and_then(|()| rustix::fs::futimens(&file, &times(time)));
        set.map_err(|error| host(&path, error))?;
        self.summary.files += 1;
        self.files.insert(path);
        Ok(ArchivedKind::File { size, sha256 })
    }

    /// Writes a file's content; its digest, if somebody is told.
    fn fill<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        file: &mut File,
        path: &Path,
        sparse: bool,
    ) -> Result<FileDigest, UnpackError> {
        let at_host = |source| UnpackError::Host { path: path.to_owned(), source };
        let mut digest = Sha256::new();
        let mut left = entry.size();
        while left > 0 {
            let most = left.min(PORTION as u64) as usize;
            let portion = &mut self.buffer[..most];
            entry.read_exact(portion).map_err(UnpackError::Unreadable)?;
            if self.archived.is_some() {
                digest.update(&*portion);
            }
            if sparse && portion.iter().all(|byte| *byte == 0) {
                file.seek(SeekFrom::Current(most as i64)).map_err(at_host)?;
            } else {
                file.write_all(portion).map_err(at_host)?;
            }
            left -= most as u64;
        }
        if sparse {
            file.set_len(entry.size()).map_err(at_host)?;
        }
        Ok(FileDigest(digest.finalize().into()))
    }

    fn on_further_name(&mut self, target: &[u8], path: PathBuf) -> Result<(), UnpackError> {
        let first = lawful_path(target)?;
        if !self.files.contains(&first) {
            return Err(hostile(path.as_os_str().as_bytes(), "is a link to what is no file of the archive"));
        }
        let (from, old) = self.place(&first)?;
        let (to, new) = self.place(&path)?;
        rustix::fs::linkat(&from, old, &to, new, AtFlags::empty()).map_err(|error| refused(&path, error))?;
        self.summary.files += 1;
        self.files.insert(path);
        Ok(())
    }

    /// The folder in which a path's last name goes; folders without an entry before are made.
    fn place<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), UnpackError> {
        let name = path.file_name().expect("a lawful path that is not empty has a name");
        let parent = path.parent().unwrap_or(Path::new(""));
        let opened = self.open_folder(parent).or_else(|error| {
            if error != Errno::NOENT {
                return Err(error);
            }
            self.make_folders(parent)?;
            self.open_folder(parent)
        });
        Ok((opened.map_err(|error| refused(path, error))?, name))
    }

    fn open_folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), within)
    }

    fn make_folders(&self, path: &Path) -> Result<(), Errno> {
        let mut so_far = PathBuf::new();
        let mut parent = self.open_folder(&so_far)?;
        for name in path.iter() {
            match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(FOLDER_MODE)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            so_far.push(name);
            parent = self.open_folder(&so_far)?;
        }
        Ok(())
    }

    /// Links, and then what folders look like, the deepest first: making something in one changes its time.
    fn finish(mut self) -> Result<UnpackSummary, UnpackError> {
        for link in std::mem::take(&mut self.links) {
            let (parent, name) = self.place(&link.path)?;
            let target = OsStr::from_bytes(&link.target);
            let made = rustix::fs::symlinkat(target, &parent, name).and_then(|()| {
                rustix::fs::utimensat(&parent, name, &times(link.time), AtFlags::SYMLINK_NOFOLLOW)
            });
            made.map_err(|error| refused(&link.path, error))?;
            self.summary.links += 1;
        }
        let mut folders = std::mem::take(&mut self.folders);
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.path.iter().count()));
        for folder in folders {
            let (parent, name) = self.place(&folder.path)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let set = rustix::fs::openat(&parent, name, flags, Mode::empty()).and_then(|opened| {
                rustix::fs::fchmod(opened.as_fd(), Mode::from_raw_mode(folder.mode & 0o777))?;
                rustix::fs::futimens(&opened, &times(folder.time))
            });
            set.map_err(|error| host(&folder.path, error))?;
        }
        if let Some((mode, time)) = self.top {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let set = rustix::fs::openat(&self.root, ".", flags, Mode::empty()).and_then(|opened| {
                rustix::fs::fchmod(opened.as_fd(), Mode::from_raw_mode(mode & 0o777))?;
                rustix::fs::futimens(&opened, &times(time))
            });
            set.map_err(|error| host(Path::new("."), error))?;
        }
        Ok(self.summary)
    }
}

fn host(path: &Path, error: Errno) -> UnpackError {
    UnpackError::Host { path: path.to_owned(), source: error.into() }
}

fn hostile(entry: &[u8], what: &'static str) -> UnpackError {
    UnpackError::Hostile { entry: PathBuf::from(OsStr::from_bytes(entry)), what }
}

/// What a refusal of the system says of the archive.
fn refused(path: &Path, error: Errno) -> UnpackError {
    let what = match error {
        Errno::EXIST => "is in it twice",
        Errno::NOTDIR | Errno::LOOP | Errno::XDEV => "lies below what is no folder",
        _ => return host(path, error),
    };
    hostile(path.as_os_str().as_bytes(), what)
}

/// A relative path without `..`; `.` is left out.
fn lawful_path(bytes: &[u8]) -> Result<PathBuf, UnpackError> {
    if bytes.len() > PATH_MAX || bytes.contains(&0) {
        return Err(hostile(&bytes[..bytes.len().min(LINK_MAX)], "has an impossible name"));
    }
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err(hostile(bytes, "leads out of its folder")),
            Component::RootDir | Component::Prefix(_) => return Err(hostile(bytes, "is an absolute name")),
        }
    }
    Ok(path)
}

fn link_of<R: Read>(entry: &Entry<'_, R>, path: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let target = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
    if target.is_empty() || target.len() > LINK_MAX || target.contains(&0) {
        return Err(hostile(path, "is a link to nothing that can be"));
    }
    Ok(target)
}

fn times(time: Timespec) -> Timestamps {
    Timestamps { last_access: time, last_modification: time }
}

/// The time of the last change, from the entry before if it has one that is finer.
fn time_of<R: Read>(entry: &mut Entry<'_, R>) -> Result<Timespec, UnpackError> {
    let seconds = entry.header().mtime().map_err(UnpackError::Unreadable)?;
    let mut time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    let Some(extensions) = entry.pax_extensions().map_err(UnpackError::Unreadable)? else { return Ok(time) };
    for extension in extensions {
        let extension = extension.map_err(UnpackError::Unreadable)?;
        if extension.key_bytes() != b"mtime" {
            continue;
        }
        let fine = extension.value().ok().and_then(|text| {
            let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
            let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
            Some(Timespec { tv_sec: seconds.parse().ok()?, tv_nsec: digits.parse().ok()? })
        });
        time = fine.unwrap_or(time);
    }
    Ok(time)
}
