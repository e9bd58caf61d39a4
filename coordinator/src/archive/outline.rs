//! An archive known by its seal, its manifest and its keys, without its workspaces being read: for a rollback in a
//! hurry.
//!
//! What is read is compared with the manifest, and that with the seal. Workspaces are compared with the manifest by
//! the workers that unpack them, before anything is replaced.

use std::io::{BufReader, Read};
use std::path::Path;

use maestro_model::snapshot::{
    ArchiveFault, EntryPath, EntryPlace, FileDigest, MANIFEST_BYTES_MAX, Manifest, SnapshotPart,
};
use sha2::{Digest, Sha256};

use super::error::ArchiveReadError;
use super::redis_values::check_keys;
use super::tail::{find_manifest, read_seal};
use super::verify::{
    Found, Parts, VerifiedArchive, check_role, compare_beginning, compare_counts, contradiction,
};
use super::walk::{Onward, WalkedEntry, walk};

/// Reads the front and the end of an archive. Blocks; what it takes grows with the number of entries, and not with
/// their size.
///
/// # Errors
/// See [`ArchiveReadError`]. What lies in workspaces may still be other than the manifest says.
pub fn read_outline(path: &Path) -> Result<VerifiedArchive, ArchiveReadError> {
    let seal = read_seal(path)?;
    let manifest = find_manifest(path, &mut |content| read_manifest(content, seal.manifest));
    let manifest = manifest.ok_or_else(|| ArchiveFault::Damaged {
        what: "the manifest that was sealed is not in it".to_owned(),
    })?;
    manifest.check_format()?;
    let mut parts = Parts::default();
    let mut front = Found::default();
    let mut on_entry = |entry: WalkedEntry| {
        let is_last = entry.place == EntryPlace::File(SnapshotPart::Dump);
        front.add(entry)?;
        Ok(if is_last { Onward::Enough } else { Onward::Go })
    };
    let mut on_content = |part, name: &EntryPath, content: &mut dyn Read| parts.read(part, name, content);
    walk(path, &mut on_content, &mut on_entry, &mut |_| {})?;
    let (index, agents) = parts.front()?;
    compare_beginning(&manifest, &front.marks)?;
    compare_counts(&manifest, &index)?;
    check_keys(&manifest, &index)?;
    check_places(&manifest, seal.before_bytes)?;
    let mut found = Found::default();
    for file in &manifest.files {
        let place = EntryPlace::of(&file.path)?;
        found.add(WalkedEntry { file: file.clone(), place })?;
    }
    found.close_tree();
    if !manifest.workspaces.iter().map(|listed| &listed.key).eq(found.trees.iter().map(|tree| &tree.key)) {
        return Err(contradiction("the manifest lists other workspaces than entries".to_owned()).into());
    }
    let bytes = seal.before_bytes + maestro_model::snapshot::SEAL_BYTES as u64;
    Ok(VerifiedArchive {
        path: path.to_owned(),
        bytes,
        manifest,
        digest: seal.manifest,
        index,
        agents,
        workspaces: found.trees,
        links_out: (found.links_out, found.links_named),
    })
}

/// None unless it is the one that was sealed.
fn read_manifest(content: &mut dyn Read, sealed: FileDigest) -> Option<Manifest> {
    let mut bytes = Vec::new();
    content.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let digest = FileDigest(Sha256::digest(&bytes).into());
    serde_json::from_reader(BufReader::new(&bytes[..])).ok().filter(|_| digest == sealed)
}

/// Workspaces have a place to go to, and lie within the archive one after the other.
fn check_places(manifest: &Manifest, before_bytes: u64) -> Result<(), ArchiveFault> {
    let mut free_from = 0;
    for listed in &manifest.workspaces {
        check_role(listed)?;
        let ends = listed.members.offset.checked_add(listed.members.length);
        let ends = ends.filter(|ends| listed.members.offset >= free_from && *ends <= before_bytes);
        free_from = ends.ok_or_else(|| {
            contradiction(format!("workspace `{}` does not lie where the manifest says", listed.key))
        })?;
    }
    Ok(())
}
