//! The keys of the cluster as `dump.rdb` and `index.json`, in files beside the archive.
//!
//! Neither is ever whole in memory: their sizes must stand in the archive before them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use maestro_model::snapshot::{INDEX_VERSION, KeyEntry};
use maestro_store::Store;
use maestro_store::key_dump::LogChoice;

use super::error::SnapshotError;
use super::rdb::{RdbFailure, RdbWriter};

/// What was read.
#[derive(Debug)]
pub(super) struct SpooledKeys {
    /// `dump.rdb`.
    pub(super) dump: PathBuf,
    /// `index.json`.
    pub(super) index: PathBuf,
    /// Keys in all, of runs, and of shared state.
    pub(super) count: KeyCount,
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct KeyCount {
    pub(super) keys: u64,
    pub(super) runs: u64,
    pub(super) state: u64,
}

/// Reads all keys; the cluster must stand still.
pub(super) async fn spool_keys(
    store: &Store,
    logs: LogChoice,
    now_ms: u64,
    folder: &Path,
    on_keys: impl Fn(u64),
) -> Result<SpooledKeys, SnapshotError> {
    let (dump, entries, index) =
        (folder.join("dump.rdb"), folder.join("index.part"), folder.join("index.json"));
    let version = store.server_version().await?;
    let mut rdb = RdbWriter::new(create(&dump)?, version, now_ms);
    let mut list = create(&entries)?;
    let mut count = KeyCount::default();
    let mut walk = store.dump_keys(logs);
    while let Some(portion) = walk.next().await? {
        for dumped in portion {
            let entry = match rdb.add(&dumped) {
                Ok(entry) => entry,
                Err(RdbFailure::Disk(source)) => return Err(SnapshotError::disk(&dump)(source)),
                Err(RdbFailure::Key(error)) => return Err(error),
            };
            count.add(&entry, store.keys().prefix());
            let separator = if count.keys == 1 { "\n" } else { ",\n" };
            let line = serde_json::to_string(&entry).expect("plain data");
            list.write_all(separator.as_bytes())
                .and_then(|()| list.write_all(line.as_bytes()))
                .map_err(SnapshotError::disk(&entries))?;
        }
        on_keys(count.keys);
    }
    let (mut output, rdb_version) = rdb.finish().map_err(SnapshotError::disk(&dump))?;
    output.flush().map_err(SnapshotError::disk(&dump))?;
    list.flush().map_err(SnapshotError::disk(&entries))?;
    write_index(&entries, &index, rdb_version).map_err(SnapshotError::disk(&index))?;
    Ok(SpooledKeys { dump, index, count })
}

impl KeyCount {
    fn add(&mut self, entry: &KeyEntry, prefix: &str) {
        self.keys += 1;
        let Some(name) = entry.key.strip_prefix(prefix) else { return };
        if name.strip_prefix("r:").is_some_and(|run| !run.contains(':')) {
            self.runs += 1;
        } else if name.starts_with("state:") {
            self.state += 1;
        }
    }
}

fn create(path: &Path) -> Result<BufWriter<File>, SnapshotError> {
    File::create(path).map(BufWriter::new).map_err(SnapshotError::disk(path))
}

/// The version stands before the entries, and is known after them.
fn write_index(entries: &Path, index: &Path, rdb_version: u16) -> std::io::Result<()> {
    let mut output = BufWriter::new(File::create(index)?);
    write!(output, "{{\"v\":{INDEX_VERSION},\"rdb_version\":{rdb_version},\"keys\":[")?;
    std::io::copy(&mut File::open(entries)?, &mut output)?;
    output.write_all(b"\n]}\n")?;
    output.flush()?;
    std::fs::remove_file(entries)
}
