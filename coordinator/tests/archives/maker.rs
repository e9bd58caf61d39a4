//! An archive made by hand from the types of the format: good unless told otherwise. Not the writer of snapshots.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use maestro_model::snapshot::{
    AgentsFile, ArchivedFile, ArchivedKind, ArchivedWorker, ArchivedWorkspace, EntryPath, FileDigest,
    KeyEntry, KeyType, MANIFEST_FORMAT, Manifest, MemberRange, RdbChecksum, RedisIndex, Seal, SnapshotCounts,
    WorkerCoverage, WorkspaceKey, WorkspaceRole,
};
use sha2::{Digest, Sha256};

/// An entry as it stands in a tar.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    pub(crate) link: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// Words in an entry of its own before it.
    pub(crate) words: Vec<(&'static str, Vec<u8>)>,
    /// What the header says of its size, if not the truth.
    pub(crate) said: Option<u64>,
}

impl Raw {
    pub(crate) fn file(name: &str, data: &[u8]) -> Raw {
        let (name, data) = (name.into(), data.to_vec());
        Raw { name, kind: b'0', mode: 0o644, link: Vec::new(), data, words: Vec::new(), said: None }
    }

    pub(crate) fn folder(name: &str) -> Raw {
        Raw { kind: b'5', mode: 0o755, ..Raw::file(&format!("{name}/"), b"") }
    }

    pub(crate) fn link(name: &str, target: &str) -> Raw {
        Raw { kind: b'2', mode: 0o777, link: target.into(), ..Raw::file(name, b"") }
    }

    pub(crate) fn hard_link(name: &str, target: &str) -> Raw {
        Raw { kind: b'1', link: target.into(), ..Raw::file(name, b"") }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.words.is_empty() {
            let mut words = Vec::new();
            for (word, value) in &self.words {
                // The length counts itself; two digits are enough for these.
                let length = word.len() + value.len() + 5;
                words.extend_from_slice(format!("{length} {word}=").as_bytes());
                words.extend_from_slice(value);
                words.push(b'\n');
            }
            out.extend(Raw { kind: b'x', ..Raw::file("words", &words) }.bytes());
        }
        if self.name.len() > 100 {
            let mut name = self.name.clone();
            name.push(0);
            out.extend(Raw { kind: b'L', ..Raw::file("././@LongLink", &name) }.bytes());
        }
        let mut header = [0; 512];
        let short = &self.name[..self.name.len().min(100)];
        header[..short.len()].copy_from_slice(short);
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, b"0000000\x000000000\0");
        put(124, format!("{:011o}\0", self.said.unwrap_or(self.data.len() as u64)).as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar  \0");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&self.data);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }

    /// What the manifest says of it, if anything can be said.
    fn archived(&self) -> Option<ArchivedFile> {
        let name = self.name.strip_suffix(b"/").filter(|_| self.kind == b'5').unwrap_or(&self.name);
        let kind = match self.kind {
            b'5' => ArchivedKind::Folder,
            b'2' => ArchivedKind::symlink(&self.link),
            b'1' => ArchivedKind::HardLink { target: EntryPath::new(&self.link).ok()? },
            _ => ArchivedKind::File { size: self.data.len() as u64, sha256: digest(&self.data) },
        };
        Some(ArchivedFile { path: EntryPath::new(name).ok()?, mode: self.mode & 0o777, kind })
    }
}

pub(crate) fn digest(bytes: &[u8]) -> FileDigest {
    FileDigest(Sha256::digest(bytes).into())
}

/// A key with its value as RDB writes it.
#[derive(Debug, Clone)]
pub(crate) struct MadeKey {
    pub(crate) key: String,
    pub(crate) key_type: KeyType,
    pub(crate) encoding: u8,
    pub(crate) value: Vec<u8>,
}

/// A workspace with its entries, the folder itself first.
#[derive(Debug, Clone)]
pub(crate) struct MadeWorkspace {
    pub(crate) key: WorkspaceKey,
    pub(crate) role: WorkspaceRole,
    pub(crate) entries: Vec<Raw>,
}

/// What goes into an archive; every part may be spoilt before it is written.
pub(crate) struct Maker {
    pub(crate) before: Vec<Raw>,
    pub(crate) keys: Vec<MadeKey>,
    pub(crate) workspaces: Vec<MadeWorkspace>,
    pub(crate) after: Vec<Raw>,
    pub(crate) on_index: fn(&mut RedisIndex),
    pub(crate) on_dump: fn(&mut Vec<u8>),
    pub(crate) on_manifest: fn(&mut Manifest),
    /// Whether the manifest is sealed as it is.
    pub(crate) on_seal: fn(&mut Seal),
}

pub(crate) const RUN: &str = "0k3v9x2mqf1a";
pub(crate) const FOLDER: &str = "maestro/workspaces/w1/shell/0k3v9x2mqf1a.0";

impl Maker {
    /// A small good archive: three keys, two workspaces with all kinds of entries.
    pub(crate) fn good() -> Maker {
        let worker = "w1".parse().expect("lawful");
        let task = MadeWorkspace {
            key: WorkspaceKey::of_task(&worker, "shell", &format!("{RUN}.0")).expect("lawful"),
            role: WorkspaceRole::Task,
            entries: vec![
                Raw::folder(FOLDER),
                Raw::file(&format!("{FOLDER}/a"), b"hello"),
                Raw::hard_link(&format!("{FOLDER}/b"), &format!("{FOLDER}/a")),
                Raw::link(&format!("{FOLDER}/link"), "a"),
                Raw::folder(&format!("{FOLDER}/sub")),
                Raw::file(&format!("{FOLDER}/sub/{}", "n".repeat(255)), &[7; 3000]),
                Raw { name: [FOLDER.as_bytes(), b"/\xff\xfe"].concat(), ..Raw::file("", b"") },
            ],
        };
        let assigned = MadeWorkspace {
            key: WorkspaceKey::of_agent(&worker, &"smith".parse().expect("lawful")),
            role: WorkspaceRole::Assigned { path: "/srv/smith".to_owned() },
            entries: vec![
                Raw::folder("maestro/workspaces/w1/smith/assigned"),
                Raw::file("maestro/workspaces/w1/smith/assigned/notes", b"n"),
            ],
        };
        Maker {
            before: Vec::new(),
            keys: vec![
                made("maestro:ctl", KeyType::Hash, 4, b"1"),
                made("maestro:{1.0}:ctl", KeyType::Hash, 4, b"2"),
                made("maestro:{1.0}:dispatch:once", KeyType::String, 0, b"three"),
            ],
            workspaces: vec![task, assigned],
            after: Vec::new(),
            on_index: |_| {},
            on_dump: |_| {},
            on_manifest: |_| {},
            on_seal: |_| {},
        }
    }

    /// A good one with `entries` behind those of its first workspace.
    pub(crate) fn with(entries: impl IntoIterator<Item = Raw>) -> Maker {
        let mut maker = Maker::good();
        maker.workspaces[0].entries.extend(entries);
        maker
    }

    /// The whole archive.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        let (index, dump) = self.redis();
        let agents = b"v: 1\ntypes: []\nassignments: []\n";
        let _: AgentsFile =
            serde_saphyr::from_str(std::str::from_utf8(agents).expect("text")).expect("lawful");
        let mut head = self.before.clone();
        head.push(Raw::file("maestro/agents.yaml", agents));
        head.push(Raw::file("maestro/redis/index.json", &serde_json::to_vec(&index).expect("plain data")));
        head.push(Raw::file("maestro/redis/dump.rdb", &dump));
        append(&mut archive, &head);
        let mut files: Vec<ArchivedFile> = head.iter().filter_map(Raw::archived).collect();
        let mut workspaces = Vec::new();
        for made in &self.workspaces {
            let offset = archive.len() as u64;
            // Two members for each: an archive is a row of them.
            let (first, second) = made.entries.split_at(made.entries.len() / 2);
            append(&mut archive, first);
            append(&mut archive, second);
            let archived: Vec<ArchivedFile> = made.entries.iter().filter_map(Raw::archived).collect();
            let size = |file: &ArchivedFile| match file.kind {
                ArchivedKind::File { size, .. } => size,
                _ => 0,
            };
            workspaces.push(ArchivedWorkspace {
                key: made.key.clone(),
                role: made.role.clone(),
                entries: archived.len() as u64,
                bytes: archived.iter().map(size).sum(),
                members: MemberRange { offset, length: archive.len() as u64 - offset },
                notes: Vec::new(),
            });
            files.extend(archived);
        }
        let mut manifest = manifest(index.keys.len() as u64, workspaces, files);
        (self.on_manifest)(&mut manifest);
        let text = serde_json::to_vec(&manifest).expect("plain data");
        let mut tail = vec![Raw::file("maestro/manifest.json", &text)];
        tail.extend(self.after.iter().cloned());
        append(&mut archive, &tail);
        let (before, before_bytes) = (digest(&archive), archive.len() as u64);
        let mut seal = Seal { manifest: digest(&text), before, before_bytes };
        (self.on_seal)(&mut seal);
        archive.extend(seal.member());
        archive
    }

    /// Writes it into a folder.
    pub(crate) fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("made.tar.gz");
        std::fs::write(&path, self.bytes()).expect("our folder");
        path
    }

    fn redis(&self) -> (RedisIndex, Vec<u8>) {
        let mut dump = b"REDIS0010\xfe\x00".to_vec();
        let mut keys = Vec::new();
        for made in &self.keys {
            dump.push(made.encoding);
            dump.push(u8::try_from(made.key.len()).expect("short keys"));
            dump.extend_from_slice(made.key.as_bytes());
            keys.push(KeyEntry {
                key: made.key.clone(),
                key_type: made.key_type,
                ttl_ms: None,
                encoding: made.encoding,
                offset: dump.len() as u64,
                length: made.value.len() as u64,
            });
            dump.extend_from_slice(&made.value);
        }
        dump.push(0xff);
        let mut sum = RdbChecksum::default();
        sum.add(&dump);
        dump.extend_from_slice(&sum.value().to_le_bytes());
        let mut index = RedisIndex { v: 1, rdb_version: 10, keys };
        (self.on_index)(&mut index);
        (self.on_dump)(&mut dump);
        (index, dump)
    }
}

pub(crate) fn made(key: &str, key_type: KeyType, encoding: u8, value: &[u8]) -> MadeKey {
    MadeKey { key: key.to_owned(), key_type, encoding, value: value.to_vec() }
}

fn append(archive: &mut Vec<u8>, entries: &[Raw]) {
    let mut member = GzEncoder::new(Vec::new(), Compression::fast());
    for entry in entries {
        member.write_all(&entry.bytes()).expect("written to memory");
    }
    archive.extend(member.finish().expect("written to memory"));
}

fn manifest(keys: u64, workspaces: Vec<ArchivedWorkspace>, files: Vec<ArchivedFile>) -> Manifest {
    Manifest {
        format: MANIFEST_FORMAT,
        maestro_version: "1.2.0".to_owned(),
        redis_version: "7.0.15".to_owned(),
        cluster: "c".to_owned(),
        namespace: "maestro".to_owned(),
        generation: 1,
        epoch: 1,
        schema: "1".to_owned(),
        taken_at_ms: 1,
        label: None,
        partial: false,
        include_logs: false,
        failed_agents: Vec::new(),
        counts: SnapshotCounts {
            keys,
            workspaces: workspaces.len() as u64,
            entries: files.len() as u64,
            ..SnapshotCounts::default()
        },
        workers: vec![ArchivedWorker {
            name: "w1".parse().expect("lawful"),
            host: "h".to_owned(),
            coverage: WorkerCoverage::Packed,
        }],
        workspaces,
        files,
    }
}
