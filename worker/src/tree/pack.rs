//! From a folder to tar entries, without following any link.
//!
//! Files may change or vanish meanwhile: what was announced in a header is what follows it, padded or cut,
//! and a note says so. Sockets, pipes and devices are left out with a note; they would mean nothing elsewhere.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use super::digest::FileDigester;
use super::sparse::{Stretch, describe, stretches};

/// Deepest folder that is followed; each level costs an open descriptor.
const DEPTH_MAX: usize = 256;
/// Most notes that are kept; their number goes on.
const NOTES_MAX: usize = 1000;
/// Bits of a mode that are kept: a set-uid bit made by one agent is no gift to another.
const MODE_KEPT: u32 = 0o777;

/// Why packing stopped.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The folder itself cannot be read.
    #[error("cannot read the folder `{}`", path.display())]
    Root { path: PathBuf, source: io::Error },
    /// The stream cannot be written.
    #[error("cannot write the archive")]
    Output(#[source] io::Error),
}

/// What was odd about one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackTrouble {
    /// It was gone before it was read.
    Vanished,
    /// It was longer or shorter than announced when it was read.
    Changed,
    /// It is neither file, folder nor link.
    Special,
    /// It could not be read.
    Unreadable,
    /// It lies too deep.
    TooDeep,
}

/// An entry that is not in the archive as it was in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackNote {
    /// Its path in the archive.
    pub path: PathBuf,
    /// What was odd.
    pub trouble: PackTrouble,
}

/// What went into an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackSummary {
    /// Regular files, further names of one included.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of files, holes not counted.
    pub bytes: u64,
    /// What was odd, the first thousand of it.
    pub notes: Vec<PackNote>,
    /// How much was odd in all.
    pub odd: u64,
}

/// An entry as it went into an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedEntry {
    /// Its name, of a folder without a `/` at the end.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
    /// What it is.
    pub kind: PackedKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackedKind {
    /// A folder.
    Folder,
    /// A file: its bytes, holes included, and their SHA-256.
    File {
        /// How many.
        size: u64,
        /// Of them.
        sha256: [u8; 32],
    },
    /// Another name of a file before it.
    HardLink {
        /// The name of its entry.
        target: PathBuf,
    },
    /// A symbolic link.
    Symlink {
        /// What stands in it.
        target: Vec<u8>,
    },
}

/// Hears of each entry once all of it has been written.
pub type EntryListener = Box<dyn FnMut(PackedEntry) + Send>;

/// Writes folders as tar entries.
pub struct TreePacker<W: Write> {
    builder: Builder<W>,
    listener: Option<EntryListener>,
    /// Files with several names, and the first of these.
    first_names: HashMap<(u64, u64), PathBuf>,
    summary: PackSummary,
}

impl<W: Write> TreePacker<W> {
    /// Writes to `output`, in pieces as small as a header: buffer it.
    pub fn new(output: W) -> TreePacker<W> {
        TreePacker {
            builder: Builder::new(output),
            listener: None,
            first_names: HashMap::new(),
            summary: PackSummary::default(),
        }
    }

    /// Lets somebody hear of each entry; only then are files digested.
    #[must_use]
    pub fn telling(mut self, listener: EntryListener) -> TreePacker<W> {
        self.listener = Some(listener);
        self
    }

    fn tell(&mut self, path: &Path, mode: u32, kind: PackedKind) {
        if let Some(listener) = &mut self.listener {
            listener(PackedEntry { path: path.to_owned(), mode: mode & MODE_KEPT, kind });
        }
    }

    /// Adds a folder and all below it, under the name `as_name` (empty: its entries without it).
    ///
    /// # Errors
    /// `Root` if the folder cannot be opened, `Output`.
    pub fn add(&mut self, folder: &Path, as_name: &Path) -> Result<(), PackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(folder, flags, Mode::empty());
        let at_root = |source: Errno| PackError::Root { path: folder.to_owned(), source: source.into() };
        let opened = opened.map_err(at_root)?;
        if !as_name.as_os_str().is_empty() {
            let stat = rustix::fs::fstat(&opened).map_err(at_root)?;
            self.write_folder(as_name, &stat)?;
        }
        self.add_entries(opened, as_name, 0)
    }

    /// Ends the archive; what was written to is given back.
    ///
    /// # Errors
    /// `Output`.
    pub fn finish(self) -> Result<(W, PackSummary), PackError> {
        let output = self.builder.into_inner().map_err(PackError::Output)?;
        Ok((output, self.summary))
    }

    fn note(&mut self, path: &Path, trouble: PackTrouble) {
        self.summary.odd += 1;
        if self.summary.notes.len() < NOTES_MAX {
            self.summary.notes.push(PackNote { path: path.to_owned(), trouble });
        }
    }

    fn add_entries(&mut self, folder: OwnedFd, path: &Path, depth: usize) -> Result<(), PackError> {
        let Ok(mut names) = sorted_names(&folder) else {
            self.note(path, PackTrouble::Unreadable);
            return Ok(());
        };
        for name in names.drain(..) {
            let path = path.join(OsStr::from_bytes(&name));
            let stat = match rustix::fs::statat(&folder, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(error) => {
                    self.note(&path, trouble_of(error));
                    continue;
                }
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => self.add_folder(&folder, &name, &path, &stat, depth)?,
                FileType::RegularFile => self.add_file(&folder, &name, &path, &stat)?,
                FileType::Symlink => self.add_link(&folder, &name, &path, &stat)?,
                _ => self.note(&path, PackTrouble::Special),
            }
        }
        Ok(())
    }

    fn add_folder(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &Path,
        stat: &Stat,
        depth: usize,
    ) -> Result<(), PackError> {
        if depth == DEPTH_MAX {
            self.note(path, PackTrouble::TooDeep);
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Ok(folder) => {
                self.write_folder(path, stat)?;
                self.add_entries(folder, path, depth + 1)
            }
            Err(error) => {
                self.note(path, trouble_of(error));
                Ok(())
            }
        }
    }

    fn write_folder(&mut self, path: &Path, stat: &Stat) -> Result<(), PackError> {
        let mut header = header_of(stat, EntryType::Directory);
        header.set_size(0);
        self.summary.folders += 1;
        self.write(&mut header, stat, path, io::empty())?;
        self.tell(path, stat.st_mode, PackedKind::Folder);
        Ok(())
    }

    fn add_link(&mut self, parent: &OwnedFd, name: &[u8], path: &Path, stat: &Stat) -> Result<(), PackError> {
        let target = match rustix::fs::readlinkat(parent, name, Vec::new()) {
            Ok(target) => target,
            Err(error) => {
                self.note(path, trouble_of(error));
                return Ok(());
            }
        };
        let mut header = header_of(stat, EntryType::Symlink);
        header.set_size(0);
        self.summary.links += 1;
        // Literally: a path would be tidied, and a link is whatever stands in it.
        if header.set_link_name_literal(target.as_bytes()).is_ok() {
            self.write(&mut header, stat, path, io::empty())?;
        } else {
            self.write_time(stat)?;
            let target = Path::new(OsStr::from_bytes(target.as_bytes()));
            self.builder.append_link(&mut header, path, target).map_err(PackError::Output)?;
        }
        self.tell(path, stat.st_mode, PackedKind::Symlink { target: target.into_bytes() });
        Ok(())
    }

    fn add_file(&mut self, parent: &OwnedFd, name: &[u8], path: &Path, stat: &Stat) -> Result<(), PackError> {
        if stat.st_nlink > 1
            && let Some(first) = self.first_names.get(&(stat.st_dev, stat.st_ino)).cloned()
        {
            let mut header = header_of(stat, EntryType::Link);
            header.set_size(0);
            self.summary.files += 1;
            self.builder.append_link(&mut header, path, &first).map_err(PackError::Output)?;
            self.tell(path, stat.st_mode, PackedKind::HardLink { target: first });
            return Ok(());
        }
        // Without O_NONBLOCK a file that has just become a pipe would hold everything up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(parent, name, flags, Mode::empty());
        let (file, stat) = match opened.and_then(|file| rustix::fs::fstat(&file).map(|stat| (file, stat))) {
            Ok((file, stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                (File::from(file), stat)
            }
            Ok(_) => {
                self.note(path, PackTrouble::Changed);
                return Ok(());
            }
            Err(error) => {
                self.note(path, trouble_of(error));
                return Ok(());
            }
        };
        self.write_file(file, path, &stat)?;
        if stat.st_nlink > 1 {
            self.first_names.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        Ok(())
    }

    fn write_file(&mut self, mut file: File, path: &Path, stat: &Stat) -> Result<(), PackError> {
        let size = stat.st_size as u64;
        let whole = [Stretch { from: 0, length: size }];
        let found = stretches(&file, size, stat.st_blocks as u64).unwrap_or_default();
        let mut header = header_of(stat, EntryType::Regular);
        let mut preamble = Vec::new();
        let parts: &[Stretch] = match &found {
            Some(found) => {
                header.set_entry_type(EntryType::GNUSparse);
                preamble = describe(header.as_gnu_mut().expect("it was made so"), found, size);
                found
            }
            None => &whole,
        };
        let length: u64 = parts.iter().map(|part| part.length).sum();
        header.set_size(length);
        // Where the header has no room for all stretches, blocks with the rest stand before the data.
        let mut changed = false;
        let mut digest = self.listener.is_some().then(|| FileDigester::new(size));
        let data =
            Announced { file: &mut file, parts, at: 0, changed: &mut changed, digest: digest.as_mut() };
        let body = io::Cursor::new(preamble).chain(data);
        self.summary.files += 1;
        self.summary.bytes += length;
        self.write(&mut header, stat, path, body)?;
        if changed || rustix::fs::fstat(&file).is_ok_and(|now| now.st_size != stat.st_size) {
            self.note(path, PackTrouble::Changed);
        }
        if let Some(digest) = digest {
            self.tell(path, stat.st_mode, PackedKind::File { size, sha256: digest.finish() });
        }
        Ok(())
    }

    fn write(
        &mut self,
        header: &mut Header,
        stat: &Stat,
        path: &Path,
        data: impl Read,
    ) -> Result<(), PackError> {
        self.write_time(stat)?;
        self.builder.append_data(header, path, data).map_err(PackError::Output)
    }

    /// Times finer than a second stand in an entry before.
    fn write_time(&mut self, stat: &Stat) -> Result<(), PackError> {
        let nanoseconds = stat.st_mtime_nsec;
        if nanoseconds == 0 || stat.st_mtime < 0 {
            return Ok(());
        }
        let time = format!("{}.{nanoseconds:09}", stat.st_mtime);
        let extension = [("mtime", time.as_bytes())];
        self.builder.append_pax_extensions(extension).map_err(PackError::Output)
    }
}

fn trouble_of(error: Errno) -> PackTrouble {
    match error {
        Errno::NOENT | Errno::NOTDIR => PackTrouble::Vanished,
        Errno::LOOP => PackTrouble::Changed,
        _ => PackTrouble::Unreadable,
    }
}

fn header_of(stat: &Stat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & MODE_KEPT);
    header.set_mtime(stat.st_mtime.max(0) as u64);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// The names in a folder, in the order of their bytes, so that one tree always gives one archive.
fn sorted_names(folder: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder.as_fd())? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Exactly the bytes that the header announced, whatever becomes of the file meanwhile.
struct Announced<'a> {
    file: &'a mut File,
    parts: &'a [Stretch],
    /// How far the first of `parts` has been read.
    at: u64,
    changed: &'a mut bool,
    digest: Option<&'a mut FileDigester>,
}

impl Read for Announced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = self.parts.first() {
            let left = part.length - self.at;
            if left == 0 {
                self.parts = &self.parts[1..];
                self.at = 0;
                continue;
            }
            if self.at == 0 {
                self.file.seek(io::SeekFrom::Start(part.from))?;
            }
            let most = left.min(buffer.len() as u64) as usize;
            let mut read = self.file.read(&mut buffer[..most]).unwrap_or(0);
            if read == 0 {
                *self.changed = true;
                buffer[..most].fill(0);
                read = most;
            }
            if let Some(digest) = &mut self.digest {
                digest.update(part.from + self.at, &buffer[..read]);
            }
            self.at += read as u64;
            return Ok(read);
        }
        Ok(0)
    }
}
