//! The last gzip member: `manifest.sha256` and the end of the archive.
//!
//! It is not compressed and follows from what is before it alone, so a reader makes it again and compares
//! bytes. That finds what neither a checksum of gzip nor the manifest covers, such as bits that no decoder reads.

use super::fault::ArchiveFault;
use super::manifest::FileDigest;

/// Bytes of the last member: its two frames, one header, one block of text, two blocks of zeros.
pub const SEAL_BYTES: usize = GZIP_HEAD.len() + 5 + TAR_BYTES + 8;

const TAR_BYTES: usize = 4 * 512;
/// Deflate, no name, no time, no level, no system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
const NAME: &[u8] = b"maestro/manifest.sha256";
/// Where the text begins in the member.
const TEXT_AT: usize = GZIP_HEAD.len() + 5 + 512;
const MANIFEST_LINE_END: &str = "  maestro/manifest.json\n";

/// What the last member says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Of `manifest.json`.
    pub manifest: FileDigest,
    /// Of every byte of the archive's file before the last member.
    pub before: FileDigest,
    /// How many these are.
    pub before_bytes: u64,
}

/// A last member as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealReading {
    /// It is whole.
    Whole(Seal),
    /// It is not one.
    Broken,
}

impl Seal {
    /// The file's text: `sha256sum -c` checks the first line and passes over the second.
    pub fn text(&self) -> String {
        let manifest = self.manifest;
        format!("{manifest}{MANIFEST_LINE_END}# {} {:020}\n", self.before, self.before_bytes)
    }

    /// The whole member, to be written behind everything else. Its length is `SEAL_BYTES`.
    pub fn member(&self) -> Vec<u8> {
        let text = self.text();
        let mut tar = vec![0; TAR_BYTES];
        tar[..512].copy_from_slice(&header(text.len()));
        tar[512..512 + text.len()].copy_from_slice(text.as_bytes());
        let length = TAR_BYTES as u16;
        let mut member = Vec::with_capacity(SEAL_BYTES);
        member.extend_from_slice(&GZIP_HEAD);
        // One block, the last, as it is.
        member.push(1);
        member.extend_from_slice(&length.to_le_bytes());
        member.extend_from_slice(&(!length).to_le_bytes());
        member.extend_from_slice(&tar);
        member.extend_from_slice(&crc32fast::hash(&tar).to_le_bytes());
        member.extend_from_slice(&u32::from(length).to_le_bytes());
        member
    }

    /// Reads a last member.
    pub fn read(member: &[u8]) -> SealReading {
        match Seal::parse(member) {
            Some(seal) if seal.member() == member => SealReading::Whole(seal),
            _ => SealReading::Broken,
        }
    }

    fn parse(member: &[u8]) -> Option<Seal> {
        let text = std::str::from_utf8(member.get(TEXT_AT..TEXT_AT + 512)?).ok()?;
        let (first, rest) = text.split_once(MANIFEST_LINE_END)?;
        let (digest, rest) = rest.strip_prefix("# ")?.split_once(' ')?;
        let (bytes, _) = rest.split_once('\n')?;
        Some(Seal {
            manifest: first.to_owned().try_into().ok()?,
            before: digest.to_owned().try_into().ok()?,
            before_bytes: bytes.parse().ok()?,
        })
    }

    /// Compares what was found with what the archive is.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn check(&self, before: FileDigest, before_bytes: u64) -> Result<(), ArchiveFault> {
        let what = if self.before_bytes != before_bytes {
            format!("it has {before_bytes} bytes before its end, and had {}", self.before_bytes)
        } else if self.before != before {
            "its bytes are not those that were written".to_owned()
        } else {
            return Ok(());
        };
        Err(ArchiveFault::Damaged { what })
    }
}

/// The header of the one entry, as POSIX has it.
fn header(size: usize) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, NAME);
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        Seal { manifest: FileDigest([7; 32]), before: FileDigest([9; 32]), before_bytes: 123_456 }
    }

    #[test]
    fn a_seal_is_read_as_it_was_written_and_any_changed_byte_breaks_it() {
        let member = seal().member();
        assert_eq!(member.len(), SEAL_BYTES);
        assert_eq!(Seal::read(&member), SealReading::Whole(seal()));
        for at in 0..member.len() {
            let mut changed = member.clone();
            changed[at] ^= 1;
            let reading = Seal::read(&changed);
            assert_ne!(reading, SealReading::Whole(seal()), "byte {at}");
        }
    }

    #[test]
    fn an_archive_that_was_changed_contradicts_its_seal() {
        assert_eq!(seal().check(FileDigest([9; 32]), 123_456), Ok(()));
        assert!(seal().check(FileDigest([9; 32]), 123_455).is_err());
        assert!(seal().check(FileDigest([8; 32]), 123_456).is_err());
    }
}
