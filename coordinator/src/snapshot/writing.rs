//! The archive's file from front to back: gzip members one after the other, and the seal.
//!
//! What lies in it has been written elsewhere first, so nothing here is larger than a buffer.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use maestro_model::snapshot::{
    ArchivedFile, ArchivedKind, EntryPath, FileDigest, Manifest, MemberRange, Seal,
};
use sha2::digest::Output;
use sha2::{Digest, Sha256};

use super::error::SnapshotError;

/// Bytes of one read.
const PIECE_BYTES: usize = 256 << 10;
/// The mode of the archive's own entries.
const ENTRY_MODE: u32 = 0o600;
const BLOCK_BYTES: u64 = 512;
const LEVEL: u32 = 6;

/// The file that is being written.
pub(super) struct ArchiveWriter {
    path: PathBuf,
    output: HashedFile,
    /// Lines of the manifest: every entry so far.
    entries: ManifestLines,
    time: u64,
}

/// A file that knows what was written to it.
struct HashedFile {
    file: BufWriter<File>,
    digest: Sha256,
    written: u64,
}

/// Entries on disk, as they will stand in the manifest.
pub(super) struct ManifestLines {
    path: PathBuf,
    file: BufWriter<File>,
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl ArchiveWriter {
    /// Begins at `folder`, in which the manifest's lines are kept too. `time` is that of its own entries, s.
    pub(super) fn begin(folder: &Path, time: u64) -> Result<ArchiveWriter, SnapshotError> {
        let path = folder.join("archive.tar.gz");
        let file = File::create(&path).map_err(SnapshotError::disk(&path))?;
        let output = HashedFile { file: BufWriter::new(file), digest: Sha256::new(), written: 0 };
        let entries = ManifestLines::begin(folder.join("entries.part"))?;
        Ok(ArchiveWriter { path, output, entries, time })
    }

    /// What will stand in the manifest.
    pub(super) fn entries(&mut self) -> &mut ManifestLines {
        &mut self.entries
    }

    /// Adds a file of ours as a member of its own.
    pub(super) fn add_file(&mut self, name: &str, content: &Path) -> Result<(), SnapshotError> {
        let file = self.write_entry(name, content)?;
        self.entries.add(&file)
    }

    fn write_entry(&mut self, name: &str, content: &Path) -> Result<ArchivedFile, SnapshotError> {
        let failed = SnapshotError::disk(content);
        let mut input = File::open(content).map_err(SnapshotError::disk(content))?;
        let size = input.metadata().map_err(failed)?.len();
        let mut encoder = GzEncoder::new(&mut self.output, Compression::new(LEVEL));
        let copied = write_tar_entry(&mut encoder, name, size, self.time, &mut input);
        let digest = copied.and_then(|digest| encoder.finish().map(|_| digest));
        let sha256 = digest.map_err(SnapshotError::disk(&self.path))?;
        let path = EntryPath::new(name.as_bytes()).expect("a name of ours");
        Ok(ArchivedFile { path, mode: ENTRY_MODE, kind: ArchivedKind::File { size, sha256 } })
    }

    /// Adds members that somebody else made.
    pub(super) fn append(&mut self, members: &[u8]) -> Result<(), SnapshotError> {
        self.output.write_all(members).map_err(SnapshotError::disk(&self.path))
    }

    /// Adds all members of a file; where they lie now.
    pub(super) fn append_file(&mut self, path: &Path) -> Result<MemberRange, SnapshotError> {
        let offset = self.output.written;
        let mut input = File::open(path).map_err(SnapshotError::disk(path))?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = input.read(&mut piece).map_err(SnapshotError::disk(path))?;
            if read == 0 {
                return Ok(MemberRange { offset, length: self.output.written - offset });
            }
            self.append(&piece[..read])?;
        }
    }

    /// Writes manifest and seal and makes sure that all of it is on disk. `manifest.files` must be empty: they are
    /// the entries that were added.
    pub(super) fn finish(mut self, manifest: &Manifest, folder: &Path) -> Result<PathBuf, SnapshotError> {
        let path = folder.join("manifest.json");
        self.entries.write_manifest(manifest, &path)?;
        let file = self.write_entry("maestro/manifest.json", &path)?;
        let ArchivedKind::File { sha256, .. } = file.kind else { unreachable!("it was made as one") };
        let before: Output<Sha256> = self.output.digest.clone().finalize();
        let seal =
            Seal { manifest: sha256, before: FileDigest(before.into()), before_bytes: self.output.written };
        self.append(&seal.member())?;
        let failed = SnapshotError::disk(&self.path);
        let file = self.output.file.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all()).map_err(failed)?;
        Ok(self.path)
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// One whole entry: header, content, padding. The digest of the content comes back.
fn write_tar_entry(
    output: &mut impl Write,
    name: &str,
    size: u64,
    time: u64,
    content: &mut impl Read,
) -> io::Result<FileDigest> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(ENTRY_MODE);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    output.write_all(header.as_bytes())?;
    let mut digest = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = size;
    while left > 0 {
        let most = left.min(PIECE_BYTES as u64) as usize;
        content.read_exact(&mut piece[..most])?;
        digest.update(&piece[..most]);
        output.write_all(&piece[..most])?;
        left -= most as u64;
    }
    let padding = (BLOCK_BYTES - size % BLOCK_BYTES) % BLOCK_BYTES;
    output.write_all(&[0; BLOCK_BYTES as usize][..padding as usize])?;
    let digest: Output<Sha256> = digest.finalize();
    Ok(FileDigest(digest.into()))
}

impl ManifestLines {
    pub(super) fn begin(path: PathBuf) -> Result<ManifestLines, SnapshotError> {
        let file = File::create(&path).map_err(SnapshotError::disk(&path))?;
        Ok(ManifestLines { path, file: BufWriter::new(file), count: 0, bytes: 0 })
    }

    /// Adds one entry.
    pub(super) fn add(&mut self, file: &ArchivedFile) -> Result<(), SnapshotError> {
        let separator = if self.count == 0 { "\n" } else { ",\n" };
        self.count += 1;
        if let ArchivedKind::File { size, .. } = file.kind {
            self.bytes += size;
        }
        let line = serde_json::to_string(file).expect("plain data");
        let written = self.file.write_all(separator.as_bytes());
        written.and_then(|()| self.file.write_all(line.as_bytes())).map_err(SnapshotError::disk(&self.path))
    }

    /// Adds the entries of another list.
    pub(super) fn add_all(&mut self, other: ManifestLines) -> Result<(), SnapshotError> {
        let ManifestLines { path, mut file, count, bytes } = other;
        file.flush().map_err(SnapshotError::disk(&path))?;
        if count > 0 && self.count > 0 {
            self.file.write_all(b",").map_err(SnapshotError::disk(&self.path))?;
        }
        let mut input = File::open(&path).map_err(SnapshotError::disk(&path))?;
        io::copy(&mut input, &mut self.file).map_err(SnapshotError::disk(&self.path))?;
        self.count += count;
        self.bytes += bytes;
        Ok(())
    }

    fn write_manifest(&mut self, manifest: &Manifest, path: &Path) -> Result<(), SnapshotError> {
        assert!(manifest.files.is_empty(), "the entries are those that were added");
        let text = serde_json::to_string(manifest).expect("plain data");
        let head = text.strip_suffix("]}").expect("the list of files stands last, and is empty");
        let write = || {
            self.file.flush()?;
            let mut output = BufWriter::new(File::create(path)?);
            output.write_all(head.as_bytes())?;
            io::copy(&mut File::open(&self.path)?, &mut output)?;
            output.write_all(b"\n]}\n")?;
            output.flush()
        };
        let mut write = write;
        write().map_err(SnapshotError::disk(path))
    }
}
