//! One number for a workspace: what an archive has of it, and what was made of that on a disk, are the same.

use sha2::{Digest, Sha256};

use super::manifest::{ArchivedFile, FileDigest};

/// Adds up the entries of a workspace in the order of the archive: names, modes, kinds, sizes, contents, links.
#[derive(Debug, Clone, Default)]
pub struct TreeDigest(Sha256);

impl TreeDigest {
    /// Adds one.
    pub fn add(&mut self, entry: &ArchivedFile) {
        self.0.update(serde_json::to_vec(entry).expect("plain data"));
        self.0.update(b"\n");
    }

    /// The number.
    pub fn finish(self) -> FileDigest {
        FileDigest(self.0.finalize().into())
    }
}
