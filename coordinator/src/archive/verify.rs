//! Whether an archive is whole, and is what its manifest says: every byte of it.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use maestro_model::snapshot::{
    AGENTS_FILE_VERSION, AgentsFile, ArchiveFault, ArchivedFile, ArchivedKind, ArchivedWorkspace, EntryPath,
    EntryPlace, FileDigest, Manifest, RedisIndex, SnapshotPart, TreeDigest, WorkspaceKey, WorkspaceRole,
};
use sha2::{Digest, Sha256};

use super::error::ArchiveReadError;
use super::links::leads_out;
use super::redis_values::{DumpReader, check_keys};
use super::walk::{Onward, ReadProgress, WalkEnd, WalkedEntry, WalkedWorkspace, walk};

/// Bytes of `agents.yaml` that are read.
const AGENTS_BYTES_MAX: u64 = 32 << 20;
/// Links that lead out of their workspace and are named; the others are counted.
const LINKS_NAMED_MAX: usize = 20;

/// An archive in which every byte is as it was written; of one from `read_outline` the bytes of workspaces were not
/// read.
#[derive(Debug, Clone)]
pub struct VerifiedArchive {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Of `manifest.json`: two archives with the same are the same.
    pub digest: FileDigest,
    /// Its keys.
    pub index: RedisIndex,
    /// Its agent types and assignments.
    pub agents: AgentsFile,
    /// Its workspaces, as in the manifest.
    pub workspaces: Vec<VerifiedWorkspace>,
    /// How many symbolic links lead out of their workspace, and the first of them.
    pub links_out: (u64, Vec<String>),
}

/// What is known of a workspace beyond the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedWorkspace {
    /// Which.
    pub key: WorkspaceKey,
    /// What whoever unpacks it has to come to.
    pub tree: FileDigest,
}

/// Reads an archive to its end and compares everything. Blocks; memory grows with the number of entries, by about
/// 200 bytes each, and not with their size.
///
/// # Errors
/// See [`ArchiveReadError`].
pub fn verify_archive(
    path: &Path,
    on_progress: &mut dyn FnMut(ReadProgress),
) -> Result<VerifiedArchive, ArchiveReadError> {
    let mut parts = Parts::default();
    let mut found = Found::default();
    let mut on_entry = |entry: WalkedEntry| found.add(entry).map(|()| Onward::Go);
    let mut on_content = |part, name: &EntryPath, content: &mut dyn Read| parts.read(part, name, content);
    let end = walk(path, &mut on_content, &mut on_entry, on_progress)?;
    let end = end.expect("a walk that always goes on comes to the end");
    let (manifest, index, agents) = parts.all()?;
    manifest.check_format()?;
    if end.seal.manifest != end.manifest_digest {
        return Err(
            ArchiveFault::Damaged { what: "its manifest is not the one that was sealed".to_owned() }.into()
        );
    }
    found.close_tree();
    compare_files(&manifest, &found.marks)?;
    compare_workspaces(&manifest, &end.workspaces)?;
    compare_counts(&manifest, &index)?;
    check_keys(&manifest, &index)?;
    let WalkEnd { manifest_digest: digest, archive_bytes: bytes, .. } = end;
    let workspaces = found.trees;
    let links_out = (found.links_out, found.links_named);
    Ok(VerifiedArchive {
        path: path.to_owned(),
        bytes,
        manifest,
        digest,
        index,
        agents,
        workspaces,
        links_out,
    })
}

/// The parts that are read whole.
#[derive(Default)]
pub(super) struct Parts {
    manifest: Option<Manifest>,
    index: Option<RedisIndex>,
    agents: Option<AgentsFile>,
    dump: bool,
}

impl Parts {
    pub(super) fn read(
        &mut self,
        part: SnapshotPart,
        name: &EntryPath,
        content: &mut dyn Read,
    ) -> Result<(), ArchiveReadError> {
        let unreadable =
            |error: &dyn std::fmt::Display| ArchiveFault::entry(name, format!("cannot be read: {error}"));
        match part {
            SnapshotPart::Agents => {
                let mut text = String::new();
                let read = content.take(AGENTS_BYTES_MAX).read_to_string(&mut text);
                read.map_err(|error| unreadable(&error))?;
                let agents: AgentsFile = serde_saphyr::from_str(&text).map_err(|error| unreadable(&error))?;
                if agents.v > AGENTS_FILE_VERSION {
                    let (found, known) = (agents.v, AGENTS_FILE_VERSION);
                    return Err(ArchiveFault::Newer { of: "the list of agents", found, known }.into());
                }
                self.agents = Some(agents);
            }
            SnapshotPart::Index => {
                let index = serde_json::from_reader(BufReader::new(content));
                self.index = Some(index.map_err(|error| unreadable(&error))?);
            }
            SnapshotPart::Dump => {
                let index = self.index.as_ref().ok_or_else(|| missing("maestro/redis/index.json"))?;
                DumpReader::new(content, index).read(&mut |_| Ok(()))?;
                self.dump = true;
            }
            SnapshotPart::Manifest => {
                let manifest = serde_json::from_reader(BufReader::new(content));
                self.manifest = Some(manifest.map_err(|error| unreadable(&error))?);
            }
            SnapshotPart::Containers => {
                let container: Result<serde_json::Value, _> =
                    serde_json::from_reader(BufReader::new(content));
                container.map_err(|error| unreadable(&error))?;
            }
            SnapshotPart::Workspaces | SnapshotPart::Seal => {}
        }
        Ok(())
    }

    fn all(mut self) -> Result<(Manifest, RedisIndex, AgentsFile), ArchiveFault> {
        let manifest = self.manifest.take().ok_or_else(|| missing("maestro/manifest.json"))?;
        let (index, agents) = self.front()?;
        Ok((manifest, index, agents))
    }

    /// Those before the workspaces.
    pub(super) fn front(self) -> Result<(RedisIndex, AgentsFile), ArchiveFault> {
        let index = self.index.ok_or_else(|| missing("maestro/redis/index.json"))?;
        let agents = self.agents.ok_or_else(|| missing("maestro/agents.yaml"))?;
        if self.dump { Ok((index, agents)) } else { Err(missing("maestro/redis/dump.rdb")) }
    }
}

fn missing(what: &str) -> ArchiveFault {
    ArchiveFault::Missing { what: what.to_owned() }
}

/// A name and all that belongs to it, shortened: both lists of all entries would fill the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryMark {
    name: [u8; 8],
    whole: [u8; 16],
}

impl EntryMark {
    fn of(file: &ArchivedFile) -> EntryMark {
        let (mut name, mut whole) = ([0; 8], [0; 16]);
        name.copy_from_slice(&Sha256::digest(file.path.as_bytes())[..8]);
        whole.copy_from_slice(&Sha256::digest(serde_json::to_vec(file).expect("plain data"))[..16]);
        EntryMark { name, whole }
    }
}

/// What the walk has shown.
#[derive(Default)]
pub(super) struct Found {
    pub(super) marks: Vec<EntryMark>,
    tree: Option<(WorkspaceKey, TreeDigest)>,
    pub(super) trees: Vec<VerifiedWorkspace>,
    pub(super) links_out: u64,
    pub(super) links_named: Vec<String>,
}

impl Found {
    pub(super) fn add(&mut self, entry: WalkedEntry) -> Result<(), ArchiveReadError> {
        if entry.place == EntryPlace::File(SnapshotPart::Manifest) {
            return Ok(());
        }
        self.marks.push(EntryMark::of(&entry.file));
        let EntryPlace::Workspace { key, below } = entry.place else { return Ok(()) };
        if self.tree.as_ref().is_none_or(|(open, _)| *open != key) {
            self.close_tree();
            self.tree = Some((key.clone(), TreeDigest::default()));
        }
        if let Some((_, tree)) = &mut self.tree {
            tree.add(&entry.file);
        }
        if let ArchivedKind::Symlink { target } = &entry.file.kind
            && leads_out(&key, &below, target.as_bytes())
        {
            self.links_out += 1;
            if self.links_named.len() < LINKS_NAMED_MAX {
                self.links_named.push(format!("{} -> {target}", entry.file.path));
            }
        }
        Ok(())
    }

    pub(super) fn close_tree(&mut self) {
        if let Some((key, tree)) = self.tree.take() {
            self.trees.push(VerifiedWorkspace { key, tree: tree.finish() });
        }
    }
}

pub(super) fn contradiction(what: String) -> ArchiveFault {
    ArchiveFault::Contradiction { what }
}

/// As many entries as were found.
pub(super) fn compare_beginning(manifest: &Manifest, found: &[EntryMark]) -> Result<(), ArchiveFault> {
    for (listed, found) in manifest.files.iter().zip(found) {
        let mark = EntryMark::of(listed);
        let path = &listed.path;
        if mark.name != found.name {
            return Err(contradiction(format!("the manifest has `{path}` where another entry stands")));
        }
        if mark != *found {
            return Err(contradiction(format!("`{path}` is not what the manifest says it is")));
        }
    }
    Ok(())
}

fn compare_files(manifest: &Manifest, found: &[EntryMark]) -> Result<(), ArchiveFault> {
    compare_beginning(manifest, found)?;
    let (listed, found) = (manifest.files.len(), found.len());
    if listed == found {
        return Ok(());
    }
    Err(contradiction(format!("the manifest lists {listed} entries, and there are {found}")))
}

fn compare_workspaces(manifest: &Manifest, found: &[WalkedWorkspace]) -> Result<(), ArchiveFault> {
    let (listed, there) = (manifest.workspaces.len(), found.len());
    if listed != there {
        return Err(contradiction(format!("the manifest lists {listed} workspaces, and there are {there}")));
    }
    for (listed, found) in manifest.workspaces.iter().zip(found) {
        let key = &listed.key;
        if *key != found.key {
            return Err(contradiction(format!("the manifest has workspace `{key}` where another stands")));
        }
        if (listed.entries, listed.bytes) != (found.entries, found.bytes) {
            return Err(contradiction(format!("workspace `{key}` is not as large as the manifest says")));
        }
        if listed.members != found.members || !found.is_apart {
            return Err(contradiction(format!("workspace `{key}` does not lie where the manifest says")));
        }
        check_role(listed)?;
    }
    Ok(())
}

/// Whether a workspace could go back to where it came from.
pub(super) fn check_role(listed: &ArchivedWorkspace) -> Result<(), ArchiveFault> {
    let key = &listed.key;
    let fits = match &listed.role {
        WorkspaceRole::Task => !key.is_assigned() && !key.is_run(),
        WorkspaceRole::Run => key.is_run(),
        WorkspaceRole::Assigned { path } => key.is_assigned() && is_plain_absolute(path),
    };
    if fits {
        return Ok(());
    }
    Err(contradiction(format!("workspace `{key}` has no place where it could go back to")))
}

/// Absolute, and without a part that leads up.
fn is_plain_absolute(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.next() == Some("") && path.len() > 1 && !path.contains('\0') && parts.all(|part| part != "..")
}

pub(super) fn compare_counts(manifest: &Manifest, index: &RedisIndex) -> Result<(), ArchiveFault> {
    let counts = manifest.counts;
    let found = [
        ("keys", counts.keys, index.keys.len() as u64),
        ("workspaces", counts.workspaces, manifest.workspaces.len() as u64),
        ("entries", counts.entries, manifest.files.len() as u64),
    ];
    match found.iter().find(|(_, said, found)| said != found) {
        Some((what, said, found)) => {
            Err(contradiction(format!("the manifest counts {said} {what}, and there are {found}")))
        }
        None => Ok(()),
    }
}
