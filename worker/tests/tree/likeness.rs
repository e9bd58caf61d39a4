//! What a tree looks like, entry by entry: two trees are alike if their pictures are equal.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Everything about an entry that is to survive, in words.
pub(crate) fn picture(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut entries = BTreeMap::new();
    let mut names_of = BTreeMap::new();
    look(root, root, &mut entries, &mut names_of);
    for names in names_of.values().filter(|names: &&Vec<Vec<u8>>| names.len() > 1) {
        for name in names {
            let entry = entries.get_mut(name).expect("it was seen");
            entry.push_str(&format!(" also {}", String::from_utf8_lossy(&names.join(&b' '))));
        }
    }
    entries
}

fn look(
    root: &Path,
    folder: &Path,
    entries: &mut BTreeMap<Vec<u8>, String>,
    names_of: &mut BTreeMap<u64, Vec<Vec<u8>>>,
) {
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    for path in paths {
        let stat = fs::symlink_metadata(&path).expect("there");
        let name = path.strip_prefix(root).expect("below").as_os_str().as_bytes().to_vec();
        let time = format!("{}.{:09}", stat.mtime(), stat.mtime_nsec());
        let mode = stat.mode() & 0o7777;
        let what = if stat.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            format!("link {time} -> {}", String::from_utf8_lossy(target.as_os_str().as_bytes()))
        } else if stat.is_dir() {
            look(root, &path, entries, names_of);
            format!("folder {mode:o} {time}")
        } else {
            names_of.entry(stat.ino()).or_default().push(name.clone());
            let mut file = fs::File::open(&path).expect("readable");
            let mut digest = Sha256::new();
            std::io::copy(&mut file, &mut HashWriter(&mut digest)).expect("readable");
            format!("file {mode:o} {time} {} {:?}", stat.len(), digest.finalize())
        };
        entries.insert(name, what);
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
