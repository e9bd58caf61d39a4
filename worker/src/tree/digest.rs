//! The digest of a file as it reads, holes included.

use sha2::digest::Output;
use sha2::{Digest, Sha256};

/// Zeros that are digested at one time.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Digests what is read of a file; what is passed over is zeros.
pub(super) struct FileDigester {
    hasher: Sha256,
    size: u64,
    at: u64,
}

impl FileDigester {
    pub(super) fn new(size: u64) -> FileDigester {
        FileDigester { hasher: Sha256::new(), size, at: 0 }
    }

    /// Bytes at a place that is not before any earlier one.
    pub(super) fn update(&mut self, from: u64, bytes: &[u8]) {
        self.pass_over(from);
        self.hasher.update(bytes);
        self.at = from + bytes.len() as u64;
    }

    pub(super) fn finish(mut self) -> [u8; 32] {
        self.pass_over(self.size);
        let digest: Output<Sha256> = self.hasher.finalize();
        digest.into()
    }

    fn pass_over(&mut self, to: u64) {
        while self.at < to {
            let length = (to - self.at).min(ZEROS.len() as u64);
            self.hasher.update(&ZEROS[..length as usize]);
            self.at += length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_count_as_zeros() {
        let mut digester = FileDigester::new(200_000);
        digester.update(70_000, b"data");
        let mut bytes = vec![0; 200_000];
        bytes[70_000..70_004].copy_from_slice(b"data");
        let whole: [u8; 32] = Sha256::digest(&bytes).into();
        assert_eq!(digester.finish(), whole);
    }
}
