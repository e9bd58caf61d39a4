//! The gzip members of an archive as one stream of bytes, with where each began; the seal at its end apart.
//!
//! All bytes before the seal are digested on their way. How many may be taken before the next entry begins is
//! limited, because the library for entries reads long names into memory whatever their length.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::bufread::GzDecoder;
use maestro_model::snapshot::{ArchiveFault, FileDigest, SEAL_BYTES, Seal, SealReading};
use sha2::{Digest, Sha256};

use super::error::ArchiveReadError;

/// Bytes read from disk at one time.
const BUFFER_BYTES: usize = 256 << 10;

/// The archive's file up to the seal: what the decoder takes is counted and digested.
struct Sealed {
    file: BufReader<io::Take<File>>,
    digest: Sha256,
    taken: u64,
}

impl Read for Sealed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let found = self.fill_buf()?;
        let length = found.len().min(buffer.len());
        buffer[..length].copy_from_slice(&found[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Sealed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.file.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.digest.update(&self.file.buffer()[..amount]);
        self.taken += amount as u64;
        self.file.consume(amount);
    }
}

/// Where the member that is being read began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MemberStart {
    /// In the file.
    pub(super) offset: u64,
    /// In the stream of all members.
    pub(super) at: u64,
}

/// How far the stream has been read; shared with whoever reads entries from it.
#[derive(Debug, Default)]
pub(super) struct StreamPosition {
    /// Bytes of the stream so far.
    pub(super) at: Cell<u64>,
    /// Bytes of the file so far, about.
    pub(super) in_file: Cell<u64>,
    /// The member of the last byte.
    pub(super) member: Cell<MemberStart>,
    /// How many bytes more may be read.
    pub(super) allowance: Cell<u64>,
    /// Set when more were wanted.
    pub(super) overdrawn: Cell<bool>,
}

/// A decoder between members, or in one.
enum Decoding {
    Between(Sealed),
    Within(Box<GzDecoder<Sealed>>),
    Over,
}

/// The stream of all members.
pub(super) struct Members {
    decoding: Decoding,
    position: Rc<StreamPosition>,
}

/// What remains of an archive when all its members have been read.
pub(super) struct MembersEnd {
    file: File,
    before: FileDigest,
    before_bytes: u64,
}

/// The stream as the library for entries takes it: it keeps what it is given.
#[derive(Clone)]
pub(super) struct SharedMembers(Rc<RefCell<Members>>);

impl SharedMembers {
    /// Opens an archive; its length and the position that moves with reading.
    pub(super) fn open(path: &Path) -> Result<(SharedMembers, Rc<StreamPosition>, u64), ArchiveReadError> {
        let failed = |source| ArchiveReadError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let facts = file.metadata().map_err(failed)?;
        if !facts.is_file() {
            return Err(failed(io::Error::other("it is not a regular file")));
        }
        let length = facts.len();
        if length <= SEAL_BYTES as u64 {
            return Err(cut_short().into());
        }
        let file = BufReader::with_capacity(BUFFER_BYTES, file.take(length - SEAL_BYTES as u64));
        let position = Rc::new(StreamPosition::default());
        let members = Members {
            decoding: Decoding::Between(Sealed { file, digest: Sha256::new(), taken: 0 }),
            position: position.clone(),
        };
        Ok((SharedMembers(Rc::new(RefCell::new(members))), position, length))
    }

    /// The end, once there is no byte left.
    pub(super) fn finish(self) -> Result<MembersEnd, ArchiveFault> {
        let mut members = self.0.borrow_mut();
        match std::mem::replace(&mut members.decoding, Decoding::Over) {
            Decoding::Between(sealed) => Ok(MembersEnd {
                before: FileDigest(sealed.digest.finalize().into()),
                before_bytes: sealed.taken,
                file: sealed.file.into_inner().into_inner(),
            }),
            Decoding::Within(_) | Decoding::Over => {
                Err(ArchiveFault::Damaged { what: "something follows its last entry".to_owned() })
            }
        }
    }
}

impl Read for SharedMembers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

impl Members {
    /// The next member, or none at the end of the file.
    fn begin(&mut self, mut sealed: Sealed) -> io::Result<bool> {
        if sealed.fill_buf()?.is_empty() {
            self.decoding = Decoding::Between(sealed);
            return Ok(false);
        }
        self.position.member.set(MemberStart { offset: sealed.taken, at: self.position.at.get() });
        self.decoding = Decoding::Within(Box::new(GzDecoder::new(sealed)));
        Ok(true)
    }
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowance = self.position.allowance.get();
        if allowance == 0 && !buffer.is_empty() {
            self.position.overdrawn.set(true);
            return Err(io::Error::other("more stands in front of an entry than may"));
        }
        let most = usize::try_from(allowance).unwrap_or(usize::MAX).min(buffer.len());
        loop {
            match std::mem::replace(&mut self.decoding, Decoding::Over) {
                Decoding::Between(sealed) => {
                    if !self.begin(sealed)? {
                        return Ok(0);
                    }
                }
                Decoding::Within(mut decoder) => {
                    let read = decoder.read(&mut buffer[..most])?;
                    self.position.in_file.set(decoder.get_ref().taken);
                    if read == 0 && most > 0 {
                        self.decoding = Decoding::Between(decoder.into_inner());
                        continue;
                    }
                    self.decoding = Decoding::Within(decoder);
                    self.position.at.set(self.position.at.get() + read as u64);
                    self.position.allowance.set(allowance - read as u64);
                    return Ok(read);
                }
                Decoding::Over => return Ok(0),
            }
        }
    }
}

impl MembersEnd {
    /// Reads the seal, and checks that it closes exactly this file.
    pub(super) fn check_seal(mut self, path: &Path) -> Result<Seal, ArchiveReadError> {
        let failed = |source| ArchiveReadError::Disk { path: path.to_owned(), source };
        let mut member = Vec::with_capacity(SEAL_BYTES + 1);
        Read::by_ref(&mut self.file).take(SEAL_BYTES as u64 + 1).read_to_end(&mut member).map_err(failed)?;
        let SealReading::Whole(seal) = Seal::read(&member) else { return Err(cut_short().into()) };
        seal.check(self.before, self.before_bytes)?;
        Ok(seal)
    }
}

fn cut_short() -> ArchiveFault {
    ArchiveFault::Damaged { what: "it does not end as a snapshot does; it may be cut short".to_owned() }
}
