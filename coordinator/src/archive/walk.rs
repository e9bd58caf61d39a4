//! The entries of an archive, each checked before anybody sees it.
//!
//! Every rule that needs no manifest is here: names, kinds, modes, links, order, duplicates, sizes. What lies in a
//! folder needs that folder's entry before it, so nothing can lie below a link or a file.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use maestro_model::snapshot::{
    ArchiveFault, ArchivedFile, ArchivedKind, ENTRIES_MAX, EntryPath, EntryPlace, FileDigest, HOLE_BYTES_MAX,
    LINK_BYTES_MAX, MANIFEST_BYTES_MAX, MODE_MASK, MemberRange, SMALL_FILE_BYTES_MAX, STORED_BYTES_MAX, Seal,
    SnapshotPart, WorkspaceKey,
};
use sha2::{Digest, Sha256};
use tar::{Archive, Entries, Entry, EntryType};

use super::error::ArchiveReadError;
use super::members::{SharedMembers, StreamPosition};

/// Bytes read at one time.
const PORTION: usize = 64 << 10;
/// What may stand in front of an entry's content: its headers, long names, the list of a sparse file's parts.
const FRONT_BYTES_MAX: u64 = 1 << 20;
/// What an entry before the content may say of it in words; anything else could mean two things to two readers.
const EXTENSIONS: [&[u8]; 3] = [b"path", b"linkpath", b"mtime"];

/// How far reading has come, bytes of the archive's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadProgress {
    /// Read.
    pub done: u64,
    /// In all.
    pub total: u64,
}

/// An entry that keeps the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WalkedEntry {
    /// What it is; of a file size and digest as they were read.
    pub(super) file: ArchivedFile,
    pub(super) place: EntryPlace,
}

/// A workspace as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WalkedWorkspace {
    pub(super) key: WorkspaceKey,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) members: MemberRange,
    /// Whether its members hold nothing else.
    pub(super) is_apart: bool,
}

/// What was found out about the whole.
pub(super) struct WalkEnd {
    pub(super) seal: Seal,
    pub(super) manifest_digest: FileDigest,
    pub(super) workspaces: Vec<WalkedWorkspace>,
    pub(super) archive_bytes: u64,
}

/// Whether the rest is read as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onward {
    /// It is.
    Go,
    /// What was wanted has been read.
    Enough,
}

/// What is done with a file's content: whatever is left unread is read by the walk.
pub(super) type OnContent<'a> =
    dyn FnMut(SnapshotPart, &EntryPath, &mut dyn Read) -> Result<(), ArchiveReadError> + 'a;

/// Reads an archive to its end, or until `on_entry` has enough (then the answer is none). `on_content` is given what
/// parts that are files contain, `on_entry` every entry after it has been read.
///
/// # Errors
/// See [`ArchiveReadError`]; whatever has been told until then is of an archive that is refused.
pub(super) fn walk(
    path: &Path,
    on_content: &mut OnContent<'_>,
    on_entry: &mut dyn FnMut(WalkedEntry) -> Result<Onward, ArchiveReadError>,
    on_progress: &mut dyn FnMut(ReadProgress),
) -> Result<Option<WalkEnd>, ArchiveReadError> {
    let (members, position, total) = SharedMembers::open(path)?;
    let mut archive = Archive::new(members.clone());
    let mut walker = Walker::new(path, position);
    let mut entries = archive.entries().map_err(|error| walker.unreadable(error))?;
    while let Some((entry, start)) = walker.next(&mut entries)? {
        let walked = walker.on_entry(entry, start, on_content)?;
        if on_entry(walked)? == Onward::Enough {
            return Ok(None);
        }
        on_progress(ReadProgress { done: walker.position.in_file.get().min(total), total });
    }
    walker.close_workspace(walker.position.member.get().offset, true);
    let seal = members.finish()?.check_seal(path)?;
    let manifest_digest = walker.manifest.ok_or_else(|| missing("maestro/manifest.json"))?;
    on_progress(ReadProgress { done: total, total });
    Ok(Some(WalkEnd { seal, manifest_digest, workspaces: walker.workspaces, archive_bytes: total }))
}

/// What is known of a name that has been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Folder,
    File,
    Link,
}

/// The first half of a name's SHA-256: names themselves would fill the memory.
type NameMark = [u8; 16];

struct Walker<'a> {
    path: &'a Path,
    position: Rc<StreamPosition>,
    entries: u64,
    stored: u64,
    holes: u64,
    part: Option<SnapshotPart>,
    /// Entries outside of workspaces, or of the present workspace.
    names: HashMap<NameMark, Seen>,
    above: HashSet<EntryPath>,
    known_workspaces: HashSet<WorkspaceKey>,
    workspaces: Vec<WalkedWorkspace>,
    open: bool,
    manifest: Option<FileDigest>,
    buffer: Vec<u8>,
}

/// Where an entry began.
#[derive(Debug, Clone, Copy)]
struct EntryStart {
    /// Of its first member in the file.
    offset: u64,
    /// Whether it is the first of that member.
    is_first: bool,
}

impl<'a> Walker<'a> {
    fn new(path: &'a Path, position: Rc<StreamPosition>) -> Walker<'a> {
        position.allowance.set(FRONT_BYTES_MAX);
        Walker {
            path,
            position,
            entries: 0,
            stored: 0,
            holes: 0,
            part: None,
            names: HashMap::new(),
            above: HashSet::new(),
            known_workspaces: HashSet::new(),
            workspaces: Vec::new(),
            open: false,
            manifest: None,
            buffer: vec![0; PORTION],
        }
    }

    /// The library and the decoder speak of what they read: unless the disk failed, that is the archive's fault.
    fn unreadable(&self, error: std::io::Error) -> ArchiveReadError {
        if self.position.overdrawn.get() {
            return ArchiveFault::TooLarge { of: "bytes in front of an entry", most: FRONT_BYTES_MAX }.into();
        }
        if error.raw_os_error().is_some() {
            return ArchiveReadError::Disk { path: self.path.to_owned(), source: error };
        }
        ArchiveFault::Damaged { what: error.to_string() }.into()
    }

    fn next<'e>(
        &mut self,
        entries: &mut Entries<'e, SharedMembers>,
    ) -> Result<Option<(Entry<'e, SharedMembers>, EntryStart)>, ArchiveReadError> {
        let begins = self.position.at.get().next_multiple_of(512);
        self.position.allowance.set(FRONT_BYTES_MAX);
        let Some(entry) = entries.next() else { return Ok(None) };
        let entry = entry.map_err(|error| self.unreadable(error))?;
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(ArchiveFault::TooLarge { of: "entries", most: ENTRIES_MAX }.into());
        }
        let member = self.position.member.get();
        Ok(Some((entry, EntryStart { offset: member.offset, is_first: member.at == begins })))
    }

    fn on_entry(
        &mut self,
        mut entry: Entry<'_, SharedMembers>,
        start: EntryStart,
        on_content: &mut OnContent<'_>,
    ) -> Result<WalkedEntry, ArchiveReadError> {
        let kind = entry.header().entry_type();
        let bytes = entry.path_bytes().into_owned();
        let bytes = match kind {
            EntryType::Directory => bytes.strip_suffix(b"/").unwrap_or(&bytes),
            _ => &bytes,
        };
        let path = EntryPath::new(bytes)?;
        self.check_words(&mut entry, &path)?;
        let mode = entry.header().mode().map_err(|error| self.unreadable(error))?;
        if mode & !MODE_MASK != 0 {
            return Err(ArchiveFault::entry(&path, "has a set-uid, set-gid or sticky bit").into());
        }
        let place = EntryPlace::of(&path)?;
        self.enter(&place, &path, start)?;
        let (kind, seen) = match kind {
            EntryType::Directory => (ArchivedKind::Folder, Seen::Folder),
            EntryType::Regular | EntryType::GNUSparse => {
                (self.read_file(&mut entry, &path, &place, on_content)?, Seen::File)
            }
            EntryType::Symlink => (ArchivedKind::symlink(&link_of(&entry, &path)?), Seen::Link),
            EntryType::Link => (self.further_name(&entry, &path, &place)?, Seen::File),
            _ => return Err(ArchiveFault::entry(&path, "is neither file, folder nor link").into()),
        };
        self.check_place(&place, &path, seen)?;
        if let (Some(workspace), EntryPlace::Workspace { .. }) = (self.workspaces.last_mut(), &place) {
            workspace.entries += 1;
            if let ArchivedKind::File { size, .. } = &kind {
                workspace.bytes += size;
            }
        }
        Ok(WalkedEntry { file: ArchivedFile { path, mode, kind }, place })
    }

    /// Two readers must not understand an entry in two ways: sizes and sparse parts stand in headers only.
    fn check_words(
        &self,
        entry: &mut Entry<'_, SharedMembers>,
        path: &EntryPath,
    ) -> Result<(), ArchiveReadError> {
        let Some(words) = entry.pax_extensions().map_err(|error| self.unreadable(error))? else {
            return Ok(());
        };
        for word in words {
            let word = word.map_err(|error| self.unreadable(error))?;
            if !EXTENSIONS.contains(&word.key_bytes()) {
                return Err(ArchiveFault::entry(path, "has an extension that no snapshot has").into());
            }
        }
        Ok(())
    }

    /// Parts stand in their order, and a workspace is in one piece.
    fn enter(
        &mut self,
        place: &EntryPlace,
        path: &EntryPath,
        start: EntryStart,
    ) -> Result<(), ArchiveReadError> {
        let part = place.part();
        if part == SnapshotPart::Seal {
            return Err(ArchiveFault::entry(path, "stands before the end").into());
        }
        if self.part.is_some_and(|before| before > part) {
            return Err(ArchiveFault::entry(path, "stands in the wrong order").into());
        }
        self.part = Some(part);
        let EntryPlace::Workspace { key, .. } = place else {
            self.close_workspace(start.offset, start.is_first);
            return Ok(());
        };
        if self.open && self.workspaces.last().is_some_and(|open| open.key == *key) {
            return Ok(());
        }
        self.close_workspace(start.offset, start.is_first);
        if !self.known_workspaces.insert(key.clone()) {
            return Err(ArchiveFault::entry(path, "belongs to a workspace that was before").into());
        }
        self.names.clear();
        self.open = true;
        let members = MemberRange { offset: start.offset, length: 0 };
        let is_apart = start.is_first;
        self.workspaces.push(WalkedWorkspace { key: key.clone(), entries: 0, bytes: 0, members, is_apart });
        Ok(())
    }

    /// What follows begins at `offset`.
    fn close_workspace(&mut self, offset: u64, is_first: bool) {
        if let Some(workspace) = self.workspaces.last_mut().filter(|_| self.open) {
            workspace.members.length = offset - workspace.members.offset;
            workspace.is_apart &= is_first;
        }
        self.open = false;
    }

    /// Each name once; each below a folder that has an entry; each of the kind that belongs there.
    fn check_place(
        &mut self,
        place: &EntryPlace,
        path: &EntryPath,
        seen: Seen,
    ) -> Result<(), ArchiveReadError> {
        let wrong = |what: &str| Err(ArchiveFault::entry(path, what).into());
        match place {
            EntryPlace::Above(_) if seen != Seen::Folder => return wrong("has to be a folder"),
            EntryPlace::File(_) if seen != Seen::File => return wrong("has to be a file"),
            EntryPlace::Above(_) | EntryPlace::File(_) => {
                return if self.above.insert(path.clone()) { Ok(()) } else { wrong("is in it twice") };
            }
            EntryPlace::Workspace { below, .. } => {
                if below.is_empty() && seen != Seen::Folder {
                    return wrong("has to be a folder");
                }
                let parent = path.as_bytes().rsplitn(2, |byte| *byte == b'/').nth(1).unwrap_or_default();
                if !below.is_empty() && self.names.get(&mark_of(parent)) != Some(&Seen::Folder) {
                    return wrong("lies below what is no folder of the archive");
                }
            }
        }
        match self.names.insert(mark_of(path.as_bytes()), seen) {
            None => Ok(()),
            Some(_) => wrong("is in it twice"),
        }
    }

    fn read_file(
        &mut self,
        entry: &mut Entry<'_, SharedMembers>,
        path: &EntryPath,
        place: &EntryPlace,
        on_content: &mut OnContent<'_>,
    ) -> Result<ArchivedKind, ArchiveReadError> {
        let size = entry.size();
        let stored = entry.header().entry_size().map_err(|error| self.unreadable(error))?;
        self.limit(size, stored, place)?;
        // Everything behind it that is no content is in front of the next entry.
        self.position.allowance.set(stored.saturating_add(FRONT_BYTES_MAX));
        let mut digesting = Digesting { entry, digest: Sha256::new(), read: 0 };
        if let EntryPlace::File(part) = place {
            on_content(*part, path, &mut digesting)?;
        }
        loop {
            match digesting.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(self.unreadable(error)),
            }
        }
        if digesting.read != size {
            return Err(ArchiveFault::Damaged { what: format!("`{path}` is cut short") }.into());
        }
        let sha256 = FileDigest(digesting.digest.finalize().into());
        if *place == EntryPlace::File(SnapshotPart::Manifest) {
            self.manifest = Some(sha256);
        }
        Ok(ArchivedKind::File { size, sha256 })
    }

    fn limit(&mut self, size: u64, stored: u64, place: &EntryPlace) -> Result<(), ArchiveReadError> {
        let too_large = |of, most| Err(ArchiveFault::TooLarge { of, most }.into());
        self.stored = self.stored.saturating_add(stored);
        self.holes = self.holes.saturating_add(size.saturating_sub(stored));
        if self.stored > STORED_BYTES_MAX {
            return too_large("bytes", STORED_BYTES_MAX);
        }
        if self.holes > HOLE_BYTES_MAX {
            return too_large("bytes of holes", HOLE_BYTES_MAX);
        }
        match place {
            EntryPlace::File(SnapshotPart::Manifest) if size > MANIFEST_BYTES_MAX => {
                too_large("bytes of manifest", MANIFEST_BYTES_MAX)
            }
            EntryPlace::File(part) if !is_large(*part) && size > SMALL_FILE_BYTES_MAX => {
                too_large("bytes of one description", SMALL_FILE_BYTES_MAX)
            }
            _ => Ok(()),
        }
    }

    fn further_name(
        &self,
        entry: &Entry<'_, SharedMembers>,
        path: &EntryPath,
        place: &EntryPlace,
    ) -> Result<ArchivedKind, ArchiveReadError> {
        let target = EntryPath::new(&link_of(entry, path)?)?;
        let same = match (place, EntryPlace::of(&target)?) {
            (EntryPlace::Workspace { key, .. }, EntryPlace::Workspace { key: other, .. }) => *key == other,
            _ => false,
        };
        if !same || self.names.get(&mark_of(target.as_bytes())) != Some(&Seen::File) {
            return Err(ArchiveFault::entry(path, "is a link to what is no file of its workspace").into());
        }
        Ok(ArchivedKind::HardLink { target })
    }
}

fn is_large(part: SnapshotPart) -> bool {
    matches!(part, SnapshotPart::Dump | SnapshotPart::Manifest)
}

fn link_of(entry: &Entry<'_, SharedMembers>, path: &EntryPath) -> Result<Vec<u8>, ArchiveReadError> {
    let target = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
    if target.is_empty() || target.len() > LINK_BYTES_MAX || target.contains(&0) {
        return Err(ArchiveFault::entry(path, "is a link to nothing that can be").into());
    }
    Ok(target)
}

fn mark_of(name: &[u8]) -> NameMark {
    let digest = Sha256::digest(name);
    let mut mark = [0; 16];
    mark.copy_from_slice(&digest[..16]);
    mark
}

fn missing(what: &str) -> ArchiveFault {
    ArchiveFault::Missing { what: what.to_owned() }
}

/// A file's content, digested as it is read by whoever reads it.
struct Digesting<'e, 'a> {
    entry: &'e mut Entry<'a, SharedMembers>,
    digest: Sha256,
    read: u64,
}

impl Read for Digesting<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.entry.read(buffer)?;
        self.digest.update(&buffer[..read]);
        self.read += read as u64;
        Ok(read)
    }
}
